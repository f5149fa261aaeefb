//! The rules in force: those that are built in, what the operator changed about them, what functions add.

use std::collections::HashSet;

use alula_model::alarm::{AlarmRule, Audience, Scope, Severity, Signal, Window};
use alula_model::{Decimal, Name};

use crate::options::Options;
use crate::ports::Watch;
use crate::sample::Sample;

/// The rules of the platform and of the operator. What functions state comes with each look.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<AlarmRule>,
}

impl Rules {
    /// As the options have it: a rule of theirs stands in for a built-in one of the same name.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let replaced: HashSet<&Name> =
            options.rules.iter().map(|rule| &rule.name).chain(&options.off).collect();
        let built_in = built_in().into_iter().filter(|rule| !replaced.contains(&rule.name));
        Self { rules: built_in.chain(options.rules.iter().cloned()).collect() }
    }

    /// Every rule.
    pub fn all(&self) -> impl Iterator<Item = &AlarmRule> {
        self.rules.iter()
    }

    /// The figures of calls that rules look at, and the windows that they look at them over.
    pub(crate) fn wanted<'a>(&'a self, watches: &'a [Watch]) -> impl Iterator<Item = (Window, Signal)> + 'a {
        let own = watches.iter().flat_map(|watch| &watch.alarm.rules);
        self.rules
            .iter()
            .chain(own)
            .filter(|rule| rule.signal.is_of_calls())
            .map(|rule| (rule.window, rule.signal))
    }

    /// The rules that look at `sample`, which is of a function that states `watch`, if it is of one.
    pub(crate) fn for_sample<'a>(
        &'a self,
        sample: &'a Sample,
        watch: Option<&'a Watch>,
    ) -> impl Iterator<Item = &'a AlarmRule> {
        let stated = watch.map(|watch| &watch.alarm);
        let is_replaced = move |rule: &AlarmRule| {
            stated.is_some_and(|stated| {
                stated.off.contains(&rule.name) || stated.rules.iter().any(|own| own.name == rule.name)
            })
        };
        let platform = self.rules.iter().filter(move |rule| !is_replaced(rule));
        let own = stated.into_iter().flat_map(|stated| &stated.rules);
        platform.chain(own).filter(|rule| concerns(rule, sample))
    }
}

fn concerns(rule: &AlarmRule, sample: &Sample) -> bool {
    let subject = &sample.subject;
    rule.signal == sample.signal
        && (rule.signal.is_of_node() || rule.per == subject.scope())
        && sample.window.is_none_or(|window| window == rule.window)
        && rule.namespace.as_ref().is_none_or(|name| subject.namespace.as_ref() == Some(name))
        && rule.function.as_ref().is_none_or(|name| subject.function.as_ref() == Some(name))
}

/// What is above when, how bad it is, who is told.
type Row = (&'static str, Signal, Scope, i32, Option<i32>, u64, Severity, Audience, &'static str);

const MINUTE_MS: u64 = 60_000;

