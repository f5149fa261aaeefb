//! Telling a function's owner that chains of calls are being stopped because they go in circles: once an hour, not once
//! for each, and whether anybody waited for the call or not.

use alula_model::{Qualifier, Run};
use alula_store::{Batch, Expect, Key};
use tokio::sync::mpsc;

use super::notice::Notice;
use super::{Acceptor, Lane, LaneClass};

/// Runs that wait to be told about. What finds no room is one of many, of which one is told.
const WAITING_MAX: usize = 64;
/// How long an owner is told nothing more of a function's loops, in milliseconds: an hour.
const QUIET_MS: i64 = 3_600_000;

/// Is told of stopped chains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LoopWatch(mpsc::Sender<Run>);

/// Tells the owners.
#[derive(Debug)]
pub struct LoopNotices {
    acceptor: Acceptor,
    stopped: mpsc::Receiver<Run>,
}

/// Runs that were stopped go to the watch; the other part tells the owners of them.
#[must_use]
pub fn watch_loops() -> (LoopWatch, LoopReports) {
    let (tell, stopped) = mpsc::channel(WAITING_MAX);
    (LoopWatch(tell), LoopReports(stopped))
}

/// What a [`LoopWatch`] was told, before there is anybody to tell it to.
#[derive(Debug)]
pub struct LoopReports(mpsc::Receiver<Run>);

impl LoopReports {
    /// Tells owners through `acceptor`.
    #[must_use]
    pub fn told_through(self, acceptor: Acceptor) -> LoopNotices {
        LoopNotices { acceptor, stopped: self.0 }
    }
}

impl LoopWatch {
    /// A chain was stopped, as `run` says. Never blocks.
    pub fn stopped(&self, run: &Run) {
        if self.0.try_send(run.clone()).is_err() {
            tracing::debug!(invocation = %run.id, "a stopped chain of calls is not told about: there are many");
        }
    }
}

impl LoopNotices {
    /// Runs until nobody watches any more.
    pub async fn run(mut self) {
        while let Some(run) = self.stopped.recv().await {
            if let Err(error) = self.tell(&run).await {
                tracing::warn!(%error, function = %run.key, "an owner could not be told of a loop");
            }
        }
    }

    async fn tell(&self, run: &Run) -> alula_store::Result<()> {
        let parts = self.acceptor.parts();
        let snapshot = parts.catalog.load();
        let (namespace, function) = (&run.key.namespace, &run.key.function);
        let plan = snapshot
            .function(namespace, function)
            .and_then(|entry| entry.plan(&Qualifier::Version(run.key.version)).ok().cloned());
        let contacts = plan.map(|plan| plan.spec.asynchronous.notify.clone()).unwrap_or_default();
        if contacts.is_empty() {
            return Ok(());
        }
        let now = parts.clock.now();
        let told = Key::new(&["loop", namespace.as_str(), function.as_str()]);
        if parts.records.get(&told).await?.is_some() {
            return Ok(());
        }
        let reason = run.message.as_deref().unwrap_or_default();
        let lane =
            Lane { namespace: namespace.clone(), function: function.clone(), class: LaneClass::Delivery };
        let text = format!(
            "A chain of calls was stopped before it ran {function} in namespace {namespace} once more.\n\
             The call: {}\nWhy: {reason}\n\
             If the chain is meant, set async.loops of the function; docs/errors/loop_detected.md says how.\n\
             You are told at most once an hour.",
            run.id
        );
        let notice = Notice {
            event: "loop_detected",
            subject: &format!("{function}: a loop of calls was stopped"),
            text: &text,
            lane: &lane,
            about: &run.id,
            reason,
            at: now,
        };
        let batch =
            Batch::default().put_until(told, run.id.to_string(), Expect::Absent, now.plus_millis(QUIET_MS));
        match parts.records.commit(notice.add_to(batch, &contacts)).await {
            Ok(_) => self.acceptor.bell().ring(lane, now),
            // Another replica was faster.
            Err(alula_store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
