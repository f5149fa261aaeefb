//! A cell, as the platform sees it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alula_model::{ErrorCode, Fault};
use alula_runtime::{
    BoxFuture, BreedingCell, Cell, CellSpec, EGRESS_PROXY_PORT, Mount, Parent, Process, ProcessExit,
    ProcessSpec, Usage, ZygoteSpec,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;

use super::peer::Peer;
use super::process::{Running, SandboxProcess};
use super::{Place, Shared, cell_plan_of, failed, plan_of};
use crate::cgroup::{Activity, Layout};
use crate::egress::{Inside, Sockets};
use crate::link::FDS_MAX;
use crate::protocol::{Answer, Order, Purpose, Reply, Request, SocketKind, ZygotePlan};

/// A cell.
#[derive(Debug)]
pub(super) struct SandboxCell {
    shared: Arc<Shared>,
    id: u64,
    group: String,
    /// Where host folders are shown.
    mounted: Mutex<Vec<PathBuf>>,
    holder: Arc<Peer<Answer>>,
    running: Arc<Running>,
    listeners: Mutex<HashMap<u16, TcpListener>>,
    reader: AbortHandle,
    proxy: OnceLock<AbortHandle>,
    destroyed: Arc<AtomicBool>,
}

impl SandboxCell {
    /// Takes what the spawner sent: the link to the holder and the listeners, in the order of `spec`.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u64,
        group: String,
        spec: &CellSpec,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let link = fds.next().ok_or_else(|| io::Error::other("the cell came without a link"))?;
        let listener = |(port, fd): (&u16, OwnedFd)| {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            Ok((*port, TcpListener::from_std(listener)?))
        };
        let listeners = spec.listeners.iter().zip(fds).map(listener).collect::<io::Result<_>>()?;
        let holder = Arc::new(Peer::new(link)?);
        let running = Arc::new(Running::default());
        let (peer, processes) = (Arc::clone(&holder), Arc::clone(&running));
        let reader = tokio::spawn(async move {
            let on_news = |news| {
                if let Answer::Ended { process, ending } = news {
                    processes.ended(process, ending.into());
                }
            };
            peer.listen(on_news).await;
            processes.all_lost();
        });
        Ok(Self {
            shared,
            id,
            group,
            mounted: Mutex::new(spec.mounts.iter().map(|mount| mount.target.clone()).collect()),
            holder,
            running,
            listeners: Mutex::new(listeners),
            reader: reader.abort_handle(),
            proxy: OnceLock::new(),
            destroyed: Arc::default(),
        })
    }

    /// Serves the way to the outside, where the cell has one: the proxy on the listener that was made for it, and names.
    pub(super) async fn serve_egress(&self, spec: &CellSpec) {
        if self.shared.egress.leads_somewhere(&spec.behalf)
            && let Some(proxy) = self.take_listener(EGRESS_PROXY_PORT)
        {
            let (gate, sockets) =
                (self.shared.egress.clone(), Arc::new(HolderSockets(Arc::clone(&self.holder))));
            let serving = Inside::open(gate, spec.behalf.clone(), sockets, proxy).await;
            let _ = self.proxy.set(tokio::spawn(serving).abort_handle());
        }
    }

    /// Whether nothing is shown at `target` yet; from now on something is.
    fn is_new_mount(&self, target: &Path) -> bool {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !mounted.iter().any(|place| place == target);
        if is_new {
            mounted.push(target.to_owned());
        }
        is_new
    }

    /// Closes the listeners that a cell with `spec` would not have.
    fn keep_listeners(&self, spec: &CellSpec) {
        let has_proxy = self.shared.egress.leads_somewhere(&spec.behalf);
        let is_kept = |port: u16| spec.listeners.contains(&port) || (has_proxy && port == EGRESS_PROXY_PORT);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).retain(|port, _| is_kept(*port));
    }

    async fn start_process(&self, spec: ProcessSpec) -> Result<Box<dyn Process>, Fault> {
        if spec.argv.is_empty() {
            return Err(Fault::new(ErrorCode::InvalidSpec, "the command is empty"));
        }
        let fds: Vec<_> = spec.fds.iter().map(AsFd::as_fd).collect();
        if fds.len() > FDS_MAX {
            return Err(Fault::new(ErrorCode::Internal, "too many descriptors for a process"));
        }
        let number = self.holder.next_number();
        let mut started = Started { running: &self.running, number, kept: false };
        let exit = self.running.expect(number);
        let order = Order::Start { argv: spec.argv, env: spec.env, cwd: spec.cwd };
        match self.holder.ask(number, order, &fds).await.map(|received| received.message) {
            Ok(Answer::Started) => {
                started.kept = true;
                Ok(Box::new(SandboxProcess { holder: Arc::clone(&self.holder), number, exit }))
            }
            Ok(Answer::Failed { reason }) => Err(Fault::new(ErrorCode::InitFailed, reason)),
            Ok(_) => Err(failed(&"the holder answered something else")),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(Fault::new(
                ErrorCode::InvalidSpec,
                format!("command and environment are too large: {error}"),
            )),
            Err(error) => Err(failed(&format!("it has ended: {error}"))),
        }
    }

    async fn fork_process(&self, parent: Parent, fds: Vec<OwnedFd>) -> Result<Box<dyn Process>, Fault> {
        let plan = match parent {
            Parent::Runtime(ZygoteSpec { argv, env, mounts }) => {
                Some(ZygotePlan { argv, env, mounts: mounts.into_iter().map(plan_of).collect() })
            }
            Parent::Version => None,
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let request = Request::Fork { cell: self.id, zygote: plan };
        let (Reply::Forked { pid }, _) = self.shared.ask_with(request, &fds).await? else {
            return Err(failed(&"the spawner answered something else"));
        };
        let number = self.holder.next_number();
        let mut started = Started { running: &self.running, number, kept: false };
        let exit = self.running.expect(number);
        match self.holder.ask(number, Order::Adopt { pid }, &[]).await.map(|received| received.message) {
            Ok(Answer::Started) => {
                started.kept = true;
                Ok(Box::new(SandboxProcess { holder: Arc::clone(&self.holder), number, exit }))
            }
            Ok(Answer::Failed { reason }) => Err(failed(&reason)),
            Ok(_) => Err(failed(&"the holder answered something else")),
            Err(error) => Err(failed(&format!("it has ended: {error}"))),
        }
    }

    async fn socket_to(&self, inside: SocketAddr) -> io::Result<TcpStream> {
        let kind = if inside.is_ipv6() { SocketKind::StreamV6 } else { SocketKind::StreamV4 };
        let socket = socket(&self.holder, kind).await?;
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(inside).await
    }
}

