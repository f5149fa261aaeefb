//! What is watched and who is told: rules of alarms, as owners and operators state them.
//!
//! A rule says which figure of which things must not be above or below what, for how long. How it is evaluated, and the
//! rules that hold without anybody stating them, is the business of who evaluates.

use serde::{Deserialize, Serialize};

use crate::asynchronous::Contact;
use crate::decimal::Decimal;
use crate::limits;
use crate::name::Name;
use crate::spec::SpecError;

/// The table `alarm` of a function.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmSpec {
    /// Who is told; those of `async.notify` where nobody is named here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Contact>,
    /// Built-in rules that do not hold for this function, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<Name>,
    /// Rules for this function only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AlarmRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmRule {
    /// What the alarm is called.
    pub name: Name,
    /// What is looked at.
    pub signal: Signal,
    /// Of what it is looked at, for the signals that several things have.
    #[serde(default)]
    pub per: Scope,
    /// The span that the signals of calls are taken over.
    #[serde(default)]
    pub window: Window,
    /// The alarm begins when the figure is above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Decimal>,
    /// The alarm begins when the figure is below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Decimal>,
    /// The figure at which it is over, on the good side of `above` or `below`; the same where it is not stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Decimal>,
    /// How long it must last before the alarm is raised, in milliseconds.
    #[serde(default = "for_ms")]
    pub for_ms: u64,
    /// How long it must be over before the alarm is resolved, in milliseconds.
    #[serde(default = "for_ms")]
    pub clear_for_ms: u64,
    /// Calls within the window without which the signals of calls say nothing.
    #[serde(default = "min_calls")]
    pub min_calls: u64,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// Who is told.
    #[serde(default)]
    pub to: Audience,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Only this function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Name>,
    /// What to do about it, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// A minute: what passes by itself is nobody's business.
fn for_ms() -> u64 {
    60_000
}

/// Fewer say nothing about a share of them.
fn min_calls() -> u64 {
    10
}

macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one, in the order of this file.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word that stands for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// A figure that rules look at.
    Signal {
        /// Percent of calls that failed by the function's fault.
        FunctionErrors = "function_errors",
        /// Percent of calls that failed by the platform's fault.
        PlatformErrors = "platform_errors",
        /// Percent of calls that failed by either's fault: answers 5xx.
        ServerErrors = "server_errors",
        /// Percent of calls that were refused because of a limit: answers 429.
        Throttled = "throttled",
        /// Time in which half of the answered calls were answered, in milliseconds.
        LatencyP50Ms = "latency_p50_ms",
        /// The same for 90 %.
        LatencyP90Ms = "latency_p90_ms",
        /// The same for 99 %.
        LatencyP99Ms = "latency_p99_ms",
        /// Calls a second.
        CallsPerSecond = "calls_per_second",
        /// Instances that ended without having been told to, within the last ten minutes.
        InstanceRestarts = "instance_restarts",
        /// Memory of the instance that uses the most, in percent of its limit.
        MemoryPercent = "memory_percent",
        /// Instances that are missing to `min_instances`.
        InstancesMissing = "instances_missing",
        /// Starts of instances that failed in a row.
        FailedStarts = "failed_starts",
        /// How far the breaker is open: 0 closed, 1 open, between them throttled or probing.
        BreakerOpen = "breaker_open",
        /// Age of the oldest asynchronous call that waits or runs, in seconds.
        QueueAgeSeconds = "queue_age_seconds",
        /// Asynchronous calls that wait or run.
        QueueDepth = "queue_depth",
        /// Asynchronous calls that were given up and lie there.
        DeadLetters = "dead_letters",
        /// Days for which the certificate of the public listener is still valid.
        CertificateDays = "certificate_days",
        /// Percent of the data directory's file system that is in use.
        DiskPercent = "disk_percent",
        /// How many times faster than it may the error budget is used up, quickly: above 1 is too fast.
        SloFastBurn = "slo_fast_burn",
        /// The same over hours and days.
        SloSlowBurn = "slo_slow_burn",
        /// Log lines, run records and notices that were dropped within the last five minutes.
        Shed = "shed",
        /// Schedules for whose next slot no instance will be ready.
        ScheduleNotReady = "schedule_not_ready",
    }
}

words! {
    /// Of what a figure is.
    Scope {
        /// Of each function.
        Function = "function",
        /// Of each app.
        App = "app",
        /// Of each namespace.
        Namespace = "namespace",
        /// Of the node.
        Node = "node",
    }
}

words! {
    /// A span of time up to now.
    Window {
        /// A minute.
        Minute = "1m",
        /// Five minutes.
        FiveMinutes = "5m",
        /// An hour.
        Hour = "1h",
        /// A day.
        Day = "24h",
    }
}

words! {
    /// How bad it is.
    Severity {
        /// Good to know.
        Info = "info",
        /// Somebody should look at it today.
        Warning = "warning",
        /// Somebody must look at it now.
        Critical = "critical",
    }
}

words! {
    /// Who is told of an alarm.
    Audience {
        /// The function's owner and the operators.
        Everybody = "everybody",
        /// The function's owner; the operators where it names nobody, or where it is about no function.
        Owner = "owner",
        /// The operators.
        Operators = "operators",
    }
}

#[expect(clippy::derivable_impls, reason = "the enums are made by a macro that knows no defaults")]
impl Default for Scope {
    fn default() -> Self {
        Self::Function
    }
}

#[expect(clippy::derivable_impls, reason = "the enums are made by a macro that knows no defaults")]
impl Default for Window {
    fn default() -> Self {
        Self::FiveMinutes
    }
}

