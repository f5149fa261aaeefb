//! The policies that a trace can be replayed under: ours, a fixed time, and the published hybrid histogram.

use std::time::Duration;

use crate::keep_alive::{History, KeepAlive, KeepAliveOptions, Memo, Span, Windows};

/// Decides during which spans of its idle time a function has an instance.
pub(crate) trait Policy {
    /// The function is called for the first time.
    fn first_call(&mut self, function: usize);
    /// The function is called after it has been idle.
    fn called_after(&mut self, function: usize, idle: Duration);
    /// What to do in the idle time that begins now.
    fn windows(&mut self, function: usize, memory_mb: f32) -> Windows;
}

/// The policy of the pool.
pub(crate) struct Priced {
    policy: KeepAlive,
    functions: Vec<(History, Memo)>,
}

impl Priced {
    pub(crate) fn new(functions: usize, options: KeepAliveOptions) -> Self {
        Self { policy: KeepAlive::new(options), functions: vec![Default::default(); functions] }
    }
}

impl Policy for Priced {
    fn first_call(&mut self, function: usize) {
        self.policy.first_call(&self.functions[function].0);
    }

    fn called_after(&mut self, function: usize, idle: Duration) {
        self.policy.called_after(&mut self.functions[function].0, idle);
    }

    fn windows(&mut self, function: usize, memory_mb: f32) -> Windows {
        let memory_bytes = (f64::from(memory_mb) * 1024.0 * 1024.0) as u64;
        let (history, memo) = &mut self.functions[function];
        memo.windows(&self.policy, history, memory_bytes)
    }
}

/// Every instance is held for the same time.
pub(crate) struct Fixed(pub(crate) u32);

impl Policy for Fixed {
    fn first_call(&mut self, _function: usize) {}

    fn called_after(&mut self, _function: usize, _idle: Duration) {}

    fn windows(&mut self, _function: usize, _memory_mb: f32) -> Windows {
        Windows::held_for(self.0)
    }
}

/// Minutes that the hybrid histogram covers.
const HYBRID_BINS: usize = 240;
/// Where a function's histogram starts in idle times, and where it ends.
const HYBRID_HEAD: f64 = 0.05;
const HYBRID_TAIL: f64 = 0.99;
/// Margin around both.
const HYBRID_MARGIN: f64 = 0.10;
/// The histogram is used where the coefficient of variation of its bins is at least this.
const HYBRID_CV_MIN: f64 = 2.0;
/// Share of idle times beyond the histogram from which on a forecast is made instead.
const HYBRID_BEYOND: f64 = 0.5;
/// Margin around a forecast.
const HYBRID_FORECAST_MARGIN: f64 = 0.15;

/// The hybrid histogram of Shahrad et al. with the constants of the paper. Where the paper fits an ARIMA model, to the
/// few functions whose idle times are mostly beyond the histogram, the mean of their idle times is the forecast here.
pub(crate) struct Hybrid(Vec<HybridHistory>);

#[derive(Clone)]
struct HybridHistory {
    counts: Box<[u16]>,
    within: u32,
    beyond: u32,
    beyond_s: f64,
    /// Sum of the squares of the counts.
    squares: f64,
}

impl Hybrid {
    pub(crate) fn new(functions: usize) -> Self {
        let history =
            HybridHistory { counts: Box::default(), within: 0, beyond: 0, beyond_s: 0.0, squares: 0.0 };
        Self(vec![history; functions])
    }
}

impl Policy for Hybrid {
    fn first_call(&mut self, _function: usize) {}

    fn called_after(&mut self, function: usize, idle: Duration) {
        let history = &mut self.0[function];
        let minute = usize::try_from(idle.as_secs() / 60).unwrap_or(usize::MAX);
        if minute >= HYBRID_BINS {
            history.beyond += 1;
            history.beyond_s += idle.as_secs_f64();
            return;
        }
        if history.counts.is_empty() {
            history.counts = vec![0; HYBRID_BINS].into_boxed_slice();
        }
        let count = &mut history.counts[minute];
        if *count < u16::MAX {
            history.squares += 2.0 * f64::from(*count) + 1.0;
            *count += 1;
            history.within += 1;
        }
    }

    fn windows(&mut self, function: usize, _memory_mb: f32) -> Windows {
        self.0[function].windows()
    }
}

impl HybridHistory {
    fn windows(&self) -> Windows {
        let all = f64::from(self.within + self.beyond);
        if self.beyond > 1 && f64::from(self.beyond) > all * HYBRID_BEYOND {
            let forecast = self.beyond_s / f64::from(self.beyond);
            let margin = forecast * HYBRID_FORECAST_MARGIN;
            return ahead(forecast - margin, forecast + margin);
        }
        let mean = f64::from(self.within) / HYBRID_BINS as f64;
        let variance = self.squares / HYBRID_BINS as f64 - mean * mean;
        if self.within == 0 || variance.sqrt() < mean * HYBRID_CV_MIN {
            return Windows::held_for(HYBRID_BINS as u32 * 60);
        }
        let head = self.minute_of(HYBRID_HEAD) as f64 * 60.0 * (1.0 - HYBRID_MARGIN);
        let tail = (self.minute_of(HYBRID_TAIL) + 1) as f64 * 60.0 * (1.0 + HYBRID_MARGIN);
        if head < 60.0 { Windows::held_for(tail as u32) } else { ahead(head, tail) }
    }

    /// The minute below which this share of the idle times lies.
    fn minute_of(&self, share: f64) -> usize {
        let mut left = (f64::from(self.within) * share).ceil();
        for (minute, count) in self.counts.iter().enumerate() {
            left -= f64::from(*count);
            if left <= 0.0 {
                return minute;
            }
        }
        HYBRID_BINS - 1
    }
}

/// Let go at once, back from `from_s` to `until_s`.
fn ahead(from_s: f64, until_s: f64) -> Windows {
    let mut windows = Windows::held_for(0);
    windows.push(Span { from_s: from_s as u32, until_s: until_s.ceil() as u32 });
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_histogram_learns_a_period_and_holds_four_hours_before() {
        let mut hybrid = Hybrid::new(1);
        assert_eq!(hybrid.windows(0, 1.0), Windows::held_for(4 * 3_600));
        (0..20).for_each(|_| hybrid.called_after(0, Duration::from_secs(1_805)));
        let windows = hybrid.windows(0, 1.0);
        let ahead = windows.spans()[1];
        assert_eq!((ahead.from_s, ahead.until_s), (1_620, 2_047));
    }

    #[test]
    fn the_hybrid_histogram_forecasts_what_is_beyond_it() {
        let mut hybrid = Hybrid::new(1);
        (0..5).for_each(|_| hybrid.called_after(0, Duration::from_secs(20_000)));
        let ahead = hybrid.windows(0, 1.0).spans()[1];
        assert_eq!((ahead.from_s, ahead.until_s), (17_000, 23_000));
    }
}
