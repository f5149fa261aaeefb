//! What operators hold by hand, in the store: it survives a start, and every node that shares the store follows it.
//!
//! ```text
//! by-hand/<ns>/<function>/<scope>   who holds what, since when and why
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alula_guard::breaker::{Breakers, Hand, HandKey, Held};
use alula_model::{AuditEntry, By, Clock, Name, Timestamp};
use alula_store::{AuditTrail, Batch, Expect, Key, Record, Records, SCAN_LEN_MAX};
use tokio_util::sync::CancellationToken;

const KIND: &str = "by-hand";
/// How often it is looked for what another node has set: it shall be in force everywhere within a second.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps what is held by hand. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hands {
    records: Arc<dyn Records>,
    audit: Arc<dyn AuditTrail>,
    breakers: Breakers,
    clock: Arc<dyn Clock>,
}

impl Hands {
    /// Over these records, for these breakers.
    #[must_use]
    pub fn new(
        records: Arc<dyn Records>,
        audit: Arc<dyn AuditTrail>,
        breakers: Breakers,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { records, audit, breakers, clock }
    }

    /// The breakers that it is held for.
    #[must_use]
    pub const fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Holds something by hand, or lets it go. It is durable, recorded and in force here when this returns.
    pub async fn set(
        &self,
        by: By,
        key: &HandKey,
        held: Option<Held>,
        reason: &str,
    ) -> alula_store::Result<()> {
        let at = self.clock.now();
        let HandKey { namespace, function, scope } = key;
        let entry = AuditEntry {
            at,
            actor: by.name.clone(),
            from: by.from,
            action: format!("breaker.{}", held.map_or("auto", Held::as_str)),
            subject: format!("{namespace}/{function}"),
            change: None,
            detail: if reason.is_empty() { format!("for {scope}") } else { format!("for {scope}: {reason}") },
        };
        let batch = match held {
            Some(held) => {
                let hand = Hand { held, by: by.name, at, reason: reason.to_owned() };
                let value = serde_json::to_vec(&hand).unwrap_or_default();
                Batch::default().put(record_key(key), value, Expect::Any)
            }
            None => Batch::default().delete(record_key(key), Expect::Any),
        };
        self.audit.commit_audited(batch, vec![entry]).await?;
        self.load().await
    }

    /// Reads what is held.
    pub async fn load(&self) -> alula_store::Result<()> {
        let (mut hands, mut after) = (HashMap::new(), None);
        loop {
            let page = self.records.scan(&Key::new(&[KIND]), after.as_ref(), SCAN_LEN_MAX).await?;
            hands.extend(page.iter().filter_map(read));
            match page.into_iter().last() {
                Some(last) => after = Some(last.key),
                None => break,
            }
        }
        self.breakers.hold(hands);
        Ok(())
    }

    /// Follows what other nodes set, until `stop`. With the store gone, what was held last stays.
    pub async fn follow(self, stop: CancellationToken) {
        let mut every = tokio::time::interval(FOLLOW_INTERVAL);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.load().await {
                tracing::debug!(%error, "what is held by hand cannot be read; the last known holds");
            }
        }
    }
}

fn record_key(key: &HandKey) -> Key {
    let HandKey { namespace, function, scope } = key;
    Key::new(&[KIND, namespace.as_str(), function.as_str(), &scope.to_string()])
}

fn read(record: &Record) -> Option<(HandKey, Hand)> {
    let mut segments = record.key.segments().skip(1);
    let mut name = || Name::new(segments.next()?).ok();
    let (namespace, function) = (name()?, name()?);
    let scope = segments.next()?.parse().ok()?;
    // A record that cannot be read holds nevertheless: whoever wrote it wanted calls to stop.
    let unknown =
        || Hand { held: Held::Open, by: "unknown".to_owned(), at: Timestamp(0), reason: String::new() };
    let hand = serde_json::from_slice(&record.value).unwrap_or_else(|_| unknown());
    Some((HandKey { namespace, function, scope }, hand))
}
