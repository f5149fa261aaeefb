//! Error budgets and how fast they are used up.
//!
//! An objective of 99 % over four weeks allows one call in a hundred to break it: that is its budget. The burn rate is how
//! many times faster than evenly it is used up. Somebody is told when much of it goes within a span, and still goes: a long
//! span says that it matters, a short one within it that it is not over. The spans and the shares of the budget are those
//! that Google's Site Reliability Workbook, chapter 5, recommends for multiwindow, multi-burn-rate alerts: 2 % of the budget
//! within an hour, 5 % within six, 10 % within a day or three.

use alula_model::{Name, SloSpec};
use alula_telemetry::signals::{Kept, Signals, Span};

/// Counted calls, and those that broke the objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Calls that count.
    pub calls: u64,
    /// Those that broke it.
    pub bad: u64,
}

/// A pair of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The long span, in minutes.
    pub long_minutes: u32,
    /// The short span, in minutes.
    pub short_minutes: u32,
    /// The share of the budget that may go within the long span, in percent.
    budget_percent: u32,
    /// Whether somebody must act at once.
    pub is_fast: bool,
}

/// The pairs of spans, the fastest first.
pub const PAIRS: [Pair; 4] = [
    Pair { long_minutes: 60, short_minutes: 5, budget_percent: 2, is_fast: true },
    Pair { long_minutes: 6 * 60, short_minutes: 30, budget_percent: 5, is_fast: true },
    Pair { long_minutes: 24 * 60, short_minutes: 2 * 60, budget_percent: 10, is_fast: false },
    Pair { long_minutes: 3 * 24 * 60, short_minutes: 6 * 60, budget_percent: 10, is_fast: false },
];

/// An objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// The promised share, between 0 and 1.
    pub target: f64,
    /// The days over which it holds.
    pub window_days: u32,
}

/// How fast a budget is used up over a pair of spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burn {
    /// The spans.
    pub pair: Pair,
    /// The rate over the long span.
    pub long: f64,
    /// The rate over the short span.
    pub short: f64,
    /// The rate above which somebody is told.
    pub limit: f64,
    /// Calls within the long span.
    pub calls: u64,
}

/// How one objective of a function is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// `availability` or `latency`.
    pub name: &'static str,
    /// The promised percentage.
    pub target_percent: f64,
    /// From when on an answer is too slow, for `latency`.
    pub latency_ms: Option<u64>,
    /// What was counted over the whole window.
    pub window: Counted,
    /// What is left of the budget, as a share of it; negative where more was used.
    pub budget_left: f64,
    /// How fast it goes, over every pair of spans.
    pub burns: Vec<Burn>,
}

/// How a function keeps what is promised of it. Counted are the calls of this process, and those that were remembered.
#[must_use]
pub fn judge(signals: &Signals, namespace: &Name, function: &Name, slo: &SloSpec) -> Vec<Judged> {
    let span = |minutes: u32| if minutes < 60 { Span::Minutes(minutes) } else { Span::Hours(minutes / 60) };
    let pairs = PAIRS.iter().flat_map(|pair| [span(pair.long_minutes), span(pair.short_minutes)]);
    let spans: Vec<Span> = [Span::Hours(slo.window_days * 24)].into_iter().chain(pairs).collect();
    let kept = signals.kept(namespace, function, &spans);
    let judged = |name, percent: f64, latency_ms, counted: fn(&Kept) -> Counted| {
        let objective = Objective { target: percent / 100.0, window_days: slo.window_days };
        let counted: Vec<Counted> = kept.iter().map(counted).collect();
        let (window, spans) =
            counted.split_first().map_or_else(Default::default, |(window, rest)| (*window, rest));
        let burns = PAIRS.iter().zip(spans.chunks(2));
        let burns = burns.map(|(pair, spans)| objective.burn(*pair, spans[0], spans[1])).collect();
        let budget_left = objective.budget_left(window);
        Judged { name, target_percent: percent, latency_ms, window, budget_left, burns }
    };
    let failed = |kept: &Kept| Counted { calls: kept.judged, bad: kept.failed };
    let slow = |kept: &Kept| Counted { calls: kept.judged - kept.failed, bad: kept.slow };
    let availability = slo.availability.map(|target| judged("availability", target.as_f64(), None, failed));
    let latency = slo.latency.map(|target| judged("latency", target.as_f64(), slo.latency_ms, slow));
    availability.into_iter().chain(latency).collect()
}

impl Pair {
    /// The burn rate at which so much of the budget of `window_days` goes within the long span. It is at least 1: slower,
    /// and the budget outlasts its window.
    fn limit(self, window_days: u32) -> f64 {
        let window_minutes = f64::from(window_days) * 24.0 * 60.0;
        (f64::from(self.budget_percent) / 100.0 * window_minutes / f64::from(self.long_minutes)).max(1.0)
    }
}

impl Objective {
    /// How many times faster than evenly the budget is used up.
    fn rate(&self, counted: Counted) -> f64 {
        if counted.calls == 0 {
            return 0.0;
        }
        counted.bad as f64 / counted.calls as f64 / (1.0 - self.target)
    }

    /// What is left of the budget of the whole window, as a share of it; negative where more was used.
    #[must_use]
    pub fn budget_left(&self, window: Counted) -> f64 {
        1.0 - self.rate(window)
    }

    /// How fast the budget goes over a pair of spans.
    #[must_use]
    pub fn burn(&self, pair: Pair, long: Counted, short: Counted) -> Burn {
        let limit = pair.limit(self.window_days);
        Burn { pair, long: self.rate(long), short: self.rate(short), limit, calls: long.calls }
    }
}

impl Burn {
    /// How many times faster than its limit it goes, over both spans.
    #[must_use]
    pub fn excess(&self) -> f64 {
        self.long.min(self.short) / self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Objective = Objective { target: 0.999, window_days: 30 };

    #[test]
    fn the_limits_are_those_of_the_workbook_for_thirty_days() {
        let limits = PAIRS.map(|pair| pair.limit(30));
        for (limit, expect) in limits.into_iter().zip([14.4, 6.0, 3.0, 1.0]) {
            assert!((limit - expect).abs() < 1e-9, "{limit} instead of {expect}");
        }
        assert!(PAIRS.iter().all(|pair| pair.limit(1) >= 1.0));
    }

    #[test]
    fn a_budget_is_used_up_by_what_it_allows() {
        let close = |left: f64, expect: f64| assert!((left - expect).abs() < 1e-9, "{left}, {expect}");
        close(OBJECTIVE.budget_left(Counted { calls: 10_000, bad: 10 }), 0.0);
        close(OBJECTIVE.budget_left(Counted { calls: 10_000, bad: 5 }), 0.5);
        close(OBJECTIVE.budget_left(Counted { calls: 10_000, bad: 30 }), -2.0);
        close(OBJECTIVE.budget_left(Counted::default()), 1.0);
    }

    #[test]
    fn what_is_over_is_not_too_fast_any_more() {
        let burning = Counted { calls: 1_000, bad: 20 };
        let quiet = Counted { calls: 100, bad: 0 };
        assert!(OBJECTIVE.burn(PAIRS[0], burning, burning).excess() > 1.0);
        assert!(OBJECTIVE.burn(PAIRS[0], burning, quiet).excess() < 1.0);
        assert!(OBJECTIVE.burn(PAIRS[0], quiet, burning).excess() < 1.0);
    }
}
