//! The rate of requests: the generic cell rate algorithm, which needs one number for each who is limited.
//!
//! The number is the *theoretical arrival time*: the moment at which all that was let through would have come, had it come
//! evenly. A request conforms while that moment is no further ahead than a burst takes. (ITU-T I.371, annex A; it is a
//! token bucket that keeps the time at which it will be full instead of its tokens.)

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;

/// A rate with its burst. Times are nanoseconds since any fixed moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Time that one request stands for.
    interval_ns: u64,
    /// How far ahead the theoretical arrival time may be.
    tolerance_ns: u64,
}

impl Rate {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let interval_ns = SECOND_NS / u64::from(per_second.get());
        Self { interval_ns, tolerance_ns: interval_ns * u64::from(burst.get() - 1) }
    }

    /// The part of this rate that each of `parts` has.
    pub(crate) fn shared_by(self, parts: u64) -> Self {
        let interval_ns = self.interval_ns.saturating_mul(parts);
        Self { interval_ns, tolerance_ns: self.tolerance_ns.max(interval_ns) }
    }

    /// The theoretical arrival time after one more request, or the time to wait for it, in nanoseconds.
    pub(crate) fn after(self, arrival: u64, now: u64) -> Result<u64, u64> {
        let arrival = arrival.max(now);
        let ahead = arrival - now;
        if ahead > self.tolerance_ns {
            return Err(ahead - self.tolerance_ns);
        }
        Ok(arrival + self.interval_ns)
    }

    /// The theoretical arrival time without one of the requests that made it.
    pub(crate) fn before(self, arrival: u64) -> u64 {
        arrival.saturating_sub(self.interval_ns)
    }
}

/// What somebody has left of a rate.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request's worth; else tells the time to wait, in nanoseconds.
    pub(crate) fn take(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let mut wait = 0;
        let step = |arrival| rate.after(arrival, now).map_err(|ns| wait = ns).ok();
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        taken.map(drop).map_err(|_| wait)
    }

    /// Takes one request's worth although there may be none: what others may have is less for it, by a second's worth at
    /// the most.
    pub(crate) fn charge(&self, rate: Rate, now: u64) {
        let most = now + rate.tolerance_ns + SECOND_NS;
        let step = |arrival: u64| Some((arrival.max(now) + rate.interval_ns).min(most.max(arrival)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// Gives one request's worth back.
    pub(crate) fn give_back(&self, rate: Rate) {
        let step = |arrival: u64| Some(rate.before(arrival));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// Whether nothing is taken.
    pub(crate) fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_burst_goes_through_and_then_one_at_a_time() {
        let (rate, bucket) = (rate(10, 3), Bucket::default());
        let now = 5 * SECOND_NS;
        let taken = (0..9).filter(|_| bucket.take(rate, now).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(rate, now), Err(SECOND_NS / 10));
        assert!(bucket.take(rate, now + SECOND_NS / 10).is_ok());
        assert!(bucket.take(rate, now + SECOND_NS / 10).is_err());
        assert!(!bucket.is_full(now) && bucket.is_full(now + SECOND_NS));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (rate, bucket) = (rate(1, 1), Bucket::default());
        assert!(bucket.take(rate, SECOND_NS).is_ok());
        bucket.give_back(rate);
        assert!(bucket.take(rate, SECOND_NS).is_ok());
        assert!(bucket.take(rate, SECOND_NS).is_err());
    }

    proptest! {
        /// Whatever comes when: never more than the burst and the rate over the time since the first.
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1_u32..2_000, burst in 1_u32..50,
            steps in prop::collection::vec(0_u64..20_000_000, 1..300),
        ) {
            let (rate, bucket) = (rate(per_second, burst), Bucket::default());
            let (start, mut now, mut taken) = (SECOND_NS, SECOND_NS, 0_u64);
            for step in steps {
                now += step;
                match bucket.take(rate, now) {
                    Ok(()) => taken += 1,
                    Err(wait) => prop_assert!(
                        wait > 0 && Bucket(AtomicU64::new(bucket.0.load(Ordering::Relaxed))).take(rate, now + wait).is_ok(),
                        "who waits as told gets through"
                    ),
                }
                let earned = (now - start) / rate.interval_ns;
                prop_assert!(taken <= u64::from(burst) + earned);
            }
        }
    }
}
