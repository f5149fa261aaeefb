//! Replays: kept events are handed to their subscribers once more.

use alula_invoke::cloudevents::CloudEvent;
use alula_model::{Fault, InvocationId, Lineage, Name, Timestamp};

use super::handle::{Topics, store_fault};
use super::kept::{self, Kept};
use super::publish::{Fanned, Passage};

/// Events that are read at once.
const PAGE_LEN: usize = 20;

/// What is to be handed out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Names this replay: what it makes tells it in the attribute `alulareplay`.
    pub id: InvocationId,
    /// The tenant.
    pub namespace: Name,
    /// The topic.
    pub topic: Name,
    /// Events that were published at this moment or later.
    pub since: Timestamp,
    /// And before this one; up to now where it is left out.
    pub until: Option<Timestamp>,
    /// Only to this function.
    pub function: Option<Name>,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Events that were found.
    pub events: u64,
    /// Calls that they make.
    pub calls: u64,
}

impl Topics {
    /// Hands events out again, in their order, to who listens now. They begin new chains of calls: somebody has asked for
    /// this. What was handed out when it fails in the middle stays so.
    pub async fn replay(&self, replay: &Replay) -> Result<Replayed, Fault> {
        let now = self.shared.clock.now();
        let until = replay.until.map_or(now, |until| until.min(now));
        let (all, mut after) = (
            kept::all_of(&replay.namespace, &replay.topic),
            kept::before(&replay.namespace, &replay.topic, replay.since),
        );
        let mut done = Replayed::default();
        loop {
            let scanned = self.shared.records.scan(&all, Some(&after), PAGE_LEN).await;
            let page = scanned.map_err(|error| store_fault(&error))?;
            let Some(last) = page.last() else { return Ok(done) };
            after = last.key.clone();
            for record in &page {
                let Some((at, _, event)) = Kept::read(&record.value) else { continue };
                if at > until {
                    return Ok(done);
                }
                done.events += 1;
                done.calls += self.replay_one(replay, record.key.as_str(), event).await?;
            }
        }
    }

    async fn replay_one(&self, replay: &Replay, key: &str, mut event: CloudEvent) -> Result<u64, Fault> {
        event.set("alulareplay", replay.id.as_str());
        let at = self.shared.clock.now();
        let lineage = Lineage::default();
        let name = format!("{key} {}", replay.id);
        let passage = Passage { event: &event, lineage: &lineage, at, name: &name };
        let value = event.clone().into_value();
        let index = self.shared.subscriptions.now();
        let is_meant = |function: &Name| replay.function.as_ref().is_none_or(|wanted| wanted == function);
        let mut fanned = Fanned::default();
        for subscription in index.of_topic(&replay.namespace, &replay.topic) {
            if is_meant(&subscription.key.function) && subscription.takes(&value) {
                self.shared.pass(passage, subscription, &mut fanned).await?;
            }
        }
        let calls = fanned.prepared.len() as u64;
        if calls > 0 {
            self.shared.records.commit(fanned.batch).await.map_err(|error| store_fault(&error))?;
            fanned.prepared.iter().for_each(|prepared| self.shared.acceptor.committed(prepared));
        }
        Ok(calls)
    }
}
