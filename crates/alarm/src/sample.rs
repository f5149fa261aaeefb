//! Figures as rules see them, and where those of calls and objectives come from.

use std::collections::BTreeSet;

use alula_model::Name;
use alula_model::alarm::{Scope, Signal, Window};
use alula_telemetry::signals::{self, End, Signals, Tally};
use serde::{Deserialize, Serialize};

use crate::ports::Watch;
use crate::slo;

/// What a figure is of; all of the node where nothing is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Subject {
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Name>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Name>,
    /// A part of it: a version, a trigger, an objective, a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which.
    pub signal: Signal,
    /// Of what.
    pub subject: Subject,
    /// The figure, in the unit of the signal.
    pub value: f64,
    /// The span that it was taken over, for figures of calls.
    pub window: Option<Window>,
    /// Calls that it was taken from, where it says little without many.
    pub calls: Option<u64>,
    /// What else is known, for people.
    pub detail: String,
}

/// Everything that was measured at one moment. What is not in it is well.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// The figures.
    pub samples: Vec<Sample>,
    /// Signals that could not be measured: nothing follows from their absence.
    pub unknown: Vec<Signal>,
}

impl Subject {
    /// A function.
    #[must_use]
    pub fn function(namespace: &Name, function: &Name) -> Self {
        Self { namespace: Some(namespace.clone()), function: Some(function.clone()), ..Self::default() }
    }

    /// The same, narrowed to a part of it.
    #[must_use]
    pub fn part(self, part: impl Into<String>) -> Self {
        Self { part: Some(part.into()), ..self }
    }

    /// What it is, as rules name it.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        match (&self.namespace, &self.app, &self.function) {
            (_, _, Some(_)) => Scope::Function,
            (_, Some(_), None) => Scope::App,
            (Some(_), None, None) => Scope::Namespace,
            (None, None, None) => Scope::Node,
        }
    }
}

impl std::fmt::Display for Subject {
    /// `FUNCTION (PART) in NAMESPACE`, `app APP in NAMESPACE`, `namespace NAMESPACE`, `the node`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = self.part.as_ref().map(|part| format!(" ({part})")).unwrap_or_default();
        match (&self.namespace, &self.app, &self.function) {
            (Some(namespace), _, Some(function)) => write!(f, "{function}{part} in {namespace}"),
            (Some(namespace), Some(app), None) => write!(f, "app {app}{part} in {namespace}"),
            (Some(namespace), None, None) => write!(f, "namespace {namespace}{part}"),
            _ => write!(f, "the node{part}"),
        }
    }
}

impl Sample {
    /// A figure that stands for itself.
    #[must_use]
    pub fn new(signal: Signal, subject: Subject, value: f64) -> Self {
        Self { signal, subject, value, window: None, calls: None, detail: String::new() }
    }

    /// The same with what else is known.
    #[must_use]
    pub fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// The figures of calls that are wanted, each over its window.
pub(crate) fn of_calls(signals: &Signals, wanted: &BTreeSet<(Window, Signal)>) -> Vec<Sample> {
    let windows: BTreeSet<Window> = wanted.iter().map(|(window, _)| *window).collect();
    let over = |window: Window| {
        let wanted = wanted.iter().filter(|(of, _)| *of == window).map(|(_, signal)| *signal);
        let wanted: Vec<Signal> = wanted.collect();
        let tallies = signals.tallies(window, |_| true).into_iter();
        tallies
            .flat_map(move |(subject, tally)| figures(&named(subject), window, &tally, &wanted))
            .collect::<Vec<_>>()
    };
    windows.into_iter().flat_map(over).collect()
}

fn named(subject: signals::Subject) -> Subject {
    match subject {
        signals::Subject::Node => Subject::default(),
        signals::Subject::Namespace(namespace) => {
            Subject { namespace: Some(namespace), ..Subject::default() }
        }
        signals::Subject::App(namespace, app) => {
            Subject { namespace: Some(namespace), app: Some(app), ..Subject::default() }
        }
        signals::Subject::Function(namespace, function) => Subject::function(&namespace, &function),
    }
}

fn figures(subject: &Subject, window: Window, tally: &Tally, wanted: &[Signal]) -> Vec<Sample> {
    let calls = tally.calls();
    let sample = |signal: &Signal| {
        let value = figure(*signal, window, tally)?;
        let sample = Sample::new(*signal, subject.clone(), value).with(format!("{calls} calls in {window}"));
        Some(Sample { window: Some(window), calls: Some(calls), ..sample })
    };
    wanted.iter().filter_map(sample).collect()
}

fn figure(signal: Signal, window: Window, tally: &Tally) -> Option<f64> {
    let percent = |end| tally.share(end).map(|share| share * 100.0);
    let millis = |part| tally.quantile_us(part).map(|us| us as f64 / 1_000.0);
    match signal {
        Signal::FunctionErrors => percent(End::Function),
        Signal::PlatformErrors => percent(End::Platform),
        Signal::ServerErrors => Some(percent(End::Function)? + percent(End::Platform)?),
        Signal::Throttled => percent(End::Throttled),
        Signal::LatencyP50Ms => millis(0.5),
        Signal::LatencyP90Ms => millis(0.9),
        Signal::LatencyP99Ms => millis(0.99),
        Signal::CallsPerSecond => Some(tally.calls() as f64 / window.seconds()),
        _ => None,
    }
}

/// How much too fast the error budgets of these functions go.
pub(crate) fn of_objectives(signals: &Signals, watches: &[Watch]) -> Vec<Sample> {
    let promised = watches.iter().filter_map(|watch| Some((watch, watch.slo.as_ref()?)));
    let judged = promised.flat_map(|(watch, slo)| {
        let subject = Subject::function(&watch.namespace, &watch.function);
        let judged = slo::judge(signals, &watch.namespace, &watch.function, slo);
        judged.into_iter().map(move |judged| (subject.clone().part(judged.name), judged))
    });
    let worst = |(subject, judged): (Subject, slo::Judged)| {
        [(Signal::SloFastBurn, true), (Signal::SloSlowBurn, false)].into_iter().filter_map(
            move |(signal, is_fast)| {
                let burns = judged.burns.iter().filter(|burn| burn.pair.is_fast == is_fast);
                let worst = burns.max_by(|one, other| one.excess().total_cmp(&other.excess()))?;
                let (hours, left) = (worst.pair.long_minutes / 60, judged.budget_left * 100.0);
                let detail = format!(
                    "over {hours} h {:.1} times too fast, {left:.1} % of the budget is left",
                    worst.long
                );
                let sample = Sample::new(signal, subject.clone(), worst.excess()).with(detail);
                Some(Sample { calls: Some(worst.calls), ..sample })
            },
        )
    };
    judged.flat_map(worst).collect()
}
