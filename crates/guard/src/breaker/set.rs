//! The breakers of one version: one for each alias that it is called by, and one for all other calls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{BreakerSpec, Name, Qualifier, Timestamp, VersionKey};
use tokio::time::Instant;

use super::event::{BreakerEvent, State};
use super::hand::Scope;
use super::machine::{Change, Machine, Sample, Ticket, Verdict};
use super::window::Counts;

/// Aliases of one version that have a breaker of their own; callers of more have that of the version.
const ALIASES_MAX: usize = 16;
/// Changes that are remembered of one breaker.
const EVENTS_MAX: usize = 32;

/// One breaker with what is remembered of it.
#[derive(Debug)]
pub(super) struct Breaker {
    key: VersionKey,
    scope: Scope,
    /// The level of its state, so that a call of what works takes no lock.
    level: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    machine: Machine,
    events: VecDeque<BreakerEvent>,
}

/// What is told to a watch after the lock is given back.
pub(super) type Told = Option<BreakerEvent>;

impl Breaker {
    fn new(key: VersionKey, scope: Scope, spec: &BreakerSpec, now: Instant) -> Self {
        let inner = Inner { machine: Machine::new(spec, now), events: VecDeque::new() };
        Self { key, scope, level: AtomicU8::new(State::Closed.level()), inner: Mutex::new(inner) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.level.load(Ordering::Relaxed) == State::Closed.level()
    }

    pub(super) const fn scope(&self) -> &Scope {
        &self.scope
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(
        &self,
        spec: &BreakerSpec,
        now: Instant,
        at: impl Fn() -> Timestamp,
        chance: impl FnOnce() -> f64,
    ) -> (Verdict, Told) {
        if self.is_closed() {
            return (Verdict::Pass(Ticket::default()), None);
        }
        let mut inner = self.lock();
        let (verdict, change) = inner.machine.admit(spec, now, chance());
        (verdict, change.map(|change| self.note(&mut inner, change, at())))
    }

    pub(super) fn ended(
        &self,
        spec: &BreakerSpec,
        now: Instant,
        at: impl Fn() -> Timestamp,
        ticket: Ticket,
        sample: Sample,
    ) -> Told {
        let mut inner = self.lock();
        let change = inner.machine.ended(spec, now, ticket, sample);
        change.map(|change| self.note(&mut inner, change, at()))
    }

    fn note(&self, inner: &mut Inner, change: Change, at: Timestamp) -> BreakerEvent {
        let Change { from, to, why, counts } = change;
        let VersionKey { namespace, function, version } = self.key.clone();
        let scope = self.scope.clone();
        let event = BreakerEvent { at, namespace, function, version, scope, from, to, why, counts };
        if inner.events.len() == EVENTS_MAX {
            inner.events.pop_front();
        }
        inner.events.push_back(event.clone());
        self.level.store(to.level(), Ordering::Relaxed);
        event
    }

    /// The state, the window, the share that is refused, how long it stays open, and the changes, the oldest first.
    pub(super) fn look(&self, spec: &BreakerSpec, now: Instant) -> Look {
        let mut inner = self.lock();
        Look {
            state: inner.machine.state(),
            counts: inner.machine.counts(now),
            refused_share: inner.machine.refused_share(spec, now),
            open_for: inner.machine.open_for(now),
            events: inner.events.iter().cloned().collect(),
        }
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.lock().machine.is_forgettable(now)
    }
}

/// What is seen of a breaker.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) state: State,
    pub(super) counts: Counts,
    pub(super) refused_share: f64,
    pub(super) open_for: Option<Duration>,
    pub(super) events: Vec<BreakerEvent>,
}

/// All breakers of one version.
#[derive(Debug)]
pub(super) struct Set {
    spec: BreakerSpec,
    whole: Arc<Breaker>,
    aliases: RwLock<Vec<(Name, Arc<Breaker>)>>,
}

impl Set {
    pub(super) fn new(key: &VersionKey, spec: &BreakerSpec, now: Instant) -> Self {
        let scope = Scope::Version(key.version);
        let whole = Arc::new(Breaker::new(key.clone(), scope, spec, now));
        Self { spec: spec.clone(), whole, aliases: RwLock::default() }
    }

    pub(super) const fn spec(&self) -> &BreakerSpec {
        &self.spec
    }

    /// The one that counts for calls by this qualifier; `None` where none of them has failed.
    pub(super) fn find(&self, qualifier: &Qualifier) -> Option<Arc<Breaker>> {
        let Qualifier::Alias(name) = qualifier else { return Some(Arc::clone(&self.whole)) };
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        let known = aliases.iter().find(|(known, _)| known == name).map(|(_, breaker)| Arc::clone(breaker));
        known.or_else(|| (aliases.len() >= ALIASES_MAX).then(|| Arc::clone(&self.whole)))
    }

    /// The same, made where it is missing.
    pub(super) fn find_or_new(&self, qualifier: &Qualifier, now: Instant) -> Arc<Breaker> {
        if let Some(known) = self.find(qualifier) {
            return known;
        }
        let Qualifier::Alias(name) = qualifier else { return Arc::clone(&self.whole) };
        let mut aliases = self.aliases.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = aliases.iter().find(|(known, _)| known == name) {
            return Arc::clone(known);
        }
        if aliases.len() >= ALIASES_MAX {
            return Arc::clone(&self.whole);
        }
        let scope = Scope::Alias(name.clone());
        let breaker = Arc::new(Breaker::new(self.whole.key.clone(), scope, &self.spec, now));
        aliases.push((name.clone(), Arc::clone(&breaker)));
        breaker
    }

    /// All of them, the version's first.
    pub(super) fn all(&self) -> Vec<Arc<Breaker>> {
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        let aliases = aliases.iter().map(|(_, breaker)| Arc::clone(breaker));
        std::iter::once(Arc::clone(&self.whole)).chain(aliases).collect()
    }

    /// Whether none knows anything.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        self.all().iter().all(|breaker| breaker.is_forgettable(now))
    }
}