#[expect(clippy::derivable_impls, reason = "the enums are made by a macro that knows no defaults")]
impl Default for Severity {
    fn default() -> Self {
        Self::Warning
    }
}

#[expect(clippy::derivable_impls, reason = "the enums are made by a macro that knows no defaults")]
impl Default for Audience {
    fn default() -> Self {
        Self::Everybody
    }
}

impl Window {
    /// How long it is, in seconds.
    #[must_use]
    pub const fn seconds(self) -> f64 {
        match self {
            Self::Minute => 60.0,
            Self::FiveMinutes => 300.0,
            Self::Hour => 3_600.0,
            Self::Day => 86_400.0,
        }
    }
}

impl Signal {
    /// Whether it is a figure of calls, so that window and least number of calls mean something.
    #[must_use]
    pub const fn is_of_calls(self) -> bool {
        matches!(
            self,
            Self::FunctionErrors
                | Self::PlatformErrors
                | Self::ServerErrors
                | Self::Throttled
                | Self::LatencyP50Ms
                | Self::LatencyP90Ms
                | Self::LatencyP99Ms
                | Self::CallsPerSecond
        )
    }

    /// Whether it is a figure of the node as a whole.
    #[must_use]
    pub const fn is_of_node(self) -> bool {
        matches!(self, Self::CertificateDays | Self::DiskPercent | Self::Shed)
    }
}

impl AlarmRule {
    /// A rule that is raised above `above`, with the usual rest.
    #[must_use]
    pub fn above(name: Name, signal: Signal, above: Decimal) -> Self {
        Self {
            name,
            signal,
            per: Scope::Function,
            window: Window::FiveMinutes,
            above: Some(above),
            below: None,
            clear: None,
            for_ms: for_ms(),
            clear_for_ms: for_ms(),
            min_calls: min_calls(),
            severity: Severity::Warning,
            to: Audience::Everybody,
            namespace: None,
            function: None,
            advice: String::new(),
        }
    }

    /// Checks what the shape alone does not say.
    pub fn validate(&self) -> Result<(), SpecError> {
        let name = &self.name;
        let refuse =
            |reason: String| Err(SpecError { field: "alarm.rules", reason: format!("{name}: {reason}") });
        if self.above.is_some() == self.below.is_some() {
            return refuse("either above or below is needed".to_owned());
        }
        let is_bad_side = |clear| {
            self.above.is_some_and(|above| clear > above) || self.below.is_some_and(|below| clear < below)
        };
        if self.clear.is_some_and(is_bad_side) {
            return refuse("clear is on the side on which the alarm begins".to_owned());
        }
        if self.for_ms.max(self.clear_for_ms) > limits::ALARM_FOR_MS_MAX {
            return refuse(format!("for_ms and clear_for_ms are at most {}", limits::ALARM_FOR_MS_MAX));
        }
        if self.advice.chars().count() > limits::DESCRIPTION_LEN_MAX {
            return refuse(format!("advice has at most {} characters", limits::DESCRIPTION_LEN_MAX));
        }
        let is_of_scope = match self.per {
            Scope::Function => true,
            Scope::App | Scope::Namespace | Scope::Node => {
                self.signal.is_of_calls() || self.signal.is_of_node()
            }
        };
        if !is_of_scope {
            return refuse(format!("{} is a figure of functions, not of each {}", self.signal, self.per));
        }
        Ok(())
    }
}

impl AlarmSpec {
    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        for (field, length) in [
            ("alarm.notify", self.notify.len()),
            ("alarm.off", self.off.len()),
            ("alarm.rules", self.rules.len()),
        ] {
            if length > limits::ALARM_RULES_MAX {
                let reason = format!("{length} entries, at most {} are allowed", limits::ALARM_RULES_MAX);
                return Err(SpecError { field, reason });
            }
        }
        for rule in &self.rules {
            rule.validate()?;
            let elsewhere =
                rule.namespace.is_some() || rule.function.is_some() || rule.per != Scope::Function;
            if elsewhere || rule.signal.is_of_node() {
                let reason = format!("{}: a function's own rules are about that function only", rule.name);
                return Err(SpecError { field: "alarm.rules", reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<(), String> {
        let rule: AlarmRule = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let spec = AlarmSpec { rules: vec![rule], ..AlarmSpec::default() };
        spec.validate().map_err(|error| error.reason)
    }

    #[test]
    fn a_rule_has_one_bound_and_clears_on_its_good_side() {
        assert_eq!(
            checked(r#"{"name": "slow", "signal": "latency_p99_ms", "above": 500, "clear": 300}"#),
            Ok(())
        );
        assert_eq!(checked(r#"{"name": "quiet", "signal": "calls_per_second", "below": 1}"#), Ok(()));
        for (json, part) in [
            (r#"{"name": "x", "signal": "throttled"}"#, "above or below"),
            (r#"{"name": "x", "signal": "throttled", "above": 1, "below": 2}"#, "above or below"),
            (r#"{"name": "x", "signal": "throttled", "above": 1, "clear": 2}"#, "side"),
            (r#"{"name": "x", "signal": "throttled", "above": 1, "for_ms": 99999999999}"#, "for_ms"),
            (
                r#"{"name": "x", "signal": "memory_percent", "per": "node", "above": 1}"#,
                "figure of functions",
            ),
            (r#"{"name": "x", "signal": "disk_percent", "above": 1}"#, "own rules"),
            (r#"{"name": "x", "signal": "throttled", "above": 1, "function": "y"}"#, "own rules"),
            (r#"{"name": "x", "signal": "moon", "above": 1}"#, "moon"),
        ] {
            let refused = checked(json).unwrap_err();
            assert!(refused.contains(part), "{json}: {refused}");
        }
    }
}
