//! The way of a call past all limits, and what it holds of them.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use alula_model::{Caller, Limit, Name, Timestamp};
use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::callers::{Callers, Seated, Who};
use super::flow::{Flow, Hit, Took};
use super::policy::{Policy, narrower};
use super::registry::Registry;
use super::shares::{Part, Shares};
use super::told::{Whose, refusal};
use crate::protect::{Action, Rule};
use crate::{Ask, Origin, Refusal};

/// Callers that a node remembers at once: some 2 MB.
const CALLERS_MAX: usize = 65_536;
/// Callers that are remembered of one function at once, where it limits each of them: some 130 KB.
const FUNCTION_CALLERS_MAX: usize = 4_096;
/// Who asks the control API at once.
const API_CALLERS_MAX: usize = 16_384;

/// All limits of a node.
#[derive(Debug)]
pub(crate) struct Limits {
    origin: Instant,
    policy: ArcSwap<Policy>,
    shares: Arc<Shares>,
    namespaces: Registry<Name, OfNamespace>,
    callers: Arc<Callers>,
    api: Arc<Callers>,
}

/// What is counted of a namespace.
#[derive(Debug, Default)]
struct OfNamespace {
    part: Part,
    flow: Flow,
    apps: Registry<Name, Flow>,
    functions: Registry<Name, OfFunction>,
}

/// What is counted of a function that has limits.
#[derive(Debug, Default)]
struct OfFunction {
    flow: Flow,
    callers: OnceLock<Arc<Callers>>,
}

/// What a call holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// Most calls have neither.
    taken: Vec<Taken>,
    seats: Vec<Seated>,
    namespace: Taken,
    place: Place,
}

impl Held {
    /// The call runs: what it took of the rates stays taken.
    fn keep(mut self) -> Self {
        self.taken.iter_mut().for_each(|taken| taken.took = None);
        self.seats.iter_mut().for_each(Seated::keep);
        self.namespace.took = None;
        self.place.took = None;
        self
    }
}

/// A place in a flow.
#[derive(Debug)]
struct Taken {
    of: FlowOf,
    took: Took,
}

#[derive(Debug)]
enum FlowOf {
    Rule(Arc<Rule>),
    App(Arc<Flow>),
    Function(Arc<OfFunction>),
    Namespace(Arc<OfNamespace>),
}

impl FlowOf {
    fn flow(&self) -> &Flow {
        match self {
            Self::Rule(rule) => &rule.flow,
            Self::App(flow) => flow,
            Self::Function(of) => &of.flow,
            Self::Namespace(of) => &of.flow,
        }
    }

    fn enter(self, limit: &Limit, now: u64) -> Result<Taken, Hit> {
        let took = self.flow().enter(limit, now)?;
        Ok(Taken { of: self, took })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let flow = self.of.flow();
        flow.leave();
        if let Some(rate) = self.took {
            flow.bucket.give_back(rate);
        }
    }
}

/// A place on the node.
#[derive(Debug)]
struct Place {
    shares: Arc<Shares>,
    of: Arc<OfNamespace>,
    took: Took,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.leave(&self.of.part);
        if let Some(rate) = self.took {
            self.shares.give_back(rate);
        }
    }
}

/// The right to make one request of the control API; given back when it is dropped.
#[derive(Debug)]
pub struct Pass {
    _seat: Option<Seated>,
}

