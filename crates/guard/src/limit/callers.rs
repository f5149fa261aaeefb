//! What each caller has in flight and left of its rate, in memory of a fixed size.
//!
//! A caller is remembered while there is something to remember: requests in flight, or a rate that is not wholly its own
//! again. Where there is no place for another one, callers who are not remembered share one place between them. So whoever
//! comes from more addresses than there are places gets no more than one caller's worth for all of the rest, and never
//! makes the platform forget what anybody has had.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{AddressBlock, Caller, Limit};

use super::flow::{Hit, Took, take};
use crate::Origin;

/// Parts with a lock each, so that callers seldom wait for each other.
const SHARDS: usize = 64;
/// Where a part is full, what can be forgotten is looked for no more often than this, in nanoseconds.
const SWEEP_EVERY_NS: u64 = 10_000_000;
/// A network of IPv6: what one subscriber has (RFC 6177).
const IPV6_PREFIX_BITS: u8 = 64;

/// Who is told from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who<'a> {
    /// By name.
    Named(&'a str),
    /// By address: one of IPv4, or the /64 of one of IPv6.
    At(AddressBlock),
}

impl<'a> Who<'a> {
    /// Who calls, where it is somebody that limits are for; the platform itself is not.
    pub(crate) fn of(origin: Origin<'a>) -> Option<Self> {
        match origin.caller {
            Caller::Platform => None,
            Caller::Public => origin.source.map(Self::at),
            named => named.name().map(Self::Named),
        }
    }

    pub(crate) fn at(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::At(AddressBlock::around(address, if address.is_ipv4() { 32 } else { IPV6_PREFIX_BITS }))
    }
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::At(block) => write!(f, "{block}"),
        }
    }
}

/// Callers of a node or of one function.
#[derive(Debug)]
pub(crate) struct Callers {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    shard_len_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<u64, State>,
    /// All who have no place of their own.
    crowd: State,
    sweep_at: u64,
}

/// What is remembered of one caller.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The theoretical arrival time of its rate.
    arrival: u64,
    in_flight: u32,
}

impl State {
    fn is_idle(&self, now: u64) -> bool {
        self.in_flight == 0 && self.arrival <= now
    }
}

/// A caller's place; given back with [`Callers::leave`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    shard: usize,
    /// Without it, one of the crowd.
    key: Option<u64>,
}

impl Callers {
    /// Room for about `len_max` callers.
    pub(crate) fn new(len_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), shards, shard_len_max: len_max.div_ceil(SHARDS).max(1) }
    }

    fn place(&self, who: &impl Hash) -> (usize, u64) {
        let key = self.hasher.hash_one(who);
        // The map takes other bits of the key than this.
        ((key >> 32) as usize % SHARDS, key)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request of `who`, where `limit` allows it.
    pub(crate) fn enter(&self, who: &Who<'_>, limit: &Limit, now: u64) -> Result<(Seat, Took), Hit> {
        let (shard, key) = self.place(who);
        let mut locked = self.lock(shard);
        let key = locked.has_place(key, now, self.shard_len_max).then_some(key);
        let Shard { known, crowd, .. } = &mut *locked;
        let state = key.map_or(crowd, |key| known.entry(key).or_default());
        let most = limit.in_flight.map_or(u32::MAX, std::num::NonZeroU32::get);
        if state.in_flight >= most {
            return Err(Hit::InFlight { most });
        }
        let took = take(limit, |rate| rate.after(state.arrival, now).map(|arrival| state.arrival = arrival))?;
        state.in_flight += 1;
        Ok((Seat { shard, key }, took))
    }

    /// Whether `who` would be refused now.
    pub(crate) fn peek(&self, who: &Who<'_>, limit: &Limit, now: u64) -> Result<(), Hit> {
        let (shard, key) = self.place(who);
        let locked = self.lock(shard);
        let Some(state) = locked.known.get(&key).copied() else { return Ok(()) };
        drop(locked);
        match limit.in_flight.map(std::num::NonZeroU32::get) {
            Some(most) if state.in_flight >= most => return Err(Hit::InFlight { most }),
            _ => {}
        }
        take(limit, |rate| rate.after(state.arrival, now).map(drop)).map(drop)
    }

    /// A request has ended.
    pub(crate) fn leave(&self, seat: Seat, give_back: Took) {
        let mut locked = self.lock(seat.shard);
        let Shard { known, crowd, .. } = &mut *locked;
        let state = match seat.key {
            Some(key) => known.get_mut(&key),
            None => Some(crowd),
        };
        let Some(state) = state else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(rate) = give_back {
            state.arrival = rate.before(state.arrival);
        }
    }

    /// Whether nobody is worth remembering.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        (0..SHARDS).all(|shard| {
            let shard = self.lock(shard);
            shard.crowd.is_idle(now) && shard.known.values().all(|state| state.is_idle(now))
        })
    }

    /// How many are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).known.len()).sum()
    }
}

