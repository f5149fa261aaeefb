//! What happened lately: counts over a window that slides in steps.

use std::time::Duration;

use tokio::time::Instant;

/// Steps of a window: a tenth of it is forgotten at a time.
const SLICES: usize = 10;

/// How the calls of a window went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls that went well.
    pub good: u32,
    /// Calls that failed through the function.
    pub failed: u32,
    /// Calls that took too long.
    pub slow: u32,
    /// Calls that failed through the platform. They say nothing of the function and decide nothing here.
    pub platform: u32,
    /// Calls that the breaker refused.
    pub refused: u32,
}

impl Counts {
    /// Calls that say something about the function.
    #[must_use]
    pub const fn ended(&self) -> u32 {
        self.good.saturating_add(self.bad())
    }

    /// Those that went badly.
    #[must_use]
    pub const fn bad(&self) -> u32 {
        self.failed.saturating_add(self.slow)
    }

    /// Whether the share of what went badly is at least this; never, where nothing ended.
    #[must_use]
    pub const fn is_bad(&self, percent: u32) -> bool {
        let ended = self.ended() as u64;
        ended > 0 && self.bad() as u64 * 100 >= ended * percent as u64
    }

    fn each(&mut self, other: &Self, apply: impl Fn(u32, u32) -> u32) {
        self.good = apply(self.good, other.good);
        self.failed = apply(self.failed, other.failed);
        self.slow = apply(self.slow, other.slow);
        self.platform = apply(self.platform, other.platform);
        self.refused = apply(self.refused, other.refused);
    }
}

/// Counts over the last while.
#[derive(Debug)]
pub(super) struct Window {
    origin: Instant,
    slice: Duration,
    /// The newest slice, counted from the origin.
    newest: u64,
    slices: [Counts; SLICES],
    total: Counts,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let slice = length / SLICES as u32;
        Self {
            origin: now,
            slice: slice.max(Duration::from_millis(1)),
            newest: 0,
            slices: [Counts::default(); SLICES],
            total: Counts::default(),
        }
    }

    /// How long one step is.
    pub(super) const fn step(&self) -> Duration {
        self.slice
    }

    /// The counts of the window that ends now.
    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.slide(now);
        self.total
    }

    /// Counts something.
    pub(super) fn count(&mut self, now: Instant, what: &Counts) {
        self.slide(now);
        let index = (self.newest % SLICES as u64) as usize;
        self.slices[index].each(what, u32::saturating_add);
        self.total.each(what, u32::saturating_add);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slices = [Counts::default(); SLICES];
        self.total = Counts::default();
    }

    fn slide(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.origin).as_nanos() / self.slice.as_nanos();
        let reached = u64::try_from(passed).unwrap_or(u64::MAX);
        if reached >= self.newest.saturating_add(SLICES as u64) {
            self.clear();
        } else {
            for old in self.newest + 1..=reached {
                let gone = std::mem::take(&mut self.slices[(old % SLICES as u64) as usize]);
                self.total.each(&gone, u32::saturating_sub);
            }
        }
        self.newest = self.newest.max(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten_step_by_step() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut window = Window::new(Duration::from_secs(1), start);
        let one = Counts { good: 1, ..Counts::default() };
        (0..10).for_each(|slice| window.count(at(slice * 100), &one));
        assert_eq!(window.counts(at(999)).good, 10);
        assert_eq!(window.counts(at(1_000)).good, 9);
        assert_eq!(window.counts(at(1_450)).good, 5);
        assert_eq!(window.counts(at(60_000)).good, 0);
        window.count(at(60_000), &one);
        // A clock that is a little behind counts into the present.
        window.count(at(59_000), &one);
        assert_eq!(window.counts(at(60_050)).good, 2);
    }

    #[test]
    fn nothing_is_not_bad() {
        assert!(!Counts::default().is_bad(1));
        assert!(Counts { failed: 1, slow: 1, good: 2, ..Counts::default() }.is_bad(50));
        assert!(!Counts { failed: 1, good: 2, ..Counts::default() }.is_bad(34));
    }
}
