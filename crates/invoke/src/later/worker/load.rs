//! How much of a function's work runs at once: its limit, its ramp, its rate.

use std::collections::HashMap;
use std::time::Duration;

use alula_model::{FunctionSpec, Name};
use tokio::time::Instant;

use super::fair::Weights;
use crate::later::budget::Bucket;
use crate::later::options::{
    DELIVERY_PERCENT, GENERAL_PERCENT, NAMESPACE_WEIGHT_DEFAULT, RAMP_FIRST, RETRY_PERCENT,
};
use crate::later::{Lane, LaneClass, Options};

/// Deliveries of one function at once: an address that hangs must not hold more.
const DELIVERIES_AT_ONCE: usize = 8;

/// What may be claimed of a lane now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// So many messages.
    For(usize),
    /// None until something of this function, or of its class, has ended.
    Full,
    /// None before this moment.
    From(Instant),
}

/// Calls that may lie claimed before the function's instances beyond what these can run, so that neither waits for the
/// disk between two calls.
const AHEAD_MAX: usize = 32;
/// As long as an attempt, its wait for an instance included, takes less than this, more may lie ahead; what has been claimed
/// cannot be had by another node.
const AHEAD_WHILE: Duration = Duration::from_millis(50);

/// How an attempt went, as far as the ramp is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// There was room for it; it took this long.
    Through(Duration),
    /// There was no room for it.
    Refused,
}

/// Everything that runs from the queue.
#[derive(Debug)]
pub(super) struct Loads {
    options: Options,
    /// Places that are taken, those of dedicated functions left out.
    shared: usize,
    classes: HashMap<LaneClass, usize>,
    functions: HashMap<(Name, Name), Load>,
    namespaces: HashMap<Name, Bucket>,
}

/// What one function has running.
#[derive(Debug)]
struct Load {
    calls: usize,
    deliveries: usize,
    /// How many calls may run, up to the limit: grows while they go through.
    window: usize,
    stated: Stated,
    rate: Option<Bucket>,
}

/// What the function's latest version states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stated {
    /// Calls that can run at once.
    limit: usize,
    /// Calls that may lie ahead of those.
    ahead_max: usize,
    rate_per_second: Option<u32>,
    weight: u64,
}

impl Stated {
    fn of(spec: Option<&FunctionSpec>) -> Self {
        // A function that is gone has messages that must come to their end.
        let Some(spec) = spec else {
            return Self { limit: 1, ahead_max: 0, rate_per_second: None, weight: 1 };
        };
        let asynchronous = &spec.asynchronous;
        let instances = spec.max_instances.saturating_mul(spec.concurrency);
        Self {
            limit: asynchronous.concurrency.unwrap_or(instances).max(1) as usize,
            // Who states how many run at once means it; the pool keeps to the number of instances by itself.
            ahead_max: if asynchronous.concurrency.is_some() { 0 } else { AHEAD_MAX },
            rate_per_second: asynchronous.rate_per_second,
            weight: asynchronous.weight.into(),
        }
    }
}