impl Shard {
    /// Whether the caller has a place of its own, or gets one.
    fn has_place(&mut self, key: u64, now: u64, len_max: usize) -> bool {
        if self.known.len() < len_max || self.known.contains_key(&key) {
            return true;
        }
        if now < self.sweep_at {
            return false;
        }
        self.sweep_at = now + SWEEP_EVERY_NS;
        self.known.retain(|_, state| !state.is_idle(now));
        self.known.len() < len_max
    }
}

/// A seat that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seated {
    callers: Arc<Callers>,
    seat: Seat,
    took: Took,
}

impl Seated {
    pub(crate) fn enter(callers: &Arc<Callers>, who: &Who<'_>, limit: &Limit, now: u64) -> Result<Self, Hit> {
        let (seat, took) = callers.enter(who, limit, now)?;
        Ok(Self { callers: Arc::clone(callers), seat, took })
    }

    /// From now on what was taken of the rate stays taken.
    pub(crate) fn keep(&mut self) {
        self.took = None;
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.callers.leave(self.seat, self.took);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn per_second(requests: u32) -> Limit {
        Limit { requests_per_second: NonZeroU32::new(requests), ..Limit::NONE }
    }

    fn at(text: &str) -> Who<'static> {
        Who::at(text.parse().unwrap())
    }

    fn through(callers: &Callers, who: &Who<'_>, limit: &Limit, now: u64) -> usize {
        (0..100)
            .filter(|_| {
                let entered = callers.enter(who, limit, now);
                entered.map(|(seat, _)| callers.leave(seat, None)).is_ok()
            })
            .count()
    }

    #[test]
    fn callers_are_told_apart_by_name_by_address_and_by_network() {
        let (callers, limit) = (Callers::new(1_000), per_second(5));
        assert_eq!(through(&callers, &Who::Named("key:a"), &limit, SECOND), 5);
        assert_eq!(through(&callers, &Who::Named("key:b"), &limit, SECOND), 5);
        assert_eq!(through(&callers, &at("1.2.3.4"), &limit, SECOND), 5);
        assert_eq!(through(&callers, &at("::ffff:1.2.3.4"), &limit, SECOND), 0);
        assert_eq!(through(&callers, &at("1.2.3.5"), &limit, SECOND), 5);
        assert_eq!(through(&callers, &at("2001:db8::1"), &limit, SECOND), 5);
        assert_eq!(through(&callers, &at("2001:db8::ffff:1"), &limit, SECOND), 0);
        assert_eq!(through(&callers, &at("2001:db8:0:1::1"), &limit, SECOND), 5);
        assert_eq!(callers.peek(&at("1.2.3.9"), &limit, SECOND), Ok(()));
        assert!(callers.peek(&at("1.2.3.4"), &limit, SECOND).is_err());
    }

    #[test]
    fn coming_from_ever_more_addresses_helps_nobody() {
        let (callers, limit) = (Callers::new(256), per_second(2));
        assert_eq!(through(&callers, &Who::Named("the first"), &limit, SECOND), 2);
        let flood: usize = (0..20_000_u32)
            .map(|n| through(&callers, &Who::at(std::net::Ipv4Addr::from_bits(n).into()), &limit, SECOND))
            .sum();
        let places = callers.len();
        assert!(places <= 256, "{places}");
        assert!(flood <= 2 * (places + SHARDS), "{flood} came through");
        assert_eq!(through(&callers, &Who::Named("the first"), &limit, SECOND), 0, "it is still known");
        // When what they have had is their own again, they are forgotten and others have a place.
        assert_eq!(through(&callers, &Who::Named("a new one"), &limit, 10 * SECOND), 2);
    }

    #[test]
    fn who_has_requests_in_flight_is_not_forgotten() {
        let callers = Arc::new(Callers::new(1));
        let two = Limit { in_flight: NonZeroU32::new(2), ..Limit::NONE };
        let who = Who::Named("key:a");
        let first = Seated::enter(&callers, &who, &two, SECOND).unwrap();
        let _second = Seated::enter(&callers, &who, &two, SECOND).unwrap();
        for n in 0..10_000_u32 {
            let other = Who::at(std::net::Ipv4Addr::from_bits(n).into());
            drop(Seated::enter(&callers, &other, &two, n.into()));
        }
        assert!(Seated::enter(&callers, &who, &two, 9 * SECOND).is_err());
        drop(first);
        assert!(Seated::enter(&callers, &who, &two, 9 * SECOND).is_ok());
    }
}
