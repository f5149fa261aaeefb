//! Zygotes of versions: a process that has loaded one version's code, and the instances that are forked from it.
//!
//! It is made like an instance, in a cell with the version's limits, network and environment, but told to serve nothing.
//! When its code is loaded it looks whether it can be forked and is frozen; for each start it is thawed for the moment of
//! one fork. An instance gets a cell of its own, one of which is prepared ahead.
//!
//! Which versions get one, and for how long, is the pool's business.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, Tier};
use tokio::time::{Instant, timeout};

use super::room::{self, Found, Room};
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
    let spec = room::cell_spec(&plan, &language);
    let own = CellSpec { processes_max: spec.processes_max.max(PROCESSES_MIN), ..spec.clone() };
    let cell = backend.launcher.prepare_breeding(own).await?;
    let waiting = stems::fork(&*cell, first, None).await?;
    let found = Found { cell: Arc::clone(&cell) as _, waiting: Some(waiting), tier: Tier::Cold };
    let room = Room::of(&backend, Arc::clone(&plan), Arc::clone(&language), id, found);
    let init_timeout = Duration::from_millis(plan.spec.init_timeout_ms);
    let loaded = timeout(init_timeout, events::start_parent(&room)).await;
    let connection = match loaded.map_err(|_| room.init_timeout())?? {
        Ok(connection) => connection,
        Err(reason) => return Ok(Bred::Unfit { reason }),
    };
    timeout(FORK_WAIT, cell.breed(connection)).await.map_err(|_| stuck())??;
    let spare = Mutex::new(cell.prepare_within(spec.clone()).await.ok());
    cell.freeze();
    let shared =
        Shared { backend, plan, language, spec, room, cell, spare, turn: tokio::sync::Mutex::default() };
    Ok(Bred::Zygote(Arc::new(VersionZygote(Arc::new(shared)))))
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
    /// The cell of the next instance.
    spare: Mutex<Option<Box<dyn Cell>>>,
    /// Held by the start that has it thawed.
    turn: tokio::sync::Mutex<()>,
}

impl Zygote for VersionZygote {
    fn id(&self) -> &InstanceId {
        &self.0.room.id
    }

    fn start(&self, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(self.0.start(id))
    }

    fn usage(&self) -> Usage {
        self.0.cell.usage()
    }

    fn is_gone(&self) -> bool {
        self.0.room.is_gone()
    }
}

impl Shared {
    async fn start(self: &Arc<Self>, id: InstanceId) -> Result<Started, Fault> {
        let began = Instant::now();
        let _spare = RefillAfter(Arc::clone(self));
        let spare = self.take_spare();
        let cell: Arc<dyn Cell> = Arc::from(match spare {
            Some(cell) => cell,
            None => self.cell.prepare_within(self.spec.clone()).await?,
        });
        let waiting = self.fork(&*cell).await?;
        let found = Found { cell, waiting: Some(waiting), tier: Tier::Zygote };
        let (plan, language) = (Arc::clone(&self.plan), Arc::clone(&self.language));
        finish_start(Room::of(&self.backend, plan, language, id, found), began).await
    }

    async fn fork(&self, cell: &dyn Cell) -> Result<Waiting, Fault> {
        let _turn = self.turn.lock().await;
        self.cell.thaw();
        let forked = timeout(FORK_WAIT, stems::fork(cell, Parent::Version, None)).await;
        let forked = forked.map_err(|_| stuck()).flatten();
        match &forked {
            Ok(_) => drop(self.cell.freeze()),
            // It did something else, ended for one, and is of no use any more.
            Err(_) => self.room.retire(),
        }
        forked
    }

    fn take_spare(&self) -> Option<Box<dyn Cell>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn refill(self: Arc<Self>) {
        let is_missing = self.spare.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_missing && let Ok(cell) = self.cell.prepare_within(self.spec.clone()).await {
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(cell);
        }
    }
}

/// Held by a start until it is over: the next spare cell takes no time from it.
struct RefillAfter(Arc<Shared>);

impl Drop for RefillAfter {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Arc::clone(&self.0).refill());
        }
    }
}

fn stuck() -> Fault {
    Fault::new(ErrorCode::SandboxFailed, "a loaded process of the function did not let itself be forked")
}
