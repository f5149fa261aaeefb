//! Zygotes of versions: a process that has loaded one version's code, and the instances that are forked from it.
//!
//! It is made like an instance, in a cell with the version's limits, network and environment, but told to serve nothing.
//! When its code is loaded it looks whether it can be forked and is frozen; for each fork it is thawed for that moment. An
//! instance gets a cell of its own. One is forked ahead into its cell, where it waits to be told which instance it is, so
//! that a start is that one message; only starts that follow each other at once wait for their fork.
//!
//! Which versions get one, and for how long, is the pool's business.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, Tier};
use tokio::time::{Instant, timeout};

use super::cells::{self, Found};
use super::room::Room;
use super::stems::{self, Waiting};
use super::{ProcessBackend, events, finish_start};
use crate::language::Language;
use crate::{BoxFuture, Bred, BreedingCell, Cell, CellSpec, Parent, Started, Usage, VersionPlan, Zygote};

/// How long a fork may take: a hundred times what it does. The code is user code, and might not come back.
const FORK_WAIT: Duration = Duration::from_secs(1);
/// Processes that its cell must have room for: itself, the first process of the cell, and those that a fork passes
/// through.
const PROCESSES_MIN: u32 = 8;

/// Makes the zygote of a version, if it can have one.
pub(super) async fn breed(
    backend: ProcessBackend,
    plan: Arc<VersionPlan>,
    id: InstanceId,
) -> Result<Bred, Fault> {
    let language = backend.language_of(&plan)?;
    let Some(first) = stems::parent_for(&*backend.launcher, &language, &plan) else {
        let reason = "instances of its runtime are not forked here".to_owned();
        return Ok(Bred::Unfit { reason });
    };
    let spec = cells::cell_spec(&backend.door, &plan, &language);
    let own = CellSpec { processes_max: spec.processes_max.max(PROCESSES_MIN), ..spec.clone() };
    let cell = backend.launcher.prepare_breeding(own).await?;
    let waiting = stems::fork(&*cell, first, None).await?;
    let found = Found { cell: Arc::clone(&cell) as _, waiting: Some(waiting), tier: Tier::Cold };
    let room = Room::of(&backend, Arc::clone(&plan), Arc::clone(&language), id, found);
    let init_timeout = Duration::from_millis(plan.spec.init_timeout_ms);
    let loaded = timeout(init_timeout, events::start_parent(&room)).await;
    let loaded = loaded.map_err(|_| room.init_timeout())?;
    let connection = match loaded.map_err(|fault| room.output.masked(fault))? {
        Ok(connection) => connection,
        Err(reason) => return Ok(Bred::Unfit { reason }),
    };
    timeout(FORK_WAIT, cell.breed(connection)).await.map_err(|_| stuck())??;
    let (spare, refilling, turn) = Default::default();
    let shared = Arc::new(Shared { backend, plan, language, spec, room, cell, spare, refilling, turn });
    shared.refill().await?;
    Ok(Bred::Zygote(Arc::new(VersionZygote(shared))))
}

#[derive(Debug)]
struct VersionZygote(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backend: ProcessBackend,
    plan: Arc<VersionPlan>,
    language: Arc<Language>,
    /// What the cell of an instance is like.
    spec: CellSpec,
    room: Arc<Room>,
    cell: Arc<dyn BreedingCell>,
    /// The next instance.
    spare: Mutex<Option<Spare>>,
    /// Held by what makes that.
    refilling: tokio::sync::Mutex<()>,
    /// Held by the fork that has it thawed.
    turn: tokio::sync::Mutex<()>,
}

/// A process that was forked and waits to be told which instance it is.
#[derive(Debug)]
struct Spare {
    cell: Arc<dyn Cell>,
    waiting: Waiting,
}

impl Zygote for VersionZygote {
    fn id(&self) -> &InstanceId {
        &self.0.room.id
    }

    fn start(&self, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(self.0.start(id))
    }

    fn usage(&self) -> Usage {
        let own = self.0.cell.usage();
        let spare = self.0.spare().as_ref().map(|spare| spare.cell.usage()).unwrap_or_default();
        Usage { memory_bytes: own.memory_bytes + spare.memory_bytes, ..own }
    }

    fn is_gone(&self) -> bool {
        self.0.room.is_gone()
    }
}

impl Shared {
    async fn start(self: &Arc<Self>, id: InstanceId) -> Result<Started, Fault> {
        let began = Instant::now();
        let _refill = RefillAfter(Arc::clone(self));
        let spare = self.spare().take();
        let Spare { cell, waiting } = match spare {
            Some(spare) => spare,
            None => self.make().await?,
        };
        let found = Found { cell, waiting: Some(waiting), tier: Tier::Zygote };
        let (plan, language) = (Arc::clone(&self.plan), Arc::clone(&self.language));
        finish_start(Room::of(&self.backend, plan, language, id, found), began).await
    }

    /// Has an instance forked into a cell of its own.
    async fn make(&self) -> Result<Spare, Fault> {
        let cell: Arc<dyn Cell> = Arc::from(self.cell.prepare_within(self.spec.clone()).await?);
        let _turn = self.turn.lock().await;
        let forking = timeout(FORK_WAIT, stems::fork(&*cell, Parent::Version, None));
        // It thaws while the spawner gets ready to ask it.
        let (forked, ()) = tokio::join!(forking, async { self.cell.thaw() });
        match forked.map_err(|_| stuck()).flatten() {
            Ok(waiting) => {
                self.cell.freeze();
                Ok(Spare { cell, waiting })
            }
            Err(fault) => {
                // It did something else, ended for one, and is of no use any more.
                self.room.retire();
                Err(fault)
            }
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next instance forked, where none waits and nobody else is at it.
    async fn refill(&self) -> Result<(), Fault> {
        let Ok(_refilling) = self.refilling.try_lock() else { return Ok(()) };
        if self.spare().is_none() && !self.room.is_gone() {
            let spare = self.make().await?;
            *self.spare() = Some(spare);
        }
        Ok(())
    }
}

/// Held by a start until it is over: making the next spare one takes no time from it, nor from its first call.
struct RefillAfter(Arc<Shared>);

impl Drop for RefillAfter {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::clone(&self.0);
        runtime.spawn(async move {
            tokio::time::sleep(stems::REPLACE_PAUSE).await;
            if let Err(fault) = shared.refill().await {
                tracing::debug!(%fault, version = %shared.plan.key, "nothing was forked ahead");
            }
        });
    }
}

fn stuck() -> Fault {
    Fault::new(ErrorCode::SandboxFailed, "a loaded process of the function did not let itself be forked")
}
