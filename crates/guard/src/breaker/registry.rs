//! All breakers of a node, and what the platform asks them.
//!
//! A call of what has never failed takes one lock of many, for reading, and finds nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{BreakerSpec, Clock, ErrorCode, Fault, FunctionSpec, Name, Qualifier, VersionKey};
use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::event::{BreakerEvent, BreakerWatch, State};
use super::hand::{Hand, HandKey, Held, Scope};
use super::machine::{Sample, Ticket, Verdict};
use super::set::{Breaker, Set};
use super::window::Counts;
use crate::Ended;

/// Parts that calls lock by themselves.
const SHARDS: usize = 64;
/// Versions of one part that have breakers: 10 000 in all. Of more that fail, nothing is counted until others are well.
const SETS_PER_SHARD_MAX: usize = 157;

/// What breakers need of their surroundings.
#[derive(Debug, Clone)]
pub struct BreakerParts {
    /// Tells when something changed.
    pub clock: Arc<dyn Clock>,
    /// Random bits.
    pub random: fn() -> u64,
    /// Is told of every change.
    pub watch: Arc<dyn BreakerWatch>,
}

/// All breakers. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Breakers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: BreakerParts,
    hasher: RandomState,
    shards: [RwLock<HashMap<VersionKey, Arc<Set>>>; SHARDS],
    hands: ArcSwap<HashMap<HandKey, Hand>>,
}

/// A call that a breaker is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// The version that it would run on.
    pub key: &'a VersionKey,
    /// What it was asked for by.
    pub qualifier: &'a Qualifier,
    /// What the function's owner states.
    pub spec: &'a FunctionSpec,
}

/// A call was let through; to be handed back when it has ended.
#[derive(Debug, Default)]
pub struct Passed(Option<(Arc<Breaker>, Ticket)>);

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What its caller is told.
    pub fault: Fault,
    /// When another try makes sense, in milliseconds from now; nobody knows, where a hand holds it.
    pub retry_after_ms: Option<u64>,
    /// What holds it by hand, where something does.
    pub held: Option<Held>,
}

/// A breaker as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerView {
    /// Whose.
    pub key: VersionKey,
    /// Of the whole version or of one alias.
    pub scope: Scope,
    /// What it does.
    pub state: State,
    /// Its window now.
    pub counts: Counts,
    /// The share of calls that it refuses now, from 0 to 1.
    pub refused_share: f64,
    /// How long it stays open, in milliseconds.
    pub open_for_ms: Option<u64>,
    /// What changed, the oldest first.
    pub events: Vec<BreakerEvent>,
}

