//! All guards of a call, in one place and one order.

use std::net::IpAddr;
use std::sync::Arc;

use alula_model::Timestamp;
use tokio::time::Instant;

use crate::breaker::Called;
use crate::limit::{Held, Limits, Options, OptionsError, Pass, Policy};
use crate::protect::Rules;
use crate::{Ask, Ended, FunctionGuard, Origin, Passage, Refusal};

/// Decides whether calls may run. Cheap to clone; all clones are the same.
///
/// The default has no limits and blocks nobody.
#[derive(Debug, Clone)]
pub struct Guard {
    pub(crate) limits: Arc<Limits>,
    functions: Option<FunctionGuard>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { limits: Arc::new(Limits::new(Policy::default())), functions: None }
    }
}

impl Guard {
    /// A guard with the limits of the configuration.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        let policy = Policy::new(options, &std::collections::BTreeMap::new(), Rules::default())?;
        Ok(Self { limits: Arc::new(Limits::new(policy)), functions: None })
    }

    /// The same with the breakers and adaptive limits of `functions`.
    #[must_use]
    pub fn with_functions(self, functions: FunctionGuard) -> Self {
        Self { functions: Some(functions), ..self }
    }

    /// The breakers and adaptive limits, where there are any.
    #[must_use]
    pub const fn functions(&self) -> Option<&FunctionGuard> {
        self.functions.as_ref()
    }

    /// Whether whoever this is would be refused whatever they asked for. It counts nothing, so an edge may ask before it
    /// does work for a request; [`admit`](Self::admit) asks again.
    pub fn peek(&self, origin: Origin<'_>, now: Instant, at: Timestamp) -> Result<(), Refusal> {
        self.limits.peek(origin, now, at)
    }

    /// Whether whoever comes from this address is blocked, whoever they say they are.
    pub fn peek_source(&self, source: IpAddr, at: Timestamp) -> Result<(), Refusal> {
        self.limits.peek_source(source, at)
    }

    /// Counts a request of somebody that is no call of one function, or refuses it: only their own limit is asked.
    pub fn arrive(&self, origin: Origin<'_>, now: Instant, at: Timestamp) -> Result<(), Refusal> {
        self.limits.arrive(origin, now, at)
    }

    /// Lets a call run, or refuses it. What it is given counts until it is dropped or [ended](Admission::end).
    pub fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let limits = self.limits.admit(ask)?;
        // Last, since a breaker counts what it lets through.
        let call = Called { key: ask.key, qualifier: ask.qualifier, spec: ask.spec };
        let passage = self.functions.as_ref().map(|functions| functions.admit(&call, ask.now)).transpose()?;
        Ok(Admission {
            _limits: limits,
            functions: self.functions.clone(),
            passage: passage.unwrap_or_default(),
        })
    }

    /// Takes a call that is to run later, or refuses it. Only its caller's limits are asked, and what is blocked: it passes
    /// [`admit`](Self::admit) when it runs.
    pub fn accept(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        self.limits.accept(ask)
    }

    /// Lets somebody ask the control API, known by name or else by address.
    pub fn pass(&self, name: Option<&str>, source: IpAddr, now: Instant) -> Result<Pass, Refusal> {
        self.limits.pass(name, source, now)
    }

    /// Calls that were admitted and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limits.in_flight()
    }
}

/// The right of one call to run. What it holds of any limit is given back when it is dropped.
#[derive(Debug)]
#[must_use = "the call counts as ended when this is dropped"]
pub struct Admission {
    _limits: Held,
    functions: Option<FunctionGuard>,
    passage: Passage,
}

impl Admission {
    /// The call has ended.
    pub fn end(self, call: &Called<'_>, ended: &Ended) {
        if let Some(functions) = &self.functions {
            functions.ended(call, self.passage, ended);
        }
    }
}