impl Limits {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            origin: Instant::now(),
            policy: ArcSwap::from_pointee(policy),
            shares: Arc::default(),
            namespaces: Registry::default(),
            callers: Arc::new(Callers::new(CALLERS_MAX)),
            api: Arc::new(Callers::new(API_CALLERS_MAX)),
        }
    }

    pub(crate) const fn policy(&self) -> &ArcSwap<Policy> {
        &self.policy
    }

    /// Nanoseconds since the node began; one second at the least, so that nothing lies before zero.
    fn ns(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX / 2) + 1_000_000_000
    }

    /// Whether whoever this is would be refused whatever they asked for.
    pub(crate) fn peek(&self, origin: Origin<'_>, now: Instant, at: Timestamp) -> Result<(), Refusal> {
        let policy = self.policy.load();
        check_blocks(&policy, origin, at)?;
        let limit = policy.caller(origin.caller.name());
        let Some(who) = Who::of(origin).filter(|_| !limit.is_none()) else { return Ok(()) };
        let found = self.callers.peek(&who, &limit, self.ns(now));
        found.map_err(|hit| refusal(Whose::Caller(&who.to_string()), hit))
    }

    /// Whether whoever comes from this address is blocked.
    pub(crate) fn peek_source(&self, source: IpAddr, at: Timestamp) -> Result<(), Refusal> {
        check_blocks(&self.policy.load(), Origin { caller: &Caller::Public, source: Some(source) }, at)
    }

    /// Counts a request of somebody against their own limit.
    pub(crate) fn arrive(&self, origin: Origin<'_>, now: Instant, at: Timestamp) -> Result<(), Refusal> {
        let policy = self.policy.load();
        check_blocks(&policy, origin, at)?;
        let limit = policy.caller(origin.caller.name());
        let Some(who) = Who::of(origin).filter(|_| !limit.is_none()) else { return Ok(()) };
        let seat = Seated::enter(&self.callers, &who, &limit, self.ns(now));
        seat.map_err(|hit| refusal(Whose::Caller(&who.to_string()), hit))?.keep();
        Ok(())
    }

    /// Lets a call through all limits, or refuses it.
    pub(crate) fn admit(&self, ask: &Ask<'_>) -> Result<Held, Refusal> {
        let now = self.ns(ask.now);
        let policy = self.policy.load();
        let taken = enter_rules(&policy, ask, now)?;
        let of = self.namespaces.of(&ask.key.namespace);
        let (taken, seats) = self.enter_narrow(&policy, ask, &of, taken, now)?;
        let (namespace, limit) = (&ask.key.namespace, policy.namespace(&ask.key.namespace));
        let taken_of = FlowOf::Namespace(Arc::clone(&of)).enter(&limit, now);
        let in_namespace = taken_of.map_err(|hit| refusal(Whose::Namespace(namespace), hit))?;
        let took = self.shares.enter(&of.part, &policy.node, now);
        let took = took.map_err(|hit| refusal(Whose::Node, hit))?;
        let place = Place { shares: Arc::clone(&self.shares), of, took };
        Ok(Held { taken, seats, namespace: in_namespace, place }.keep())
    }

    /// Takes a call that will run later: only what belongs to its caller is asked, since it asks again when it runs.
    pub(crate) fn accept(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let now = self.ns(ask.now);
        let policy = self.policy.load();
        let mut taken = enter_rules(&policy, ask, now)?;
        let of = self.namespaces.of(&ask.key.namespace);
        let mut seats = self.enter_callers(&policy, ask, &of, now)?;
        taken.iter_mut().for_each(|taken| taken.took = None);
        seats.iter_mut().for_each(Seated::keep);
        Ok(())
    }

    /// The limits that most functions and callers do not have.
    fn enter_narrow(
        &self,
        policy: &Policy,
        ask: &Ask<'_>,
        of: &OfNamespace,
        mut taken: Vec<Taken>,
        now: u64,
    ) -> Result<(Vec<Taken>, Vec<Seated>), Refusal> {
        let seats = self.enter_callers(policy, ask, of, now)?;
        let (namespace, function) = (&ask.key.namespace, &ask.key.function);
        let limit = narrower(ask.spec.limits.whole(), policy.function(namespace, function));
        if !limit.is_none() {
            let entered = FlowOf::Function(of.functions.of(function)).enter(&limit, now);
            taken.push(entered.map_err(|hit| refusal(Whose::Function(namespace, function), hit))?);
        }
        if let Some(app) = &ask.spec.app {
            let limit = policy.app(namespace, app);
            if !limit.is_none() {
                let entered = FlowOf::App(of.apps.of(app)).enter(&limit, now);
                taken.push(entered.map_err(|hit| refusal(Whose::App(namespace, app), hit))?);
            }
        }
        Ok((taken, seats))
    }

    fn enter_callers(
        &self,
        policy: &Policy,
        ask: &Ask<'_>,
        of: &OfNamespace,
        now: u64,
    ) -> Result<Vec<Seated>, Refusal> {
        let mut seats = Vec::new();
        let Some(who) = Who::of(ask.origin) else { return Ok(seats) };
        let limit = policy.caller(ask.origin.caller.name());
        if !limit.is_none() {
            let seat = Seated::enter(&self.callers, &who, &limit, now);
            seats.push(seat.map_err(|hit| refusal(Whose::Caller(&who.to_string()), hit))?);
        }
        let limit = ask.spec.limits.per_caller;
        if !limit.is_none() {
            let function = of.functions.of(&ask.key.function);
            let callers = function.callers.get_or_init(|| Arc::new(Callers::new(FUNCTION_CALLERS_MAX)));
            let whose = Whose::PerCaller(&ask.key.namespace, &ask.key.function);
            let seat = Seated::enter(callers, &who, &limit, now);
            seats.push(seat.map_err(|hit| refusal(whose, hit))?);
        }
        Ok(seats)
    }

    /// Lets somebody ask the control API, by name or by where they come from.
    pub(crate) fn pass(&self, name: Option<&str>, source: IpAddr, now: Instant) -> Result<Pass, Refusal> {
        let limit = self.policy.load().api;
        if limit.is_none() {
            return Ok(Pass { _seat: None });
        }
        let who = name.map_or_else(|| Who::at(source), Who::Named);
        let seat = Seated::enter(&self.api, &who, &limit, self.ns(now));
        let mut seat = seat.map_err(|hit| refusal(Whose::Api(&who.to_string()), hit))?;
        seat.keep();
        Ok(Pass { _seat: Some(seat) })
    }

    /// Forgets namespaces, apps and functions of which nothing is worth remembering.
    pub(crate) fn forget_idle(&self, now: Instant) {
        let now = self.ns(now);
        self.namespaces.forget(|of| {
            of.apps.forget(|flow| flow.is_idle(now));
            of.functions
                .forget(|of| of.flow.is_idle(now) && of.callers.get().is_none_or(|it| it.is_idle(now)));
            of.flow.is_idle(now) && of.part.is_idle(now) && of.apps.is_empty() && of.functions.is_empty()
        });
    }

    /// Requests in flight on this node.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shares.in_flight()
    }
}

