//! How many stem cells of one runtime are kept ready: arithmetic over moments that are passed in.
//!
//! A start that finds none doubles the number, up to a ceiling: whoever needed more than there were is likely to need
//! them again soon. A quiet time halves what is above the floor.

use std::time::Duration;

use tokio::time::Instant;

/// After this long without a start that found nothing, half of what is above the floor goes: long enough for the gaps
/// inside a burst, short enough that its memory is back within a minute or two.
pub(super) const QUIET: Duration = Duration::from_secs(20);

/// What one runtime needs.
#[derive(Debug)]
pub(super) struct Demand {
    floor: usize,
    ceiling: usize,
    raised: usize,
    raised_at: Instant,
}

impl Demand {
    pub(super) fn new(floor: usize, ceiling: usize, now: Instant) -> Self {
        Self { floor, ceiling: ceiling.max(floor), raised: floor, raised_at: now }
    }

    /// How many are to be there.
    pub(super) fn target(&self, now: Instant) -> usize {
        let quiet = now.saturating_duration_since(self.raised_at).as_secs() / QUIET.as_secs();
        let surplus = (self.raised - self.floor).checked_shr(u32::try_from(quiet).unwrap_or(u32::MAX));
        self.floor + surplus.unwrap_or(0)
    }

    /// Whether there is nothing left of a burst.
    pub(super) fn is_at_floor(&self, now: Instant) -> bool {
        self.target(now) == self.floor
    }

    /// A start found none.
    pub(super) fn missed(&mut self, now: Instant) {
        self.raised = (self.target(now) * 2).clamp(self.floor, self.ceiling);
        self.raised_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_raises_it_within_bounds_and_quiet_lowers_it_to_the_floor() {
        let mut demand = Demand::new(3, 16, Instant::now());
        assert_eq!(demand.target(Instant::now()), 3);
        let mut seen = Vec::new();
        for _ in 0..4 {
            demand.missed(Instant::now());
            seen.push(demand.target(Instant::now()));
        }
        assert_eq!(seen, [6, 12, 16, 16]);
        let mut seen = Vec::new();
        for _ in 0..5 {
            tokio::time::advance(QUIET).await;
            seen.push(demand.target(Instant::now()));
        }
        assert_eq!(seen, [9, 6, 4, 3, 3]);
        tokio::time::advance(QUIET * 1000).await;
        demand.missed(Instant::now());
        assert_eq!(demand.target(Instant::now()), 6, "what was long ago does not count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ceiling_below_the_floor_is_the_floor() {
        let mut demand = Demand::new(3, 1, Instant::now());
        demand.missed(Instant::now());
        assert_eq!(demand.target(Instant::now()), 3);
    }
}