impl Loads {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            shared: 0,
            classes: HashMap::new(),
            functions: HashMap::new(),
            namespaces: HashMap::new(),
        }
    }

    /// Whether work of a class may take a place at all.
    pub(super) fn has_room(&self, class: LaneClass) -> bool {
        self.class_room(class) > 0
    }

    fn class_room(&self, class: LaneClass) -> usize {
        let all = self.options.in_flight_max;
        let most = match class {
            // They have places of their own, as many as they state.
            LaneClass::Dedicated => return usize::MAX,
            LaneClass::Scheduled => all,
            LaneClass::General => all * GENERAL_PERCENT / 100,
            LaneClass::Retry => all * RETRY_PERCENT / 100,
            LaneClass::Delivery => all * DELIVERY_PERCENT / 100,
        };
        let taken = self.classes.get(&class).copied().unwrap_or(0);
        most.max(1).saturating_sub(taken).min(all.saturating_sub(self.shared))
    }

    /// What may be claimed of `lane`, whose function states `spec`.
    pub(super) fn room(&mut self, lane: &Lane, spec: Option<&FunctionSpec>, now: Instant) -> Room {
        let class_room = self.class_room(lane.class);
        let namespace_room = match self.namespace_bucket(&lane.namespace, now) {
            None => usize::MAX,
            Some(bucket) => match bucket.available(now) {
                0 => return Room::From(bucket.next_at()),
                available => available,
            },
        };
        let load = self.load(lane, spec, now);
        let room = match lane.class {
            LaneClass::Delivery => DELIVERIES_AT_ONCE.saturating_sub(load.deliveries),
            _ => load.window.min(load.stated.limit + load.stated.ahead_max).saturating_sub(load.calls),
        };
        let mut room = room.min(class_room);
        if let Some(rate) = load.rate.as_mut().filter(|_| lane.class != LaneClass::Delivery) {
            match rate.available(now) {
                0 => return Room::From(rate.next_at()),
                available => room = room.min(available),
            }
        }
        match room.min(namespace_room) {
            0 => Room::Full,
            room => Room::For(room),
        }
    }

    fn namespace_bucket(&mut self, namespace: &Name, now: Instant) -> Option<&mut Bucket> {
        let rate = *self.options.namespace_rates.get(namespace.as_str())?;
        Some(self.namespaces.entry(namespace.clone()).or_insert_with(|| Bucket::new(rate, now)))
    }

    fn load(&mut self, lane: &Lane, spec: Option<&FunctionSpec>, now: Instant) -> &mut Load {
        let stated = Stated::of(spec);
        let key = (lane.namespace.clone(), lane.function.clone());
        let load = self.functions.entry(key).or_insert_with(|| Load {
            calls: 0,
            deliveries: 0,
            window: RAMP_FIRST,
            stated,
            rate: stated.rate_per_second.map(|rate| Bucket::new(rate, now)),
        });
        if load.stated != stated {
            load.rate = stated.rate_per_second.map(|rate| Bucket::new(rate, now));
            load.stated = stated;
        }
        load
    }

    /// The shares by which a lane is charged.
    pub(super) fn weights(&self, lane: &Lane) -> Weights {
        let key = (lane.namespace.clone(), lane.function.clone());
        let namespace = self.options.namespace_weights.get(lane.namespace.as_str());
        Weights {
            namespace: namespace.copied().unwrap_or(NAMESPACE_WEIGHT_DEFAULT).into(),
            function: self.functions.get(&key).map_or(1, |load| load.stated.weight),
        }
    }

    /// Places are taken before it is known how many messages a claim finds.
    pub(super) fn reserve(&mut self, lane: &Lane, count: usize) {
        self.change(lane, |places| *places += count);
        if let Some(bucket) = self.namespaces.get_mut(&lane.namespace) {
            bucket.take(count);
        }
        let key = (lane.namespace.clone(), lane.function.clone());
        if let Some(rate) = self.functions.get_mut(&key).and_then(|load| load.rate.as_mut()) {
            rate.take(count);
        }
    }

    /// Places that a claim did not fill.
    pub(super) fn give_back(&mut self, lane: &Lane, count: usize) {
        self.change(lane, |places| *places = places.saturating_sub(count));
        if let Some(bucket) = self.namespaces.get_mut(&lane.namespace) {
            bucket.give_back(count);
        }
        let key = (lane.namespace.clone(), lane.function.clone());
        if let Some(rate) = self.functions.get_mut(&key).and_then(|load| load.rate.as_mut()) {
            rate.give_back(count);
        }
    }

    /// A message's attempt has ended.
    pub(super) fn ended(&mut self, lane: &Lane, went: Went) {
        self.change(lane, |places| *places = places.saturating_sub(1));
        let key = (lane.namespace.clone(), lane.function.clone());
        if lane.class != LaneClass::Delivery
            && let Some(load) = self.functions.get_mut(&key)
        {
            let Stated { limit, ahead_max, .. } = load.stated;
            load.window = match went {
                Went::Refused => (load.window / 2).max(1),
                Went::Through(_) if load.window < limit => load.window + 1,
                Went::Through(took) if took < AHEAD_WHILE => (load.window + 1).min(limit + ahead_max),
                Went::Through(_) => (load.window - load.window.div_ceil(4)).max(limit),
            };
        }
    }

    fn change(&mut self, lane: &Lane, by: impl Fn(&mut usize)) {
        let key = (lane.namespace.clone(), lane.function.clone());
        let Some(load) = self.functions.get_mut(&key) else { return };
        let is_delivery = lane.class == LaneClass::Delivery;
        by(if is_delivery { &mut load.deliveries } else { &mut load.calls });
        if lane.class != LaneClass::Dedicated {
            by(&mut self.shared);
            by(self.classes.entry(lane.class).or_default());
        }
    }

    /// Forgets what does nothing, so that its next burst begins small again.
    pub(super) fn forget_idle(&mut self) {
        self.functions.retain(|_, load| load.calls + load.deliveries > 0 || load.rate.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(text: &str) -> Lane {
        Lane::parse(text).unwrap()
    }

    fn spec(max_instances: u32) -> FunctionSpec {
        FunctionSpec { max_instances, ..FunctionSpec::new("exec") }
    }

    /// So long that nothing is claimed ahead.
    const SLOW: Duration = Duration::from_secs(1);

    fn take(loads: &mut Loads, lane: &Lane, spec: &FunctionSpec) -> usize {
        match loads.room(lane, Some(spec), Instant::now()) {
            Room::For(room) => {
                loads.reserve(lane, room);
                room
            }
            _ => 0,
        }
    }

    #[test]
    fn a_backlog_is_ramped_up_and_refusals_halve_it() {
        let mut loads = Loads::new(Options::default());
        let (lane, spec) = (lane("a/f/general"), spec(20));
        assert_eq!(take(&mut loads, &lane, &spec), RAMP_FIRST);
        assert_eq!(take(&mut loads, &lane, &spec), 0);
        (0..RAMP_FIRST).for_each(|_| loads.ended(&lane, Went::Through(SLOW)));
        assert_eq!(take(&mut loads, &lane, &spec), 2 * RAMP_FIRST);
        (0..2 * RAMP_FIRST).for_each(|_| loads.ended(&lane, Went::Through(SLOW)));
        (0..2).for_each(|_| loads.reserve(&lane, 1));
        (0..2).for_each(|_| loads.ended(&lane, Went::Refused));
        assert_eq!(take(&mut loads, &lane, &spec), RAMP_FIRST);
    }

    #[test]
    fn short_calls_are_claimed_ahead_until_they_wait_for_long() {
        let mut loads = Loads::new(Options::default());
        let (lane, spec) = (lane("a/f/general"), spec(1));
        let mut at_once = 0;
        for _ in 0..20 {
            let taken = take(&mut loads, &lane, &spec);
            (0..taken).for_each(|_| loads.ended(&lane, Went::Through(Duration::from_millis(2))));
            at_once = at_once.max(taken);
        }
        assert_eq!(at_once, 1 + AHEAD_MAX);
        (0..40).for_each(|_| loads.ended(&lane, Went::Through(SLOW)));
        assert_eq!(take(&mut loads, &lane, &spec), 1);
    }

    #[test]
    fn one_kind_never_takes_every_place_and_dedicated_functions_have_their_own() {
        let mut loads = Loads::new(Options { in_flight_max: 10, ..Options::default() });
        let spec = spec(1_000);
        for n in 0..10 {
            take(&mut loads, &lane(&format!("a/f{n}/general")), &spec);
        }
        assert!(!loads.has_room(LaneClass::General));
        assert_eq!(take(&mut loads, &lane("a/s/scheduled"), &spec), 2);
        assert_eq!(take(&mut loads, &lane("a/r/retry"), &spec), 0);
        assert_eq!(take(&mut loads, &lane("a/d/dedicated"), &spec), RAMP_FIRST);
    }

    #[test]
    fn rates_of_functions_and_namespaces_hold() {
        let rates = [("slow".to_owned(), 2)].into();
        let mut loads = Loads::new(Options { namespace_rates: rates, ..Options::default() });
        let mut spec = spec(20);
        assert_eq!(take(&mut loads, &lane("slow/f/general"), &spec), 2);
        assert!(matches!(loads.room(&lane("slow/g/general"), Some(&spec), Instant::now()), Room::From(_)));
        spec.asynchronous.rate_per_second = Some(1);
        assert_eq!(take(&mut loads, &lane("a/f/general"), &spec), 1);
        assert!(matches!(loads.room(&lane("a/f/general"), Some(&spec), Instant::now()), Room::From(_)));
    }
}
