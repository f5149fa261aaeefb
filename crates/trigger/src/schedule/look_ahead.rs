//! Instances for slots to come: asked for ahead, and operators told ahead where there will be none.

use std::sync::Arc;
use std::time::Duration;

use alula_model::Timestamp;
use alula_pool::{Pool, Short};
use alula_runtime::VersionPlan;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::handle::Shared;
use super::table::Entry;
use super::{Observe, event};

/// Whether the instance for the next slot is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Readiness {
    /// Nobody has asked yet: the slot is far, or follows another one closely.
    #[default]
    Unknown,
    /// It has been asked for.
    Asked,
    /// It is there.
    Ready,
    /// It is not, and will not be in time.
    NotReady {
        /// Why, as far as it is known.
        reason: String,
    },
}

/// Asks the pool for instances.
#[derive(Debug, Clone)]
pub(super) struct LookAhead {
    pub(super) pool: Pool,
    pub(super) places: Arc<Semaphore>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) shared: Arc<Shared>,
}

impl LookAhead {
    /// Asks for the instance of an entry's next slot, and notes what becomes of it.
    pub(super) fn begin(&self, entry: Entry, now: Timestamp) {
        let Some(slot) = entry.stored.state.next else { return };
        if follows_closely(&entry, slot, self.shared.options.look_ahead_ms) {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!(trigger = %entry.declared.key, "too many slots come at once to look ahead for this one");
            return;
        };
        self.shared.table().note_readiness(&entry.declared.key, slot, Readiness::Asked);
        let this = self.clone();
        tokio::spawn(async move {
            let wait = Duration::from_millis(event::available_at(&entry.declared, slot).millis_since(now));
            let readiness = this.ask(entry.declared.plan.as_ref(), Instant::now() + wait).await;
            if let Readiness::NotReady { reason } = &readiness {
                this.observe.not_ready();
                let at = super::plan::rfc3339(slot);
                tracing::warn!(trigger = %entry.declared.key, slot = at, reason, "no instance will be ready for a slot");
            }
            this.shared.table().note_readiness(&entry.declared.key, slot, readiness);
            drop(place);
        });
    }

    async fn ask(&self, plan: Option<&Arc<VersionPlan>>, at: Instant) -> Readiness {
        let Some(plan) = plan else {
            return Readiness::NotReady { reason: "its qualifier leads to no version".to_owned() };
        };
        match self.pool.prewarm(plan, at, 1).await {
            Ok(()) => Readiness::Ready,
            Err(short) => Readiness::NotReady { reason: self.reason(&short) },
        }
    }

    /// What the pool says about the version: the pause after failed starts, or its last decision.
    fn reason(&self, short: &Short) -> String {
        let known = self.pool.explain(&short.key.namespace, &short.key.function);
        let known = known.and_then(|known| {
            let standing = known.versions.iter().find(|standing| standing.version == short.key.version);
            let pause = standing.and_then(|standing| standing.pause);
            let paused = pause.map(|(_, code)| format!("its last start failed with {code}"));
            let decided = known.decisions.iter().rev().find(|decision| decision.version == short.key.version);
            paused.or_else(|| decided.map(|decision| decision.what.to_string()))
        });
        known.map_or_else(|| short.to_string(), |known| format!("{short}: {known}"))
    }
}

/// Whether the slot before was so short ago that its instance is still there; asking now would start a second one while
/// the first is busy.
fn follows_closely(entry: &Entry, slot: Timestamp, look_ahead_ms: i64) -> bool {
    let before = entry.stored.state.admitted.as_ref();
    before.is_some_and(|before| slot.as_millis() - before.slot.as_millis() <= look_ahead_ms)
}
