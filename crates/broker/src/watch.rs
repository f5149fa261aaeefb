//! Watches one broker for one trigger: connects, gathers, delivers, settles, connects again.
//!
//! ```text
//! connect ── wait, longer each time <──┐
//!    v                                 │ error
//! serve:  next ─> gather ─> delivery (a task, one of `concurrency` places) ─> settle
//! ```
//!
//! Deliveries outlive the session that brought their records, since a call that runs is never cut. What follows from the
//! end of a session depends on who keeps records: the broker delivers them again, so nothing more is begun with them here;
//! or nobody does, so they are delivered whatever becomes of the connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::{Delivery, policy};
use crate::gather::Gatherer;
use crate::place::Place;
use crate::source::{End, KeptBy, Record, Session, Settled, Source, SourceError};

/// Longest time for connecting, and for each word with the broker that is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A session that lasted so long was a good one: the next connection is tried for soon.
const STEADY: Duration = Duration::from_secs(10);
/// Wait before the second try to connect, in milliseconds; it doubles with each, up to [`RECONNECT_LONGEST_MS`].
const RECONNECT_FIRST_MS: u64 = 250;
/// The longest of these waits.
const RECONNECT_LONGEST_MS: u64 = 30_000;
/// Ends of records that wait for the broker to be told.
const SETTLED_MAX: usize = 1_024;
/// Bytes of records that wait for a call before no more are taken: some events of the largest size.
const WAITING_BYTES_MAX: usize = 4 * crate::gather::EVENT_BYTES_MAX;
/// Records in hand at the most, whatever `max` and `concurrency` multiply to.
const HAND_LEN_MAX: usize = 20_000;
/// How often a broker is told that records are worked on: brokers are asked for three times as long.
pub(crate) const HOLD_EVERY: Duration = Duration::from_secs(5);
/// How often a broker is asked how many records wait.
const LAG_EVERY: Duration = Duration::from_secs(10);

/// Records that one trigger has in hand at the most: those in calls, and those of one call more.
pub(crate) fn prefetch(batching: &alula_model::trigger::Batching) -> usize {
    let max = batching.max as usize;
    (max * (batching.concurrency as usize + 1)).clamp(max, HAND_LEN_MAX)
}

/// See the module.
pub(crate) struct Watch {
    place: Arc<Place>,
    source: Box<dyn Source>,
    gatherer: Gatherer,
    slots: Arc<Semaphore>,
    deliveries: TaskTracker,
}

impl Watch {
    pub(crate) fn new(place: Arc<Place>, source: Box<dyn Source>) -> Self {
        let gatherer = Gatherer::new(&place.batching);
        let slots = Arc::new(Semaphore::new(place.batching.concurrency as usize));
        Self { place, source, gatherer, slots, deliveries: TaskTracker::new() }
    }

    /// Watches until `stop`; when it returns, every record has come to its end or is where it came from.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let error = match self.connect(&stop).await {
                Ok(session) => match self.serve(session, &stop).await {
                    Ok(()) => break,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if stop.is_cancelled() {
                break;
            }
            failures = if began.elapsed() >= STEADY { 1 } else { failures + 1 };
            let wait = self.reconnect_wait(failures);
            self.place.broke(&error, wait);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        // Left are records that nobody else keeps and that no call has begun with.
        self.deliver_all(&stop);
        self.deliveries.close();
        self.deliveries.wait().await;
        self.place.parted();
    }

    async fn connect(&self, stop: &CancellationToken) -> Result<Box<dyn Session>, SourceError> {
        let network = self.place.parts.network.of(&self.place.target.namespace);
        tokio::select! {
            () = stop.cancelled() => Err(SourceError::said("the platform stops")),
            connected = in_time("connecting", self.source.connect(&network)) => connected,
        }
    }

    fn reconnect_wait(&self, failures: u32) -> Duration {
        let policy = alula_model::RetryPolicy {
            first_ms: RECONNECT_FIRST_MS,
            longest_ms: RECONNECT_LONGEST_MS,
            jitter_percent: 50,
            ..policy()
        };
        Duration::from_millis(policy.wait_ms(failures, self.place.random()))
    }

    /// Serves one session. `Ok`: it was ended because of `stop`, with everything settled.
    async fn serve(
        &mut self,
        session: Box<dyn Session>,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        self.place.connected();
        let kept_by = session.kept_by();
        let over = stop.child_token();
        let (settled, ends) = mpsc::channel(SETTLED_MAX);
        let hand: BTreeSet<u64> = self.gatherer.waiting().map(|record| record.token).collect();
        let mut served = Served { session, hand, ends };
        let delivering = Delivering {
            kept_by,
            settled,
            stop: stop.clone(),
            over: match kept_by {
                KeptBy::Broker => over.clone(),
                KeptBy::Nobody => stop.clone(),
            },
        };
        let result = self.serve_until(&mut served, &delivering, stop).await;
        over.cancel();
        if kept_by == KeptBy::Broker {
            self.gatherer.take_all();
        }
        if result.is_ok() {
            let closing = served.session.close();
            drop(tokio::time::timeout(ANSWER_TIMEOUT, closing).await);
        }
        result
    }