impl Breakers {
    /// Breakers that know nothing yet.
    #[must_use]
    pub fn new(parts: BreakerParts) -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        let shared = Shared { parts, hasher: RandomState::new(), shards, hands: ArcSwap::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Lets a call through, or refuses it.
    pub fn admit(&self, call: &Called<'_>, now: Instant) -> Result<Passed, Refused> {
        match self.held(call) {
            Some(Held::Closed) => return Ok(Passed::default()),
            Some(held) => return Err(by_hand(call, held)),
            None => {}
        }
        let Some(set) = call.spec.breaker.on().and_then(|_| self.find(call.key)) else {
            return Ok(Passed::default());
        };
        let Some(breaker) = set.find(call.qualifier) else { return Ok(Passed::default()) };
        let parts = &self.shared.parts;
        let chance = || (parts.random)() as f64 / u64::MAX as f64;
        let (verdict, told) = breaker.admit(set.spec(), now, || parts.clock.now(), chance);
        self.tell(told);
        match verdict {
            Verdict::Pass(ticket) => Ok(Passed(Some((breaker, ticket)))),
            Verdict::Refuse(wait) => Err(refused(call, &breaker, wait)),
        }
    }

    /// A call that was let through has ended so; `None` where nobody knows.
    pub fn ended(&self, call: &Called<'_>, passed: Passed, ended: Option<&Ended>, now: Instant) {
        let Some(spec) = call.spec.breaker.on() else { return };
        let sample = ended.map_or(Sample::Nothing, |ended| sample(spec, call.spec, ended));
        let is_news = matches!(sample, Sample::Failed | Sample::Slow | Sample::Platform);
        let known = passed.0.or_else(|| {
            let set = if is_news { self.find_or_new(call.key, spec, now) } else { self.find(call.key) };
            let set = set?;
            let breaker =
                if is_news { set.find_or_new(call.qualifier, now) } else { set.find(call.qualifier)? };
            Some((breaker, Ticket::default()))
        });
        if let Some((breaker, ticket)) = known {
            let at = || self.shared.parts.clock.now();
            self.tell(breaker.ended(spec, now, at, ticket, sample));
        }
    }

    /// Sets everything that is held by hand.
    pub fn hold(&self, hands: HashMap<HandKey, Hand>) {
        self.shared.hands.store(Arc::new(hands));
    }

    /// What is held by hand, in order.
    #[must_use]
    pub fn hands(&self) -> Vec<(HandKey, Hand)> {
        let hands = self.shared.hands.load();
        let mut all: Vec<_> = hands.iter().map(|(key, hand)| (key.clone(), hand.clone())).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// What a hand does with a call: the narrowest that is set.
    pub(crate) fn held(&self, call: &Called<'_>) -> Option<Held> {
        let hands = self.shared.hands.load();
        if hands.is_empty() {
            return None;
        }
        let VersionKey { namespace, function, version } = call.key;
        let of = |scope| {
            let key = HandKey { namespace: namespace.clone(), function: function.clone(), scope };
            hands.get(&key).map(|hand| hand.held)
        };
        let alias = match call.qualifier {
            Qualifier::Alias(name) => of(Scope::Alias(name.clone())),
            Qualifier::Latest | Qualifier::Version(_) => None,
        };
        alias.or_else(|| of(Scope::Version(*version))).or_else(|| of(Scope::All))
    }

    /// The breakers of a namespace, or of one function of it, or all.
    #[must_use]
    pub fn views(&self, namespace: Option<&Name>, function: Option<&Name>, now: Instant) -> Vec<BreakerView> {
        let fits = |key: &VersionKey| {
            namespace.is_none_or(|name| *name == key.namespace)
                && function.is_none_or(|name| *name == key.function)
        };
        let mut views = Vec::new();
        for shard in &self.shared.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let sets = shard.iter().filter(|(key, _)| fits(key));
            views.extend(
                sets.flat_map(|(key, set)| set.all().into_iter().map(|one| view(key, set, &one, now))),
            );
        }
        views.sort_unstable_by(|one, other| (&one.key, &one.scope).cmp(&(&other.key, &other.scope)));
        views
    }

    /// Lets go of what knows nothing any more. To be called now and then.
    pub fn forget_idle(&self, now: Instant) {
        for shard in &self.shared.shards {
            self.forget_in(&mut shard.write().unwrap_or_else(PoisonError::into_inner), now);
        }
    }

    fn forget_in(&self, shard: &mut HashMap<VersionKey, Arc<Set>>, now: Instant) {
        shard.retain(|key, set| {
            let is_kept = !set.is_forgettable(now);
            if !is_kept {
                let VersionKey { namespace, function, version } = key;
                let watch = &self.shared.parts.watch;
                set.all().iter().for_each(|one| watch.gone(namespace, function, *version, one.scope()));
            }
            is_kept
        });
    }

    fn shard(&self, key: &VersionKey) -> &RwLock<HashMap<VersionKey, Arc<Set>>> {
        let hash = self.shared.hasher.hash_one(key);
        &self.shared.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    fn find(&self, key: &VersionKey) -> Option<Arc<Set>> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn find_or_new(&self, key: &VersionKey, spec: &BreakerSpec, now: Instant) -> Option<Arc<Set>> {
        let mut shard = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.get(key) {
            return Some(Arc::clone(known));
        }
        if shard.len() >= SETS_PER_SHARD_MAX {
            self.forget_in(&mut shard, now);
        }
        if shard.len() >= SETS_PER_SHARD_MAX {
            return None;
        }
        let set = Arc::new(Set::new(key, spec, now));
        shard.insert(key.clone(), Arc::clone(&set));
        Some(set)
    }

    fn tell(&self, event: Option<BreakerEvent>) {
        if let Some(event) = event {
            self.shared.parts.watch.changed(&event);
        }
    }
}

/// What the end of a call says.
fn sample(spec: &BreakerSpec, function: &FunctionSpec, ended: &Ended) -> Sample {
    let run_ms = ended.phases.run_us / 1_000;
    let is_slow = spec.slow_from_ms(function.timeout_ms).is_some_and(|from_ms| run_ms >= from_ms);
    match (ended.error, ended.http_status) {
        (Some(code), _) if spec.counts_fault(code) => Sample::Failed,
        // A caller who went away says nothing, unless they had waited for too long.
        (Some(ErrorCode::CallerGone), _) | (None, None) if is_slow => Sample::Slow,
        (Some(code), _) if code.blame() == alula_model::Blame::Platform => Sample::Platform,
        (Some(_), _) | (None, None) => Sample::Nothing,
        (None, Some(status)) if spec.counts_status(status) => Sample::Failed,
        (None, Some(_)) if is_slow => Sample::Slow,
        (None, Some(_)) => Sample::Good,
    }
}

fn view(key: &VersionKey, set: &Set, breaker: &Breaker, now: Instant) -> BreakerView {
    let look = breaker.look(set.spec(), now);
    BreakerView {
        key: key.clone(),
        scope: breaker.scope().clone(),
        state: look.state,
        counts: look.counts,
        refused_share: look.refused_share,
        open_for_ms: look.open_for.and_then(|time| u64::try_from(time.as_millis()).ok()),
        events: look.events,
    }
}

fn refused(call: &Called<'_>, breaker: &Breaker, wait: Duration) -> Refused {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    let function = &call.key.function;
    let whose = match breaker.scope() {
        Scope::Alias(alias) => format!("{function}:{alias}"),
        Scope::All | Scope::Version(_) => format!("{function}:{}", call.key.version),
    };
    let message = format!(
        "the breaker of {whose} refuses calls because too many of the last ones failed; `alula protect breakers \
         {function}` tells more"
    );
    Refused { fault: Fault::new(ErrorCode::CircuitOpen, message), retry_after_ms: Some(wait_ms), held: None }
}

fn by_hand(call: &Called<'_>, held: Held) -> Refused {
    let function = &call.key.function;
    let message = match held {
        Held::Degraded => format!("{function} is switched to its degraded answer by an operator"),
        Held::Open | Held::Closed => format!("the breaker of {function} is held open by an operator"),
    };
    Refused { fault: Fault::new(ErrorCode::CircuitOpen, message), retry_after_ms: None, held: Some(held) }
}