/// Has the holder of a cell make sockets.
struct HolderSockets(Arc<Peer<Answer>>);

impl Sockets for HolderSockets {
    fn socket(&self, kind: SocketKind) -> BoxFuture<'_, io::Result<OwnedFd>> {
        Box::pin(socket(&self.0, kind))
    }
}

async fn socket(holder: &Peer<Answer>, kind: SocketKind) -> io::Result<OwnedFd> {
    let received = holder.ask(holder.next_number(), Order::Socket { kind }, &[]).await?;
    if let Answer::Failed { reason } = received.message {
        return Err(io::Error::other(reason));
    }
    let socket = received.fds.into_iter().next();
    socket.ok_or_else(|| io::Error::other("the holder sent no socket"))
}

/// Stops waiting for a process that was not started.
struct Started<'a> {
    running: &'a Running,
    number: u64,
    kept: bool,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.running.ended(self.number, ProcessExit::Lost);
        }
    }
}

impl Cell for SandboxCell {
    fn mount(&self, mount: Mount) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let request = Request::Mount { cell: self.id, mount: plan_of(mount) };
            self.shared.ask(request).await.map(drop)
        })
    }

    fn specialise(&self, spec: CellSpec) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            self.keep_listeners(&spec);
            let mut plan = cell_plan_of(&spec, Purpose::Work);
            plan.mounts.retain(|mount| self.is_new_mount(&mount.target));
            self.shared.ask(Request::Specialise { cell: self.id, plan }).await?;
            self.serve_egress(&spec).await;
            Ok(())
        })
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        Box::pin(self.start_process(spec))
    }

    fn fork(&self, parent: Parent, fds: Vec<OwnedFd>) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        Box::pin(self.fork_process(parent, fds))
    }

    fn take_listener(&self, port: u16) -> Option<TcpListener> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&port)
    }

    fn dial(&self, inside: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(self.socket_to(inside))
    }

    fn sweep(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A cell that has ended is swept.
            let _ = self.holder.ask(self.holder.next_number(), Order::Sweep, &[]).await;
        })
    }

    fn freeze(&self) -> bool {
        let frozen = |groups: &Layout| groups.set_activity(&self.group, Activity::Frozen).is_ok();
        self.shared.groups.as_ref().is_some_and(frozen)
    }

    fn thaw(&self) {
        let thawed = |groups: &Layout| groups.set_activity(&self.group, Activity::Thawed);
        if let Some(Err(error)) = self.shared.groups.as_ref().map(thawed) {
            // Where its group is gone, so is the cell.
            tracing::debug!(%error, group = self.group, "a sandbox was not thawed");
        }
    }

    fn set_cpu_weight(&self, weight: u32) {
        let set = |groups: &Layout| groups.set_cpu_weight(&self.group, weight);
        if let Some(Err(error)) = self.shared.groups.as_ref().map(set) {
            // Where its group is gone, so is the cell.
            tracing::debug!(%error, group = self.group, weight, "the CPU weight of a sandbox was not changed");
        }
    }

    fn usage(&self) -> Usage {
        let Some(groups) = &self.shared.groups else { return Usage::default() };
        Usage { memory_bytes: groups.memory_bytes(&self.group), cpu_us: groups.cpu_us(&self.group) }
    }

    fn oom_kills(&self) -> u64 {
        self.shared.groups.as_ref().map_or(0, |groups| groups.oom_kills(&self.group))
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        self.destroyed.store(true, Ordering::Relaxed);
        let (shared, cell) = (Arc::clone(&self.shared), self.id);
        Box::pin(async move {
            // A task of its own, so that it is finished even if nobody waits any more.
            let task = tokio::spawn(async move { shared.ask(Request::Destroy { cell }).await.map(drop) });
            if let Ok(Err(fault)) = task.await {
                tracing::warn!(%fault, "a sandbox was not destroyed");
            }
        })
    }
}

impl BreedingCell for SandboxCell {
    fn breed(&self, connection: OwnedFd) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let request = Request::Breed { cell: self.id };
            self.shared.ask_with(request, &[connection.as_fd()]).await.map(drop)
        })
    }

    fn prepare_within(&self, spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>> {
        let (shared, place) =
            (Arc::clone(&self.shared), Place { purpose: Purpose::Work, within: Some(self.id) });
        Box::pin(async move { Ok(shared.prepare(spec, place).await? as Box<dyn Cell>) })
    }
}

impl Drop for SandboxCell {
    fn drop(&mut self) {
        self.reader.abort();
        self.running.all_lost();
        if let Some(proxy) = self.proxy.get() {
            proxy.abort();
        }
        let (shared, cell) = (Arc::clone(&self.shared), self.id);
        // Without a runtime the platform is ending, and the spawner ends all cells with it.
        if !self.destroyed.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { shared.ask(Request::Destroy { cell }).await.map(drop) });
        }
    }
}
