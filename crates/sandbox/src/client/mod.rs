//! The platform's side: the [`Sandbox`] that makes cells by asking the spawner.

mod cell;
mod ownership;
mod peer;
mod process;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use alula_model::{ErrorCode, Fault};
use alula_runtime::{
    BoxFuture, BreedingCell, Cell, CellSpec, EGRESS_PROXY_PORT, Launcher, LauncherReport, Mount,
};

use tokio::sync::watch;

use crate::cgroup::Layout;
use crate::egress::EgressGate;
use crate::link::ANSWER_BYTES_MAX;
use crate::protocol::{CellPlan, MountPlan, Purpose, Reply, Request};
use crate::report::{self, Facts};
use crate::spawner::SpawnerLink;
use cell::SandboxCell;
use peer::Peer;

/// Makes cells of processes on this machine.
///
/// Cheap to clone. When the last clone and the last cell are dropped the spawner ends and everything with it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

/// What the sandbox and its cells have in common.
#[derive(Debug)]
struct Shared {
    spawner: Arc<Peer<Reply>>,
    facts: Facts,
    groups: Option<Layout>,
    egress: EgressGate,
    /// Reads the spawner's answers.
    reader: tokio::task::AbortHandle,
    /// Closed when the spawner answers no more.
    alive: watch::Receiver<()>,
}

/// Watches over a spawner, without keeping it up.
#[derive(Debug)]
pub struct SpawnerWatch {
    alive: watch::Receiver<()>,
}

impl SpawnerWatch {
    /// Waits until the spawner is gone. All its cells end with it, and no new one can be made: who started it has to
    /// start again.
    pub async fn gone(&mut self) {
        // Nothing is ever sent: a change is the end.
        while self.alive.changed().await.is_ok() {}
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Sandbox {
    /// Takes the link to a spawner and waits until it has set itself up, inside a tokio runtime. `egress`
    /// leads cells to the outside.
    pub async fn connect(link: SpawnerLink, egress: EgressGate) -> io::Result<Self> {
        let spawner = Arc::new(Peer::<Reply>::new(link.link)?);
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let hello = spawner.receive(&mut buffer).await?.map(|received| received.message.body);
        let Some(Reply::Hello { facts, groups }) = hello else {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the spawner ended while it was set up"));
        };
        let listener = Arc::clone(&spawner);
        let (living, alive) = watch::channel(());
        let listen = async move {
            listener.listen(|_| ()).await;
            drop(living);
        };
        let reader = tokio::spawn(listen).abort_handle();
        Ok(Self { shared: Arc::new(Shared { spawner, facts, groups, egress, reader, alive }) })
    }

    /// A watch over the spawner.
    #[must_use]
    pub fn watch(&self) -> SpawnerWatch {
        SpawnerWatch { alive: self.shared.alive.clone() }
    }
}

/// What the machine gives, without running anything: for `alula doctor`. Like
/// [`fork_spawner`](crate::fork_spawner), which made the link, it belongs into a process without threads.
pub fn inspect(link: SpawnerLink) -> io::Result<LauncherReport> {
    use crate::protocol::Numbered;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let hello = crate::link::receive::<Numbered<Reply>>(&link.link, &mut buffer)?;
    match hello.map(|received| received.message.body) {
        Some(Reply::Hello { facts, .. }) => Ok(report::describe(&facts)),
        _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the spawner ended while it was set up")),
    }
}

impl Launcher for Sandbox {
    fn prepare(&self, spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>> {
        let (shared, place) = (Arc::clone(&self.shared), Place { purpose: Purpose::Work, within: None });
        Box::pin(async move { Ok(shared.prepare(spec, place).await? as Box<dyn Cell>) })
    }

    fn prepare_breeding(&self, spec: CellSpec) -> BoxFuture<'_, Result<Arc<dyn BreedingCell>, Fault>> {
        let (shared, place) = (Arc::clone(&self.shared), Place { purpose: Purpose::Breeding, within: None });
        Box::pin(async move {
            let cell: Box<dyn BreedingCell> = shared.prepare(spec, place).await?;
            Ok(Arc::from(cell))
        })
    }

    fn can_specialise(&self) -> bool {
        true
    }

    /// A zygote enters namespaces of cells that belong to other users, which takes the rights of root.
    fn can_fork(&self) -> bool {
        self.shared.facts.privileged && self.shared.facts.cell_error.is_none()
    }

    fn report(&self) -> LauncherReport {
        report::describe(&self.shared.facts)
    }
}

/// What a cell is made for, and where.
#[derive(Debug, Clone, Copy)]
struct Place {
    purpose: Purpose,
    /// The cell that it is within.
    within: Option<u64>,
}

impl Shared {
    async fn prepare(self: Arc<Self>, spec: CellSpec, place: Place) -> Result<Box<SandboxCell>, Fault> {
        // A task of its own: if the caller goes away, the cell is still received, and then dropped.
        match tokio::spawn(async move { self.make(spec, place).await }).await {
            Ok(made) => made.map(Box::new),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn make(self: Arc<Self>, mut spec: CellSpec, place: Place) -> Result<SandboxCell, Fault> {
        let proxied = self.egress.leads_somewhere(&spec.behalf);
        if proxied && !spec.listeners.contains(&EGRESS_PROXY_PORT) {
            spec.listeners.push(EGRESS_PROXY_PORT);
        }
        let plan = cell_plan_of(&spec, place.purpose);
        let (reply, fds) = self.ask(Request::Prepare { plan, within: place.within }).await?;
        let Reply::Prepared { cell, group, owner } = reply else {
            return Err(failed(&"the spawner answered something else"));
        };
        let made = SandboxCell::new(Arc::clone(&self), cell, group, &spec, fds);
        let made = made.map_err(|error| failed(&error))?;
        made.serve_egress(&spec).await;
        if let Some(owner) = owner {
            let folders = spec.mounts.into_iter().filter(|mount| mount.writable).map(|mount| mount.source);
            ownership::give(folders.collect(), owner).await.map_err(|error| failed(&error))?;
        }
        Ok(made)
    }

    /// Asks the spawner; a refusal is a fault.
    async fn ask(&self, request: Request) -> Result<(Reply, Vec<OwnedFd>), Fault> {
        self.ask_with(request, &[]).await
    }

    async fn ask_with(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Fault> {
        let answered = self.spawner.ask(self.spawner.next_number(), request, fds).await;
        let received = answered.map_err(|error| {
            let why = "the spawner, which makes all sandboxes, has ended; the platform must be started again";
            failed(&format!("{why}: {error}"))
        })?;
        match received.message {
            Reply::Failed { reason } if self.facts.cell_error.is_some() => {
                Err(failed(&format!("{reason}; {}", report::NAMESPACE_REMEDY)))
            }
            Reply::Failed { reason } => Err(failed(&reason)),
            reply => Ok((reply, received.fds)),
        }
    }
}

fn cell_plan_of(spec: &CellSpec, purpose: Purpose) -> CellPlan {
    CellPlan {
        purpose,
        memory_bytes: spec.memory_bytes,
        processes_max: spec.processes_max,
        tmp_bytes: spec.tmp_bytes,
        cpu_weight: spec.cpu_weight,
        listeners: spec.listeners.clone(),
        mounts: spec.mounts.iter().cloned().map(plan_of).collect(),
    }
}

fn plan_of(mount: Mount) -> MountPlan {
    MountPlan { source: mount.source, target: mount.target, writable: mount.writable }
}

/// A fault of the sandbox itself.
fn failed(reason: &impl std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::SandboxFailed, format!("the sandbox failed: {reason}"))
}
