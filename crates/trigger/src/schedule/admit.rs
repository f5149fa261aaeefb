//! One slot of one schedule: admitted with its call in one commit, or skipped for a reason that is recorded.

use std::sync::Arc;

use alula_model::trigger::Overlap;
use alula_model::{Clock, ErrorCode, Fault, Timestamp};
use alula_store::{Batch, Error as StoreError};

use super::plan::Plan;
use super::policy::{self, Decision};
use super::states::{Admitted, SkipReason, Skipped, State, States, Stored};
use super::table::Entry;
use super::{Accept, Declared, Observe, event};
use crate::{Pause, Pauses, TriggerKey};

/// What admitting works with.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    pub(super) states: States,
    pub(super) pauses: Pauses,
    pub(super) accept: Arc<dyn Accept>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) missed_after_ms: i64,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) key: TriggerKey,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    /// The record was moved on, by this or by somebody else.
    Moved(Stored),
    /// It is paused.
    Paused(Stored, Pause),
    /// There is no record any more, or it belongs to another statement: what is deployed has to be looked at again.
    Stale,
    /// It could not be done now.
    Failed(String),
}

/// Why a commit was not made.
enum Lost {
    /// The record or the pause is not as it was, or the call is there already.
    Conflict,
    /// Something else.
    Fault(Fault),
}

impl Admission {
    /// Deals with what has come due of a schedule at `now`: one slot at the most.
    pub(super) async fn run(self, entry: Entry, now: Timestamp) -> Done {
        let key = entry.declared.key.clone();
        let end = match self.try_run(&entry, now).await {
            Ok(end) => end,
            Err(message) => {
                self.observe.failed();
                tracing::warn!(trigger = %key, reason = message, "a slot cannot be admitted now, it is tried again");
                End::Failed(message)
            }
        };
        Done { key, end }
    }

    async fn try_run(&self, entry: &Entry, now: Timestamp) -> Result<End, String> {
        if entry.pause.is_some() {
            return self.read_again(&entry.declared).await;
        }
        let plan = Plan::parse(entry.declared.source()).map_err(|error| error.to_string())?;
        let Some(next) = entry.stored.state.next.filter(|next| *next <= now) else {
            return Ok(End::Moved(entry.stored.clone()));
        };
        let decision = policy::decide(&plan, entry.declared.source(), next, now, self.missed_after_ms);
        match self.carry_out(entry, &decision, now).await {
            Ok(stored) => Ok(End::Moved(stored)),
            Err(Lost::Fault(fault)) => Err(fault.to_string()),
            Err(Lost::Conflict) => self.after_conflict(entry, &decision, now).await,
        }
    }

    async fn carry_out(&self, entry: &Entry, decision: &Decision, now: Timestamp) -> Result<Stored, Lost> {
        let mut state = State { next: decision.next, ..entry.stored.state.clone() };
        if let Some((first, last)) = decision.skipped {
            state.skipped = Some(Skipped { first, last, at: now, reason: SkipReason::Missed });
        }
        let Some(slot) = decision.slot else { return self.skip(entry, state).await };
        let skip = |state: State, reason| State {
            skipped: Some(Skipped { first: slot, last: slot, at: now, reason }),
            ..state
        };
        if let Some(running) = self.overlap(entry).await? {
            return self.skip(entry, skip(state, running)).await;
        }
        let call = event::call(&entry.declared, slot);
        state.admitted = Some(Admitted { slot, at: now, id: call.id.clone() });
        let prepared = match self.accept.prepare(call).await {
            Ok(prepared) => prepared,
            Err(fault) if is_passing(&fault) => return Err(Lost::Fault(fault)),
            Err(Fault { code, message, .. }) => {
                tracing::warn!(trigger = %entry.declared.key, %code, message, "a slot was refused");
                state.admitted.clone_from(&entry.stored.state.admitted);
                return self.skip(entry, skip(state, SkipReason::Refused { code, message })).await;
            }
        };
        let stored = self.commit(entry, prepared.batch, state).await?;
        (prepared.committed)();
        self.observe.admitted(self.clock.now().millis_since(slot));
        Ok(stored)
    }

