//! Runs: what is kept of every call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror::mirror_enum;

mirror_enum! {
    /// How a run ended.
    RunStatus {
        /// The function answered, whatever its answer says.
        Done,
        /// The function failed.
        Failed,
        /// It took longer than its timeout.
        Timeout,
        /// It was refused before it reached an instance.
        Rejected,
        /// The caller went away.
        Cancelled,
    }
}

mirror_enum! {
    /// What caused a call.
    TriggerKind {
        /// A request on the public port.
        Http,
        /// `invoke` through the control API.
        Api,
        /// The clock.
        Schedule,
        /// An event of a topic.
        Topic,
        /// A signed request of an outside service.
        Webhook,
        /// Records of a broker.
        Broker,
        /// A change in a bucket.
        Bucket,
        /// A change in a folder.
        Folder,
        /// The record of another call.
        Destination,
    }
}

mirror_enum! {
    /// How the instance that served a call came to be.
    Tier {
        /// It was there.
        Warm,
        /// It was forked for this call from a process of this version that had its code loaded.
        Zygote,
        /// It was made for this call from a sandbox of its runtime that was prepared ahead.
        Stem,
        /// It was started from nothing for this call.
        Cold,
    }
}

/// One attempt of one call, finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The invocation.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version that ran.
    pub version: u64,
    /// The qualifier that the caller used.
    pub qualifier: String,
    /// What caused the call.
    pub trigger: TriggerKind,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// How it ended.
    pub status: RunStatus,
    /// The HTTP status that was answered, where it was an HTTP call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The error's code, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error's message, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the call arrived.
    pub started_at_ms: i64,
    /// Where the time went.
    pub phases: Phases,
    /// How the instance came to be.
    pub tier: Tier,
    /// The instance, where one was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Bytes of the request body that were read.
    pub request_bytes: u64,
    /// Bytes of the response body that were passed on.
    pub response_bytes: u64,
    /// The call that led to it, where a function made it and it is known which call of that function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Who called, where somebody is known: `key:NAMESPACE/NAME`, `user:NAME`, `jwt:SUBJECT`, `function:NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Why its caller was given a degraded answer, where they were: `limited`, `broken`, `overdue`, `switched`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

/// Where the time of a call went, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Phases {
    /// Waiting for a slot that others held.
    pub queue_us: u64,
    /// Making the sandbox and starting the process.
    pub start_us: u64,
    /// Loading the function's code.
    pub init_us: u64,
    /// Running the handler, to the last byte of the answer.
    pub run_us: u64,
    /// From the arrival to the last byte of the answer.
    pub total_us: u64,
}

impl From<alula_model::Phases> for Phases {
    fn from(phases: alula_model::Phases) -> Self {
        Self {
            queue_us: phases.queue_us,
            start_us: phases.start_us,
            init_us: phases.init_us,
            run_us: phases.run_us,
            total_us: phases.total_us,
        }
    }
}

impl From<&alula_model::Run> for Run {
    fn from(run: &alula_model::Run) -> Self {
        Self {
            id: run.id.to_string(),
            namespace: run.key.namespace.to_string(),
            function: run.key.function.to_string(),
            version: run.key.version,
            qualifier: run.qualifier.clone(),
            trigger: run.trigger.into(),
            attempt: run.attempt,
            status: run.status.into(),
            http_status: run.http_status,
            error: run.error.map(|code| code.to_string()),
            message: run.message.clone(),
            started_at_ms: run.started_at.as_millis(),
            phases: run.phases.into(),
            tier: run.tier.into(),
            instance: run.instance.as_ref().map(ToString::to_string),
            request_bytes: run.request_bytes,
            response_bytes: run.response_bytes,
            parent: run.parent.as_ref().map(ToString::to_string),
            caller: run.caller.as_deref().map(str::to_owned),
            degraded: run.degraded.map(|reason| reason.to_string()),
        }
    }
}

/// Some runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<Run>,
    /// The cursor of the next page, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One invocation with all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    /// The invocation.
    pub id: String,
    /// Its attempts, the first first.
    pub attempts: Vec<Run>,
}

/// How the last calls of a function went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RecentRuns {
    /// How many of the last calls were looked at.
    pub counted: u64,
    /// How many of them did not end with `done`.
    pub failed: u64,
    /// How many of them started an instance.
    pub cold: u64,
    /// The median of their total times, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The 99th percentile of their total times, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// The last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Run>,
}

impl RecentRuns {
    /// Sums up `runs`, which come newest first.
    #[must_use]
    pub fn of(runs: &[alula_model::Run]) -> Self {
        let mut totals: Vec<u64> = runs.iter().map(|run| run.phases.total_us).collect();
        totals.sort_unstable();
        let percentile =
            |percent: usize| totals.get((totals.len() * percent / 100).min(totals.len().saturating_sub(1)));
        let count =
            |matches: fn(&alula_model::Run) -> bool| runs.iter().filter(|run| matches(run)).count() as u64;
        Self {
            counted: runs.len() as u64,
            failed: count(|run| run.status != alula_model::RunStatus::Done),
            cold: count(|run| run.tier.is_start()),
            p50_us: percentile(50).copied(),
            p99_us: percentile(99).copied(),
            last: runs.first().map(Run::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use alula_model as model;

    use super::*;

    fn run(total_us: u64, status: model::RunStatus) -> model::Run {
        model::Run {
            id: model::InvocationId::new("r1").unwrap(),
            key: model::VersionKey {
                namespace: model::Name::default_namespace(),
                function: model::Name::new("hello").unwrap(),
                version: 2,
            },
            qualifier: "latest".into(),
            trigger: model::TriggerKind::Api,
            attempt: 1,
            status,
            http_status: None,
            error: None,
            message: None,
            started_at: model::Timestamp(5),
            phases: model::Phases { total_us, ..model::Phases::default() },
            tier: model::Tier::Cold,
            instance: None,
            request_bytes: 0,
            response_bytes: 0,
            parent: None,
            caller: None,
            degraded: None,
        }
    }

    #[test]
    fn recent_runs_of_nothing_say_nothing() {
        assert_eq!(RecentRuns::of(&[]), RecentRuns::default());
    }

    #[test]
    fn recent_runs_count_failures_and_take_percentiles() {
        let runs: Vec<_> = (1..=100)
            .map(|n| run(n, model::RunStatus::Done))
            .chain([run(900, model::RunStatus::Timeout)])
            .collect();
        let recent = RecentRuns::of(&runs);
        assert_eq!((recent.counted, recent.failed, recent.cold), (101, 1, 101));
        assert_eq!((recent.p50_us, recent.p99_us), (Some(51), Some(100)));
    }

    #[test]
    fn a_run_is_flat_and_leaves_out_what_it_does_not_have() {
        let json = serde_json::to_value(Run::from(&run(7, model::RunStatus::Done))).unwrap();
        assert_eq!(json["function"], "hello");
        assert_eq!(json["started_at_ms"], 5);
        assert_eq!(json["tier"], "cold");
        assert!(json.get("error").is_none());
    }
}
