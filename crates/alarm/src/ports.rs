//! What alarms need from others.

use std::fmt;

use alula_model::alarm::{AlarmSpec, Severity};
use alula_model::{Contact, Name, SloSpec};
use bytes::Bytes;

use crate::sample::Round;

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Measures what signals of calls do not tell: instances, queues, the machine.
pub trait Measure: Send + Sync + fmt::Debug {
    /// Looks at everything.
    fn measure(&self) -> BoxFuture<'_, Round>;
}

/// Knows what functions state about their alarms.
pub trait Deployed: Send + Sync + fmt::Debug {
    /// Every function of which anything is stated: contacts, rules, an objective.
    fn watches(&self) -> Vec<Watch>;
}

/// What one function states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub function: Name,
    /// Its app.
    pub app: Option<Name>,
    /// Who is told.
    pub contacts: Vec<Contact>,
    /// Its rules.
    pub alarm: AlarmSpec,
    /// Its objective.
    pub slo: Option<SloSpec>,
}

/// Takes messages to their receivers.
pub trait Deliver: Send + Sync + fmt::Debug {
    /// Sends one message once. May take as long as the receiver does; bounds that by itself.
    fn deliver<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), DeliverError>>;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// A web address, or `mailto:ADDRESS`.
    pub url: String,
    /// JSON; of a mail, an object with `subject` and `text`.
    pub body: Bytes,
    /// Whose word the address is.
    pub trust: Trust,
    /// Unique to this message, and the same in every try of it: letters, digits, hyphens.
    pub id: String,
}

/// Whose word an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// The operator's, who may name any address.
    Operator,
    /// A function owner's: only what functions may reach is.
    Owner,
}

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverError {
    /// It may arrive later.
    Passing(String),
    /// It never will.
    Final(String),
}

impl DeliverError {
    /// What went wrong, in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Passing(reason) | Self::Final(reason) => reason,
        }
    }
}

/// Is told how many alarms there are and what became of messages. Must not block.
pub trait Observe: Send + Sync + fmt::Debug {
    /// So many alarms of a severity are firing.
    fn firing(&self, _severity: Severity, _alarms: usize) {}

    /// A message ended: `sent`, `failed`, or `dropped` because too many waited.
    fn message(&self, _outcome: &'static str) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {}

/// Measures nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingMeasured;

impl Measure for NothingMeasured {
    fn measure(&self) -> BoxFuture<'_, Round> {
        Box::pin(std::future::ready(Round::default()))
    }
}

/// Nothing is deployed.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingDeployed;

impl Deployed for NothingDeployed {
    fn watches(&self) -> Vec<Watch> {
        Vec::new()
    }
}

/// Reaches nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDelivery;

impl Deliver for NoDelivery {
    fn deliver<'a>(&'a self, _message: &'a Message) -> BoxFuture<'a, Result<(), DeliverError>> {
        let nobody = DeliverError::Final("nobody is reached from here".to_owned());
        Box::pin(std::future::ready(Err(nobody)))
    }
}