    /// The reason for which this slot does not run beside the one before, if it does not.
    async fn overlap(&self, entry: &Entry) -> Result<Option<SkipReason>, Lost> {
        let overlap = entry.declared.source().overlap;
        let Some(before) = entry.stored.state.admitted.as_ref().filter(|_| overlap != Overlap::Allow) else {
            return Ok(None);
        };
        if !self.accept.is_open(&before.id).await.map_err(Lost::Fault)? {
            return Ok(None);
        }
        if overlap == Overlap::Forbid {
            return Ok(Some(SkipReason::Overlap { running: before.id.clone() }));
        }
        // Before the new one is admitted: what happens in between, the slot is still there.
        self.accept.cancel(&before.id).await.map_err(Lost::Fault)?;
        tracing::info!(trigger = %entry.declared.key, invocation = %before.id, "a run gave way to the next slot");
        Ok(None)
    }

    async fn skip(&self, entry: &Entry, state: State) -> Result<Stored, Lost> {
        let stored = self.commit(entry, Batch::default(), state).await?;
        if let Some(skipped) = &stored.state.skipped {
            self.observe.skipped(skipped.reason.as_str());
            tracing::info!(trigger = %entry.declared.key, reason = skipped.reason.as_str(), "slots were skipped");
        }
        Ok(stored)
    }

    async fn commit(&self, entry: &Entry, batch: Batch, state: State) -> Result<Stored, Lost> {
        let key = &entry.declared.key;
        let batch = States::put(batch, key, &state, Some(entry.stored.revision));
        match self.states.commit(Pauses::unless_paused(key, batch)).await {
            Ok(revision) => Ok(Stored { state, revision }),
            Err(StoreError::Conflict { .. }) => Err(Lost::Conflict),
            Err(error) => Err(Lost::Fault(Fault::new(ErrorCode::StoreUnavailable, error.to_string()))),
        }
    }

    /// Somebody else was faster, or the call of this slot exists although the record does not say so: then the record is
    /// older than the queue, as after a restore from a backup, and the slot must not run again.
    async fn after_conflict(
        &self,
        entry: &Entry,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<End, String> {
        match self.read_again(&entry.declared).await? {
            End::Moved(stored) if stored.revision == entry.stored.revision => {
                let Some(slot) = decision.slot else { return Ok(End::Moved(stored)) };
                let id = event::call(&entry.declared, slot).id;
                let admitted = Some(Admitted { slot, at: now, id });
                let state = State { next: decision.next, admitted, ..stored.state };
                match self.commit(entry, Batch::default(), state).await {
                    Ok(stored) => Ok(End::Moved(stored)),
                    Err(Lost::Conflict) => self.read_again(&entry.declared).await,
                    Err(Lost::Fault(fault)) => Err(fault.to_string()),
                }
            }
            end => Ok(end),
        }
    }

    async fn read_again(&self, declared: &Declared) -> Result<End, String> {
        let key = &declared.key;
        let failed = |error: StoreError| error.to_string();
        // The pause is read first: whoever resumes removes it together with writing the state.
        let pause = self.pauses.get(key).await.map_err(failed)?;
        let stored = self.states.read(key).await.map_err(failed)?;
        Ok(match (stored, pause) {
            (None, _) => End::Stale,
            (Some(stored), _) if !stored.state.is_of(declared) => End::Stale,
            (Some(stored), Some(pause)) => End::Paused(stored, pause),
            (Some(stored), None) => End::Moved(stored),
        })
    }
}

/// Whether it makes sense to try the same slot again: not the schedule's fault, and over some time.
fn is_passing(fault: &Fault) -> bool {
    fault.is_retryable() || fault.code == ErrorCode::Internal
}

/// What is declared and stored of a schedule that an operator resumes at `now`: what has come meanwhile is skipped.
pub(super) fn resumed(declared: &Declared, state: &State, now: Timestamp) -> State {
    let next = match state.next {
        Some(next) if next <= now => Plan::parse(declared.source()).ok().and_then(|plan| plan.next(now)),
        next => next,
    };
    State { next, ..state.clone() }
}
