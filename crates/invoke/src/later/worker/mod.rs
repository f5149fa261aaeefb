//! The worker: takes messages from the queue in a fair order and runs them.
//!
//! ```text
//! bell, clock, other processes -> Lanes -> Chooser -> room? -> claim -> run, renew -> settle
//!                                   ^                    Loads ^----------- ended ----'
//! ```
//!
//! One task owns all of the state and never waits for the store or a call: claims and calls run beside it and report back.
//! What a message means is decided in `run`; what its end means, in `verdict`.

mod bell;
mod deliver;
mod ends;
mod fair;
mod follow_ups;
mod lanes;
mod load;
mod run;
mod settle;
mod streaks;

use std::sync::Arc;
use std::time::Duration;

use alula_model::Timestamp;
use alula_store::Claims;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use bell::Bell;
pub(crate) use ends::Ends;
use lanes::Lanes;
use load::{Loads, Room, Went};
use run::Runner;
pub(crate) use settle::{Call, Job};

use super::options::{CLAIM_LEN, CLAIMS_AT_ONCE, LEASE_MS, LOOK_ALONE_MS, LOOK_SHARED_MS, StoreUse};
use super::rates::Rates;
use super::{Acceptor, Courier, Flow, Lane, Topics};
use crate::Invoker;

/// Reports that wait to be read: all that can be made at once find room.
const REPORTS_MAX: usize = 1_024;
/// How long a lane is left alone whose claim failed because the store does not answer, in milliseconds.
const STORE_PAUSE_MS: i64 = 1_000;
/// How often the books are checked and what is old is swept, in seconds.
const HOUSEKEEPING_S: u64 = 10;

/// What the worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Accepts what calls lead to, and knows the store.
    pub acceptor: Acceptor,
    /// The queue.
    pub queue: Arc<dyn alula_store::WholeQueue>,
    /// Runs calls.
    pub invoker: Invoker,
    /// Takes what leaves.
    pub courier: Arc<dyn Courier>,
    /// Publishes to topics.
    pub topics: Arc<dyn Topics>,
    /// Gives random numbers.
    pub random: fn() -> u64,
    /// Where calls run.
    pub data_plane: tokio::runtime::Handle,
}

/// The worker, ready to run.
#[derive(Debug)]
pub struct Service {
    runner: Arc<Runner>,
    lanes: Lanes,
    loads: Loads,
    rates: Rates,
    claims: usize,
    reports: mpsc::Receiver<Report>,
    report: mpsc::Sender<Report>,
    tasks: TaskTracker,
    data_plane: tokio::runtime::Handle,
}

/// What tasks tell.
#[derive(Debug)]
enum Report {
    /// A claim was made, or failed.
    Claimed { lane: Lane, asked: usize, claims: alula_store::Result<Claims> },
    /// An attempt has ended and is settled.
    Ended { lane: Lane, went: Went },
    /// All lanes that hold messages.
    Heads(Vec<alula_store::LaneHead>),
}

impl Service {
    /// A worker over `parts`; `ends` tells those who wait for calls, `rates` those who watch.
    #[must_use]
    pub(crate) fn new(parts: WorkerParts, ends: Ends, rates: Rates) -> Self {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let loads = Loads::new(parts.acceptor.options().clone());
        let data_plane = parts.data_plane.clone();
        let runner = Arc::new(Runner::new(parts, ends));
        Self {
            runner,
            lanes: Lanes::default(),
            loads,
            rates,
            claims: 0,
            reports,
            report,
            tasks: TaskTracker::new(),
            data_plane,
        }
    }

