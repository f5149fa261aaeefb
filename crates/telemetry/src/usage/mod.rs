//! What functions used, by UTC day: calls, memory over time, bytes. What a bill is made of.
//!
//! ```text
//! signals -> Ledger (totals of this process by day and function) -> Service: a record for each, every ten seconds
//! ```
//!
//! Each process writes records of its own, and always its whole total so far, never what was added. A commit of which
//! nobody knows whether it went through can therefore be repeated, and nothing is ever counted twice; a process that is
//! killed loses what it counted since its last commit. A day's usage is the sum of what all processes wrote.

mod ledger;
mod reading;
mod service;

#[cfg(test)]
mod tests;

use alula_model::Name;
use serde::{Deserialize, Serialize};

pub use jiff::civil::Date;
pub use ledger::{Ledger, day_of};
pub use reading::{Line, read_day, recall};
pub use service::{FLUSH_EVERY, Service, ServiceParts};

use crate::signals::OTHER;

/// Whose usage it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    /// The tenant.
    pub namespace: Name,
    /// The app that the function belonged to.
    pub app: Option<Name>,
    /// The function; `None` stands for those beyond the number that are told apart.
    pub function: Option<Name>,
}

/// How much was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// Calls that reached an instance; every attempt of an asynchronous call is one.
    pub invocations: u64,
    /// Calls that ended without having reached one. They cost nothing.
    pub refused: u64,
    /// Time that calls held their slots, each rounded up to a whole millisecond: from the slot to the last byte of the
    /// answer. Starting and loading are not in it.
    pub billed_ms: u64,
    /// The same times the megabytes of memory that the function's version states.
    pub memory_mb_ms: u64,
    /// Bytes of request bodies that were read.
    pub request_bytes: u64,
    /// Bytes of response bodies that were passed on.
    pub response_bytes: u64,
}

impl Whose {
    /// The functions of a namespace that are not told apart.
    pub(crate) fn other(namespace: &Name) -> Self {
        Self { namespace: namespace.clone(), app: None, function: None }
    }

    /// The function's name, or what stands for those that are not told apart.
    #[must_use]
    pub fn function_name(&self) -> &str {
        self.function.as_ref().map_or(OTHER, Name::as_str)
    }
}

impl Amounts {
    /// Gigabytes of memory times seconds, with 1024 megabytes to the gigabyte.
    #[must_use]
    pub fn gb_seconds(&self) -> f64 {
        self.memory_mb_ms as f64 / (1_024.0 * 1_000.0)
    }

    pub(crate) const fn less(&self, earlier: &Self) -> Self {
        Self {
            invocations: self.invocations - earlier.invocations,
            refused: self.refused - earlier.refused,
            billed_ms: self.billed_ms - earlier.billed_ms,
            memory_mb_ms: self.memory_mb_ms - earlier.memory_mb_ms,
            request_bytes: self.request_bytes - earlier.request_bytes,
            response_bytes: self.response_bytes - earlier.response_bytes,
        }
    }
}

impl std::ops::AddAssign for Amounts {
    fn add_assign(&mut self, more: Self) {
        self.invocations += more.invocations;
        self.refused += more.refused;
        self.billed_ms += more.billed_ms;
        self.memory_mb_ms += more.memory_mb_ms;
        self.request_bytes += more.request_bytes;
        self.response_bytes += more.response_bytes;
    }
}
