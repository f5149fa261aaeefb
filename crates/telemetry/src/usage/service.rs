//! Writes the ledger into the records every few seconds, and once more at the end.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Clock, Name, Timestamp};
use alula_store::{Batch, Expect, Records};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::ledger::{Changed, Ledger, day_of};
use super::reading::{Line, key, read_day, recall};
use crate::signals::Signals;

/// How often the numbers of functions are looked at: what the shortest window is made of.
const GATHER_EVERY: Duration = Duration::from_secs(5);
/// How often usage is written: what a process that is killed may lose.
pub const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How often what nobody calls any more is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Entries in one commit: small enough not to hold up others.
const BATCH_LEN: usize = 250;
/// Tries at the end of the process.
const LAST_TRIES: u32 = 3;

/// What the service works with.
#[derive(Debug)]
pub struct ServiceParts {
    /// Where usage comes from.
    pub signals: Signals,
    /// What is written.
    pub ledger: Ledger,
    /// Where to.
    pub records: Arc<dyn Records>,
    /// Tells the day.
    pub clock: Arc<dyn Clock>,
    /// Unique to this process: its records are told from others' by it. A name without a slash.
    pub writer: String,
    /// Days after which usage is forgotten.
    pub keep_days: u32,
}

/// Writes usage. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Service {
    parts: Arc<ServiceParts>,
    /// One at a time: an older total must not overtake a newer one.
    flushing: Arc<tokio::sync::Mutex<()>>,
}

impl Service {
    /// A service over these parts.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Self {
        Self { parts: Arc::new(parts), flushing: Arc::default() }
    }

    /// Works until it is told to stop, and then writes what is left.
    pub async fn run(self, cancel: CancellationToken) {
        let ticks = |every| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut gather, mut flush, mut forget) =
            (ticks(GATHER_EVERY), ticks(FLUSH_EVERY), ticks(FORGET_EVERY));
        loop {
            tokio::select! {
                _ = gather.tick() => self.parts.signals.gather(),
                _ = flush.tick() => self.flush_or_tell().await,
                _ = forget.tick() => self.parts.signals.forget_quiet(),
                () = cancel.cancelled() => break,
            }
        }
        for _ in 0..LAST_TRIES {
            if self.flush().await.is_ok() {
                return;
            }
        }
        tracing::error!("the usage since the last commit could not be written and is lost");
    }

    /// What was used on a day, in all namespaces or in one, this process included up to its last flush.
    pub async fn read_day(&self, day: Date, namespace: Option<&Name>) -> alula_store::Result<Vec<Line>> {
        read_day(&*self.parts.records, day, namespace).await
    }

    /// Tells the signals what earlier processes have counted for the objective of a function.
    pub async fn recall(&self, function: (&Name, &Name), days: u32) -> alula_store::Result<()> {
        let ServiceParts { signals, records, clock, writer, .. } = &*self.parts;
        recall(&**records, signals, function, (day_of(clock.now()), days), writer).await
    }

    /// Counts amounts that were lost because the store did not answer for too long.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.parts.ledger.dropped()
    }

    async fn flush_or_tell(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "usage cannot be written now; it is kept and tried again");
        }
    }

    /// Writes what has changed, so that it can be read.
    pub async fn flush(&self) -> alula_store::Result<()> {
        let ServiceParts { signals, ledger, records, clock, .. } = &*self.parts;
        let _turn = self.flushing.lock().await;
        signals.gather();
        let changed = ledger.take_changed();
        for (number, part) in changed.chunks(BATCH_LEN).enumerate() {
            let batch = part.iter().fold(Batch::default(), |batch, changed| self.put(batch, changed));
            if let Err(error) = records.commit(batch).await {
                ledger.give_back(&changed[number * BATCH_LEN..]);
                return Err(error);
            }
        }
        ledger.close_days(day_of(clock.now()));
        Ok(())
    }

    fn put(&self, batch: Batch, changed: &Changed) -> Batch {
        let value = serde_json::to_vec(&changed.page).unwrap_or_default();
        let key = key(changed, &self.parts.writer);
        batch.put_until(key, value, Expect::Any, self.kept_until(changed.day))
    }

    fn kept_until(&self, day: Date) -> Timestamp {
        let begin_ms = day.to_zoned(TimeZone::UTC).map_or(0, |begin| begin.timestamp().as_millisecond());
        Timestamp(begin_ms).plus_millis((i64::from(self.parts.keep_days) + 1) * 24 * 3_600_000)
    }
}