    /// Runs until `shutdown`; then nothing more is claimed, and what runs is let finish.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.begin() => {}
            () = shutdown.cancelled() => return,
        }
        let mut look = tokio::time::interval(self.look_every());
        let mut housekeeping = tokio::time::interval(Duration::from_secs(HOUSEKEEPING_S));
        let bell = self.runner.acceptor().bell().clone();
        while !shutdown.is_cancelled() {
            self.claim_what_may_run();
            let (runner, due_ms) = (Arc::clone(&self.runner), self.due_ms());
            let (until_due, arrivals) = (sleep_ms(due_ms), runner.queue().arrivals());
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = bell.wait() => {}
                () = until_due => {}
                () = arrivals => self.look(),
                _ = look.tick() => self.look(),
                _ = housekeeping.tick() => self.keep_house(),
                Some(report) = self.reports.recv() => self.hear(report),
            }
            while let Ok(report) = self.reports.try_recv() {
                self.hear(report);
            }
        }
        self.drain().await;
    }

    /// Lets what runs come to its end.
    async fn drain(mut self) {
        self.tasks.close();
        let tasks = self.tasks.clone();
        let mut ended = std::pin::pin!(tasks.wait());
        loop {
            tokio::select! {
                () = &mut ended => return,
                Some(report) = self.reports.recv() => self.hear_last(report),
            }
        }
    }

    /// What was claimed as the shutdown came is given back by its lease: nothing of it has begun.
    fn hear_last(&mut self, report: Report) {
        if let Report::Claimed { claims: Ok(claims), .. } = report {
            self.runner.give_back(claims.claims, &self.tasks);
        }
    }

    /// Nothing is claimed before the claims of an earlier process have ended, for these would end as well.
    async fn begin(&self) {
        while let Err(error) = async {
            self.runner.take_over().await?;
            self.runner.refresh().await
        }
        .await
        {
            tracing::warn!(%error, "the queue is not served yet: the store does not answer");
            sleep_ms(Some(STORE_PAUSE_MS.unsigned_abs())).await;
        }
    }

    fn look_every(&self) -> Duration {
        let millis = match self.runner.acceptor().options().store {
            StoreUse::Alone => LOOK_ALONE_MS,
            StoreUse::Shared => LOOK_SHARED_MS,
        };
        Duration::from_millis(millis)
    }

    fn now(&self) -> Timestamp {
        self.runner.clock().now()
    }

    /// Time to the next lane's moment, in milliseconds.
    fn due_ms(&self) -> Option<u64> {
        self.lanes.next_due().map(|at| at.millis_since(self.now()))
    }

    /// Reads all lanes, beside this task.
    fn look(&self) {
        let (runner, report) = (Arc::clone(&self.runner), self.report.clone());
        self.tasks.spawn(async move {
            match runner.queue().heads().await {
                Ok(heads) => drop(report.send(Report::Heads(heads)).await),
                Err(error) => tracing::warn!(%error, "the queue cannot be looked at"),
            }
        });
    }

    fn keep_house(&mut self) {
        self.loads.forget_idle();
        self.rates.forget_idle(Instant::now());
        let runner = Arc::clone(&self.runner);
        self.tasks.spawn(async move { runner.keep_house().await });
    }

    fn hear(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Heads(heads) => {
                for head in heads {
                    if let Some(lane) = Lane::parse(&head.lane) {
                        self.lanes.heard(&lane, head.ready_at, now);
                    }
                }
            }
            Report::Ended { lane, went } => {
                self.rates.ended(&lane, Instant::now());
                self.loads.ended(&lane, went);
                self.lanes.ended(&lane);
            }
            Report::Claimed { lane, asked, claims } => self.start(&lane, asked, claims, now),
        }
    }

    /// Runs what a claim has taken.
    fn start(&mut self, lane: &Lane, asked: usize, claims: alula_store::Result<Claims>, now: Timestamp) {
        self.claims -= 1;
        let claims = match claims {
            Ok(claims) => claims,
            Err(error) => {
                tracing::warn!(%error, %lane, "no messages can be claimed");
                self.loads.give_back(lane, asked);
                self.lanes.claimed(lane, Some(now.plus_millis(STORE_PAUSE_MS)), now);
                return;
            }
        };
        tracing::trace!(%lane, asked, claimed = claims.claims.len(), "messages are claimed");
        self.loads.give_back(lane, asked - claims.claims.len().min(asked));
        self.lanes.claimed(lane, claims.next_ready_at, now);
        for claim in claims.claims {
            let (runner, report, lane) = (Arc::clone(&self.runner), self.report.clone(), lane.clone());
            let run = async move {
                let went = runner.run(&lane, claim).await;
                // The worker reads until all of these have ended.
                drop(report.send(Report::Ended { lane, went }).await);
            };
            self.tasks.spawn_on(run, &self.data_plane);
        }
    }

    fn claim_what_may_run(&mut self) {
        let now = self.now();
        for (lane, at) in self.runner.acceptor().bell().take() {
            self.lanes.heard(&lane, at, now);
        }
        self.lanes.tick(now);
        while self.claims < CLAIMS_AT_ONCE {
            let next = self.lanes.next(|class| self.loads.has_room(class));
            let Some(lane) = next else { break };
            self.claim_of(&lane, now);
        }
    }

    fn claim_of(&mut self, lane: &Lane, now: Timestamp) {
        if self.runner.acceptor().flows().of(&lane.namespace, &lane.function) == Flow::Paused {
            self.lanes.forget(lane);
            return;
        }
        let snapshot = self.runner.acceptor().parts().catalog.load();
        let spec = snapshot
            .function(&lane.namespace, &lane.function)
            .and_then(|entry| entry.plan(&alula_model::Qualifier::Latest).ok().map(|plan| &plan.spec));
        let clock = Instant::now();
        match self.loads.room(lane, spec, clock) {
            Room::Full => self.lanes.set_full(lane),
            Room::From(at) => {
                let wait = at.saturating_duration_since(clock).as_millis();
                let at = now.plus_millis(i64::try_from(wait).unwrap_or(i64::MAX));
                self.lanes.set_until(lane, at, now);
            }
            Room::For(room) => self.claim(lane, room.min(CLAIM_LEN)),
        }
    }

    fn claim(&mut self, lane: &Lane, count: usize) {
        self.loads.reserve(lane, count);
        let weights = self.loads.weights(lane);
        self.lanes.claiming(lane, count, weights);
        self.claims += 1;
        let (runner, report, lane) = (Arc::clone(&self.runner), self.report.clone(), lane.clone());
        self.tasks.spawn(async move {
            let now = runner.clock().now();
            let claims = runner.queue().claim(&lane.to_string(), count, now, LEASE_MS).await;
            drop(report.send(Report::Claimed { lane, asked: count, claims }).await);
        });
    }
}

/// Ends after `millis`; never, without any.
async fn sleep_ms(millis: Option<u64>) {
    match millis {
        Some(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        None => std::future::pending().await,
    }
}