    async fn serve_until(
        &mut self,
        served: &mut Served,
        delivering: &Delivering,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let (len_max, mut is_stopping) = (prefetch(&self.place.batching), false);
        let (mut hold, mut lag) = (every(HOLD_EVERY), every(LAG_EVERY));
        let mut ends = Vec::new();
        loop {
            if is_stopping && served.hand.is_empty() {
                return Ok(());
            }
            let due_at = self.gatherer.due_at().filter(|_| !is_stopping);
            let is_due = due_at.is_some_and(|at| at <= Instant::now());
            let is_full = served.hand.len() >= len_max || self.gatherer.bytes() >= WAITING_BYTES_MAX;
            let has_room = !is_stopping && !is_full;
            // In this order: what ended makes room, and everything that is there is gathered before an event goes.
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.give_back(served, delivering, stop).await?;
                }
                _ = served.ends.recv_many(&mut ends, SETTLED_MAX) => served.settle(&mut ends).await?,
                _ = hold.tick() => served.hold().await?,
                _ = lag.tick() => self.place.lags(in_time("asking for the lag", served.session.lag()).await?),
                record = next_or_end(&mut *served.session, has_room.then_some(Room)) => {
                    let record = record?;
                    self.place.received();
                    served.hand.insert(record.token);
                    self.gatherer.push(record, Instant::now());
                }
                slot = slot(&self.slots), if is_due => self.deliver(delivering, slot),
                () = tokio::time::sleep_until(due_at.unwrap_or_else(Instant::now)), if due_at.is_some() && !is_due => {}
            }
        }
    }

    fn deliver(&mut self, delivering: &Delivering, slot: OwnedSemaphorePermit) {
        let records = self.gatherer.take();
        let delivery = delivering.delivery(&self.place);
        self.deliveries.spawn(async move {
            delivery.run(records).await;
            drop(slot);
        });
    }

    /// Gives back what no call has begun with, where the broker keeps it; else a delivery hands it to the queue.
    async fn give_back(
        &mut self,
        served: &mut Served,
        delivering: &Delivering,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        match delivering.kept_by {
            KeptBy::Nobody => {
                self.take_what_has_come(served);
                self.gatherer.waiting().for_each(|record| {
                    served.hand.remove(&record.token);
                });
                self.deliver_all(stop);
                Ok(())
            }
            KeptBy::Broker => {
                let waiting = self.gatherer.take_all();
                self.place.ended("returned", waiting.len());
                let returned = |token| Settled { token, end: End::Returned };
                served.settle(&mut waiting.iter().map(|record| returned(record.token)).collect()).await
            }
        }
    }

    /// Takes what lies in the client of a broker that keeps nothing: it would be lost with the connection.
    fn take_what_has_come(&mut self, served: &mut Served) {
        for _ in 0..HAND_LEN_MAX {
            let came = tokio::task::unconstrained(served.session.next()).now_or_never();
            let Some(Ok(record)) = came else { return };
            self.place.received();
            self.gatherer.push(record, Instant::now());
        }
    }

    /// Hands what waits, and what nobody else keeps, to deliveries that begin nothing any more.
    fn deliver_all(&mut self, stop: &CancellationToken) {
        let (settled, _) = mpsc::channel(1);
        let (over, stop) = (stop.clone(), stop.clone());
        let delivering = Delivering { kept_by: KeptBy::Nobody, settled, over, stop };
        while self.gatherer.due_at().is_some() {
            let records = self.gatherer.take();
            let delivery = delivering.delivery(&self.place);
            self.deliveries.spawn(delivery.run(records));
        }
    }
}

/// How deliveries of one session are made.
struct Delivering {
    kept_by: KeptBy,
    settled: mpsc::Sender<Settled>,
    over: CancellationToken,
    stop: CancellationToken,
}

impl Delivering {
    fn delivery(&self, place: &Arc<Place>) -> Delivery {
        Delivery {
            place: Arc::clone(place),
            kept_by: self.kept_by,
            settled: self.settled.clone(),
            over: self.over.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// A session and the records of it that have not come to an end.
struct Served {
    session: Box<dyn Session>,
    hand: BTreeSet<u64>,
    ends: mpsc::Receiver<Settled>,
}

impl Served {
    async fn settle(&mut self, ends: &mut Vec<Settled>) -> Result<(), SourceError> {
        // What an earlier session brought is not this one's to settle.
        ends.retain(|settled| self.hand.remove(&settled.token));
        if !ends.is_empty() {
            in_time("acknowledging records", self.session.settle(ends)).await?;
            ends.clear();
        }
        Ok(())
    }

    async fn hold(&mut self) -> Result<(), SourceError> {
        if self.hand.is_empty() {
            return Ok(());
        }
        let tokens: Vec<u64> = self.hand.iter().copied().collect();
        in_time("holding records", self.session.hold(&tokens)).await
    }
}

/// There is room for another record.
struct Room;

/// The next record where there is room for it; where there is none, only the end of the session is waited for.
async fn next_or_end(session: &mut dyn Session, room: Option<Room>) -> Result<Record, SourceError> {
    match room {
        Some(Room) => session.next().await,
        None => Err(session.ended().await),
    }
}

async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(slots).acquire_owned().await {
        Ok(slot) => slot,
        // Nobody closes it.
        Err(_) => std::future::pending().await,
    }
}

async fn in_time<T>(
    what: &str,
    word: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let late = |_| SourceError::said(format!("{what} took over {} s", ANSWER_TIMEOUT.as_secs()));
    tokio::time::timeout(ANSWER_TIMEOUT, word).await.map_err(late)?
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
