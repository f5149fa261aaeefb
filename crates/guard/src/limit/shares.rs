//! What the node can run, shared out between the namespaces that ask for it.
//!
//! As long as the node is not full, everybody gets what they ask for. From then on a namespace is let through only up to
//! its share: the node's bound over the number of namespaces that are active. Who is below it is let through even then,
//! so that nobody is refused because of what others hold already, and the node runs more than its bound for as long as
//! those others take to end what they have. With K namespaces that is 1 + 1/2 + ... + 1/K times the bound at the very
//! worst; what must never be exceeded, instances and memory, has bounds of its own in the pool.
//!
//! The same holds for the rate: a namespace always has its part of it, and what is left goes to who comes first.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use alula_model::Limit;

use super::flow::{Hit, Took};
use super::rate::{Bucket, Rate};

/// A namespace is active while it has requests in flight, and for one to two of these after its last one.
const EPOCH_NS: u64 = 1_000_000_000;

/// What the node runs.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    in_flight: AtomicU32,
    bucket: Bucket,
    /// Namespaces with requests in flight.
    busy: AtomicU32,
    epoch: AtomicU64,
    /// Namespaces that asked in this epoch and in the one before.
    asking: AtomicU32,
    asked: AtomicU32,
}

/// What one namespace runs.
#[derive(Debug, Default)]
pub(crate) struct Part {
    in_flight: AtomicU32,
    bucket: Bucket,
    /// The last epoch that it asked in, plus one.
    seen: AtomicU64,
}

impl Shares {
    /// One more request of the namespace of `part`, where the node's `limit` allows it.
    pub(crate) fn enter(&self, part: &Part, limit: &Limit, now: u64) -> Result<Took, Hit> {
        let active = self.note(part, now);
        if let Some(most) = limit.in_flight.map(NonZeroU32::get) {
            self.take_place(part, most, active)?;
        } else {
            self.in_flight.fetch_add(1, Relaxed);
            self.begin(part.in_flight.fetch_add(1, Relaxed));
        }
        let took = self.take_rate(part, limit, active, now);
        took.inspect_err(|_| self.leave(part))
    }

    fn take_place(&self, part: &Part, most: u32, active: u32) -> Result<(), Hit> {
        let has_room = |in_flight: u32| (in_flight < most).then_some(in_flight + 1);
        if self.in_flight.fetch_update(Relaxed, Relaxed, has_room).is_ok() {
            self.begin(part.in_flight.fetch_add(1, Relaxed));
            return Ok(());
        }
        let share = (most / active).max(1);
        let below_share = |own: u32| (own < share).then_some(own + 1);
        match part.in_flight.fetch_update(Relaxed, Relaxed, below_share) {
            Ok(before) => {
                self.in_flight.fetch_add(1, Relaxed);
                self.begin(before);
                Ok(())
            }
            Err(_) => Err(Hit::Share { share, most }),
        }
    }

    fn take_rate(&self, part: &Part, limit: &Limit, active: u32, now: u64) -> Result<Took, Hit> {
        let Some((per_second, burst)) = limit.rate() else { return Ok(None) };
        let rate = Rate::new(per_second, burst);
        if part.bucket.take(rate.shared_by(active.into()), now).is_ok() {
            self.bucket.charge(rate, now);
            return Ok(Some(rate));
        }
        match self.bucket.take(rate, now) {
            Ok(()) => Ok(Some(rate)),
            Err(wait_ns) => Err(Hit::Rate { per_second: per_second.get(), burst: burst.get(), wait_ns }),
        }
    }

    /// A request has ended, or was refused after all.
    pub(crate) fn leave(&self, part: &Part) {
        self.in_flight.fetch_sub(1, Relaxed);
        if part.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.busy.fetch_sub(1, Relaxed);
        }
    }

    /// What a request that was refused after all took of the rate.
    pub(crate) fn give_back(&self, rate: Rate) {
        self.bucket.give_back(rate);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    fn begin(&self, before: u32) {
        if before == 0 {
            self.busy.fetch_add(1, Relaxed);
        }
    }

    /// Notes that a namespace asks; tells how many are active, itself included.
    fn note(&self, part: &Part, now: u64) -> u32 {
        let epoch = now / EPOCH_NS;
        let known = self.epoch.load(Relaxed);
        if epoch > known && self.epoch.compare_exchange(known, epoch, Relaxed, Relaxed).is_ok() {
            let asked = self.asking.swap(0, Relaxed);
            self.asked.store(if epoch == known + 1 { asked } else { 0 }, Relaxed);
        }
        if part.seen.swap(epoch + 1, Relaxed) != epoch + 1 {
            self.asking.fetch_add(1, Relaxed);
        }
        let recent = self.asking.load(Relaxed).max(self.asked.load(Relaxed));
        recent.max(self.busy.load(Relaxed)).max(1)
    }
}