/// The rules that begin above a bound: the bound, where they are over, how long they must last.
const ABOVE: &[Row] = {
    use Audience::{Everybody, Operators, Owner};
    use Scope::{Function, Namespace, Node};
    use Severity::{Critical, Warning};
    &[
        (
            "function-errors",
            Signal::FunctionErrors,
            Function,
            10,
            Some(5),
            2 * MINUTE_MS,
            Warning,
            Owner,
            "look at `alula runs NAME --status failed` and `alula logs NAME`; `alula rollback NAME` goes back a version",
        ),
        (
            "platform-errors",
            Signal::PlatformErrors,
            Node,
            1,
            None,
            MINUTE_MS,
            Critical,
            Operators,
            "look at the platform's own log and at `alula doctor`",
        ),
        (
            "server-errors",
            Signal::ServerErrors,
            Namespace,
            25,
            Some(10),
            2 * MINUTE_MS,
            Warning,
            Operators,
            "`alula stats --namespace NAME` tells which functions fail",
        ),
        (
            "throttled",
            Signal::Throttled,
            Function,
            20,
            Some(10),
            5 * MINUTE_MS,
            Warning,
            Everybody,
            "raise max_instances or concurrency, or find who calls so often; `alula explain NAME` tells which limit it is",
        ),
        (
            "instance-restarts",
            Signal::InstanceRestarts,
            Function,
            3,
            Some(0),
            0,
            Warning,
            Owner,
            "`alula logs NAME` has the last words of instances that crashed; out of memory is in `alula runs NAME`",
        ),
        (
            "memory",
            Signal::MemoryPercent,
            Function,
            80,
            Some(75),
            5 * MINUTE_MS,
            Warning,
            Owner,
            "raise memory_mb, or look for what is kept between calls",
        ),
        (
            "instances-missing",
            Signal::InstancesMissing,
            Function,
            0,
            None,
            MINUTE_MS,
            Warning,
            Everybody,
            "`alula explain NAME` tells why no more instances are started",
        ),
        (
            "failed-starts",
            Signal::FailedStarts,
            Function,
            2,
            Some(0),
            0,
            Warning,
            Everybody,
            "`alula explain NAME` tells what starts fail with, `alula logs NAME` what the code says",
        ),
        (
            "breaker",
            Signal::BreakerOpen,
            Function,
            0,
            None,
            0,
            Warning,
            Everybody,
            "calls are held back because too many failed; it closes by itself when probes succeed",
        ),
        (
            "queue-age",
            Signal::QueueAgeSeconds,
            Function,
            300,
            Some(60),
            MINUTE_MS,
            Warning,
            Everybody,
            "`alula queue NAME` tells what waits; raise async.concurrency or max_instances",
        ),
        (
            "queue-depth",
            Signal::QueueDepth,
            Function,
            10_000,
            Some(5_000),
            5 * MINUTE_MS,
            Warning,
            Operators,
            "`alula queue` tells what waits where, and whether it is paused",
        ),
        (
            "dead-letters",
            Signal::DeadLetters,
            Function,
            0,
            None,
            0,
            Warning,
            Operators,
            "`alula dead list NAME` tells why calls were given up; redrive or purge them",
        ),
        (
            "disk",
            Signal::DiskPercent,
            Node,
            85,
            Some(80),
            MINUTE_MS,
            Warning,
            Operators,
            "make room on the data directory's file system, or lower logs.total_bytes_max and runs.keep_max",
        ),
        (
            "disk-full",
            Signal::DiskPercent,
            Node,
            95,
            Some(93),
            0,
            Critical,
            Operators,
            "make room on the data directory's file system now: without any, nothing can be accepted",
        ),
        (
            "slo-fast",
            Signal::SloFastBurn,
            Function,
            1,
            None,
            0,
            Critical,
            Everybody,
            "the error budget goes within days: `alula slo NAME`, then `alula runs NAME --status failed`",
        ),
        (
            "slo-slow",
            Signal::SloSlowBurn,
            Function,
            1,
            None,
            0,
            Warning,
            Everybody,
            "the error budget does not last for its window: `alula slo NAME`",
        ),
        (
            "shed",
            Signal::Shed,
            Node,
            0,
            None,
            0,
            Warning,
            Operators,
            "lines, runs or notices come faster than they can be stored: the disk is slow or something floods",
        ),
        (
            "schedule-not-ready",
            Signal::ScheduleNotReady,
            Function,
            0,
            None,
            0,
            Critical,
            Everybody,
            "no instance will be ready for the next slot; `alula triggers` and `alula explain NAME` tell why",
        ),
    ]
};

/// Certificates: days below which there is an alarm.
const CERTIFICATES: &[(&str, i32, Severity)] =
    &[("certificate", 14, Severity::Warning), ("certificate-ending", 3, Severity::Critical)];

/// The rules that hold without anybody stating them.
#[must_use]
#[expect(clippy::expect_used, reason = "the names stand above")]
pub fn built_in() -> Vec<AlarmRule> {
    let name = |text: &str| Name::new(text).expect("the name of a built-in rule is one");
    let above = |row: &Row| {
        let (text, signal, per, above, clear, for_ms, severity, to, advice) = *row;
        AlarmRule {
            per,
            clear: clear.map(Decimal::whole),
            for_ms,
            severity,
            to,
            min_calls: if signal.is_of_calls() { 20 } else { 10 },
            advice: advice.to_owned(),
            ..AlarmRule::above(name(text), signal, Decimal::whole(above))
        }
    };
    let certificate = |(text, days, severity): &(&str, i32, Severity)| AlarmRule {
        per: Scope::Node,
        above: None,
        below: Some(Decimal::whole(*days)),
        for_ms: 0,
        severity: *severity,
        to: Audience::Operators,
        advice: "renew the certificate of gateway.tls and restart the platform".to_owned(),
        ..AlarmRule::above(name(text), Signal::CertificateDays, Decimal::whole(0))
    };
    ABOVE.iter().map(above).chain(CERTIFICATES.iter().map(certificate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_valid_and_have_names_of_their_own() {
        let rules = built_in();
        let names: HashSet<_> = rules.iter().map(|rule| rule.name.clone()).collect();
        assert_eq!(names.len(), rules.len());
        for rule in &rules {
            assert_eq!(rule.validate(), Ok(()), "{}", rule.name);
            assert!(!rule.advice.is_empty(), "{} says nothing about what to do", rule.name);
        }
    }

    #[test]
    fn the_page_names_every_built_in_rule_and_every_signal() {
        let page = include_str!("../../../docs/observing.md");
        let names = built_in().into_iter().map(|rule| rule.name.to_string());
        for name in names.chain(Signal::ALL.iter().map(|signal| signal.as_str().to_owned())) {
            assert!(page.contains(&format!("| `{name}` |")), "docs/observing.md has no row for {name}");
        }
    }
}
