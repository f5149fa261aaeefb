//! The books of each namespace: connections that are open, bytes that may pass.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_model::Name;
use alula_runtime::EgressError;
use tokio::time::Instant;

/// Bytes that may pass at once after a quiet time, in seconds of the rate.
const BURST_SECONDS: f64 = 1.0;

/// Limits of connections to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// Connections of one instance at once; further ones wait to be accepted.
    pub instance_connections_max: usize,
    /// Connections of the functions of one namespace at once; further ones are refused.
    pub namespace_connections_max: usize,
    /// Bytes in both directions that the functions of one namespace move in a second. Zero means no limit.
    pub namespace_bytes_per_second: u64,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            // What a client library's pool opens at most.
            instance_connections_max: 256,
            // Each takes two descriptors of the platform, which has some tens of thousands.
            namespace_connections_max: 4_096,
            namespace_bytes_per_second: 0,
        }
    }
}

/// Is told what passes the gate. Cheap, since it is told while connections wait.
pub trait Observe: Send + Sync + std::fmt::Debug {
    /// A connection was opened; empty is the platform's own namespace.
    fn opened(&self, namespace: &str);
    /// A connection has ended.
    fn closed(&self, namespace: &str, bytes_out: u64, bytes_in: u64);
    /// A connection was refused by this rule or limit.
    fn refused(&self, namespace: &str, rule: &'static str);
    /// A line about a connection was left out of the log, because there were too many.
    fn shed(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn opened(&self, _namespace: &str) {}
    fn closed(&self, _namespace: &str, _bytes_out: u64, _bytes_in: u64) {}
    fn refused(&self, _namespace: &str, _rule: &'static str) {}
    fn shed(&self) {}
}

/// One account a namespace.
#[derive(Debug)]
pub(super) struct Accounts {
    limits: EgressLimits,
    observe: Arc<dyn Observe>,
    accounts: Mutex<HashMap<Option<Name>, Arc<Account>>>,
}

/// The account of one namespace.
#[derive(Debug)]
pub(super) struct Account {
    namespace: Option<Name>,
    limits: EgressLimits,
    observe: Arc<dyn Observe>,
    open: AtomicUsize,
    bucket: Mutex<Bucket>,
}

/// Bytes that may pass now; below zero, what passed before its time.
#[derive(Debug)]
struct Bucket {
    bytes: f64,
    filled: Instant,
}

/// A connection's place in the books, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    account: Arc<Account>,
    bytes_out: u64,
    bytes_in: u64,
}

impl Accounts {
    pub(super) fn new(limits: EgressLimits, observe: Arc<dyn Observe>) -> Self {
        Self { limits, observe, accounts: Mutex::default() }
    }

    /// That of a namespace; there are no more than there are namespaces with functions.
    pub(super) fn of(&self, namespace: Option<&Name>) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            Arc::new(Account {
                namespace: namespace.cloned(),
                limits: self.limits,
                observe: Arc::clone(&self.observe),
                open: AtomicUsize::new(0),
                bucket: Mutex::new(Bucket { bytes: 0.0, filled: Instant::now() }),
            })
        };
        Arc::clone(accounts.entry(namespace.cloned()).or_insert_with(make))
    }
}

impl Account {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// One more connection, if there may be one.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, EgressError> {
        let limit = self.limits.namespace_connections_max;
        let more = |open: usize| (open < limit).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| {
            EgressError::Limit {
                name: "namespace_connections_max",
                limit,
                setting: "network.namespace_connections_max in the configuration",
            }
        })?;
        self.observe.opened(self.name());
        Ok(Place { account: Arc::clone(self), bytes_out: 0, bytes_in: 0 })
    }

    fn name(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }

    /// Counts bytes that passed; says how long nothing else may, where they were too many.
    fn spend(&self, bytes: usize, now: Instant) -> Option<Duration> {
        let rate = self.limits.namespace_bytes_per_second as f64;
        if rate == 0.0 {
            return None;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.bytes = (bucket.bytes + refill).min(rate * BURST_SECONDS) - bytes as f64;
        bucket.filled = now;
        (bucket.bytes < 0.0).then(|| Duration::from_secs_f64(-bucket.bytes / rate))
    }
}

impl Place {
    /// Counts bytes to the outside; says how long nothing else may pass.
    pub(super) fn sent(&mut self, bytes: usize) -> Option<Duration> {
        self.bytes_out += bytes as u64;
        self.account.spend(bytes, Instant::now())
    }

    /// The same for bytes from the outside.
    pub(super) fn received(&mut self, bytes: usize) -> Option<Duration> {
        self.bytes_in += bytes as u64;
        self.account.spend(bytes, Instant::now())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.open.fetch_sub(1, Ordering::Relaxed);
        self.account.observe.closed(self.account.name(), self.bytes_out, self.bytes_in);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(limits: EgressLimits) -> Arc<Account> {
        Accounts::new(limits, Arc::new(Unobserved)).of(None)
    }

    #[test]
    fn there_are_no_more_connections_than_there_may_be() {
        let account = account(EgressLimits { namespace_connections_max: 2, ..EgressLimits::default() });
        let places = [account.enter().unwrap(), account.enter().unwrap()];
        let refused = account.enter().unwrap_err().to_string();
        assert!(refused.contains("namespace_connections_max"), "{refused}");
        drop(places);
        assert!(account.enter().is_ok() && account.open() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_beyond_the_rate_are_waited_for() {
        let account = account(EgressLimits { namespace_bytes_per_second: 1_000, ..EgressLimits::default() });
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut place = account.enter().unwrap();
        assert_eq!(place.sent(1_000), None, "a second of it at once");
        assert_eq!(place.received(500), Some(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(place.sent(0), None);
        let unlimited = super::tests::account(EgressLimits::default());
        assert_eq!(unlimited.enter().unwrap().sent(usize::MAX), None);
    }
}