/// Passes what operators have set against somebody: blocked, or throttled by each that is there.
fn enter_rules(policy: &Policy, ask: &Ask<'_>, now: u64) -> Result<Vec<Taken>, Refusal> {
    let mut taken = Vec::new();
    if policy.rules.is_empty() {
        return Ok(taken);
    }
    let (namespace, function) = (&ask.key.namespace, &ask.key.function);
    let of_origin = policy.rules.of_origin(ask.origin, Some(namespace), ask.at);
    for rule in of_origin.chain(policy.rules.of_function(namespace, function, ask.at)) {
        let limit = match rule.protection.action {
            Action::Block => return Err(blocked(rule)),
            Action::Throttle(limit) => limit,
        };
        let entered = FlowOf::Rule(Arc::clone(rule)).enter(&limit, now);
        taken.push(entered.map_err(|hit| {
            rule.note_refusal();
            refusal(Whose::Throttle(&rule.protection.reason), hit)
        })?);
    }
    Ok(taken)
}

/// What operators have blocked wherever it calls.
fn check_blocks(policy: &Policy, origin: Origin<'_>, at: Timestamp) -> Result<(), Refusal> {
    if policy.rules.is_empty() {
        return Ok(());
    }
    let mut rules = policy.rules.of_origin(origin, None, at);
    let block = rules.find(|rule| rule.protection.action == Action::Block);
    block.map_or(Ok(()), |rule| Err(blocked(rule)))
}

fn blocked(rule: &Rule) -> Refusal {
    Refusal { fault: rule.block(), retry_after_ms: None }
}