impl Part {
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.in_flight.load(Relaxed) == 0 && self.bucket.is_full(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_flight(most: u32) -> Limit {
        Limit { in_flight: NonZeroU32::new(most), ..Limit::NONE }
    }

    #[test]
    fn a_flood_holds_all_until_others_come_and_then_its_share() {
        let (shares, flood, other) = (Shares::default(), Part::default(), Part::default());
        let limit = in_flight(10);
        let enter = |part: &Part| shares.enter(part, &limit, 1);
        assert_eq!((0..50).filter(|_| enter(&flood).is_ok()).count(), 10);
        assert_eq!(
            (0..50).filter(|_| enter(&other).is_ok()).count(),
            5,
            "its share, although the node is full"
        );
        assert_eq!(enter(&flood), Err(Hit::Share { share: 5, most: 10 }));
        (0..6).for_each(|_| shares.leave(&flood));
        assert_eq!((0..50).filter(|_| enter(&flood).is_ok()).count(), 1);
        assert_eq!(shares.in_flight(), 10);
    }

    #[test]
    fn a_flood_leaves_the_others_their_part_of_the_rate() {
        let (shares, flood, other) = (Shares::default(), Part::default(), Part::default());
        let limit = Limit {
            requests_per_second: NonZeroU32::new(1_000),
            burst: NonZeroU32::new(10),
            in_flight: None,
        };
        let mut through = [0, 0];
        for ms in 0..10_000_u64 {
            let now = 5_000_000_000 + ms * 1_000_000;
            for _ in 0..20 {
                let entered = shares.enter(&flood, &limit, now);
                through[0] += usize::from(entered.map(|_| shares.leave(&flood)).is_ok());
            }
            if ms % 4 == 0 {
                assert!(shares.enter(&other, &limit, now).is_ok(), "refused after {ms} ms");
                shares.leave(&other);
                through[1] += 1;
            }
        }
        let all = through[0] + through[1];
        assert!((10_000..=10_600).contains(&all), "{through:?}");
    }

    #[test]
    fn who_was_active_a_moment_ago_counts_and_is_forgotten() {
        let (shares, one, other) = (Shares::default(), Part::default(), Part::default());
        assert_eq!(shares.note(&one, 0), 1);
        assert_eq!(shares.note(&other, EPOCH_NS / 2), 2);
        assert_eq!(shares.note(&one, EPOCH_NS), 2);
        assert_eq!(shares.note(&one, 2 * EPOCH_NS), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(usize),
        Leave(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_usize..6).prop_map(Step::Enter),
            3 => (0_usize..6).prop_map(Step::Leave),
            1 => (0_u64..3 * EPOCH_NS).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// With K active namespaces none that has less than its share, a K-th of the bound, is ever refused; nobody beyond
        /// it is let through while the node is full; and the node holds no more than the harmonic number allows.
        #[test]
        fn nobody_below_its_share_is_refused(
            most in 1_u32..40, steps in prop::collection::vec(step(), 1..400),
        ) {
            let limit = in_flight(most);
            let shares = Shares::default();
            let parts: Vec<Part> = (0..6).map(|_| Part::default()).collect();
            let (mut own, mut now) = ([0_u32; 6], 0);
            for step in steps {
                match step {
                    Step::Wait(ns) => now += ns,
                    Step::Leave(who) if own[who] > 0 => {
                        own[who] -= 1;
                        shares.leave(&parts[who]);
                    }
                    Step::Leave(_) => {}
                    Step::Enter(who) => {
                        let active = shares.note(&parts[who], now);
                        let total: u32 = own.iter().sum();
                        let share = (most / active).max(1);
                        let entered = shares.enter(&parts[who], &limit, now).is_ok();
                        prop_assert_eq!(entered, total < most || own[who] < share);
                        own[who] += u32::from(entered);
                        prop_assert_eq!(shares.in_flight(), own.iter().sum::<u32>());
                    }
                }
                let harmonic: f64 = (1..=6).map(|k| 1.0 / f64::from(k)).sum();
                let bound = f64::from(most) * harmonic + 6.0;
                prop_assert!(f64::from(own.iter().sum::<u32>()) <= bound);
            }
        }
    }
}
