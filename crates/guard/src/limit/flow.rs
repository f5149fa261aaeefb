//! Requests of one who is limited: a node, a namespace, an app, a function, a protection.

use std::sync::atomic::{AtomicU32, Ordering};

use alula_model::Limit;

use super::rate::{Bucket, Rate};

/// A limit that a request ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hit {
    /// Too many in a second.
    Rate {
        /// How many there may be.
        per_second: u32,
        /// How many at once.
        burst: u32,
        /// Time until there may be one more, in nanoseconds.
        wait_ns: u64,
    },
    /// Too many in flight.
    InFlight {
        /// How many there may be.
        most: u32,
    },
    /// The node is full, and the namespace has its share.
    Share {
        /// Its share, in requests in flight.
        share: u32,
        /// What all namespaces have together.
        most: u32,
    },
}

/// What one who is limited has in flight, and what is left of its rate.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) bucket: Bucket,
    in_flight: AtomicU32,
}

/// What a request took from a flow or a caller besides its place in flight, to be given back if it is refused elsewhere.
pub(crate) type Took = Option<Rate>;

impl Flow {
    /// One more request, where `limit` allows it.
    pub(crate) fn enter(&self, limit: &Limit, now: u64) -> Result<Took, Hit> {
        let most = limit.in_flight.map_or(u32::MAX, std::num::NonZeroU32::get);
        let step = |in_flight: u32| (in_flight < most).then_some(in_flight.saturating_add(1));
        if self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_err() {
            return Err(Hit::InFlight { most });
        }
        let took = take(limit, |rate| self.bucket.take(rate, now));
        took.inspect_err(|_| self.leave())
    }

    /// A request has ended.
    pub(crate) fn leave(&self) {
        let step = |in_flight: u32| in_flight.checked_sub(1);
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// Whether there is nothing to remember of it.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.bucket.is_full(now)
    }

    #[cfg(test)]
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Takes from a rate, where `limit` has one.
pub(crate) fn take(limit: &Limit, take: impl FnOnce(Rate) -> Result<(), u64>) -> Result<Took, Hit> {
    let Some((per_second, burst)) = limit.rate() else { return Ok(None) };
    let rate = Rate::new(per_second, burst);
    match take(rate) {
        Ok(()) => Ok(Some(rate)),
        Err(wait_ns) => Err(Hit::Rate { per_second: per_second.get(), burst: burst.get(), wait_ns }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_is_in_flight_is_bounded_and_a_refusal_by_rate_leaves_nothing() {
        let two = Limit { in_flight: NonZeroU32::new(2), ..Limit::NONE };
        let flow = Flow::default();
        assert!(flow.enter(&two, 1).is_ok() && flow.enter(&two, 1).is_ok());
        assert_eq!(flow.enter(&two, 1), Err(Hit::InFlight { most: 2 }));
        flow.leave();
        assert!(flow.enter(&two, 1).is_ok());
        flow.leave();
        flow.leave();
        flow.leave();
        assert_eq!(flow.in_flight(), 0);
        let slow = Limit { requests_per_second: NonZeroU32::new(1), ..Limit::NONE };
        assert!(flow.enter(&slow, 1).is_ok());
        assert!(matches!(flow.enter(&slow, 1), Err(Hit::Rate { per_second: 1, burst: 1, .. })));
        assert_eq!(flow.in_flight(), 1);
    }
}
