//! A slot of a script host in the shape of a cell, a context in the shape of a process.
//!
//! What a cell has and a slot has not (mounts, listeners, a network to dial into) is refused or ignored: the host's
//! own cell has the limits and the network, and the code comes compiled.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use alula_model::{ErrorCode, Fault, InstanceId};
use alula_runtime::{
    BoxFuture, Caller, Cell, CellSpec, Launcher, LauncherReport, Mount, Process, ProcessExit, ProcessSpec,
    Usage,
};
use tokio::net::{TcpListener, TcpStream};

use super::host::{Context, Host};
use super::lease::Lease;

/// The signal that a context is reported to have died of when its host is killed.
const SIGKILL: i32 = 9;
/// Where the guest protocol's socket stands among the descriptors of a process.
const LINK_FD: usize = 3;

/// Makes slots for one version in one host.
#[derive(Debug)]
pub(super) struct HostLauncher {
    pub(super) lease: Arc<Lease>,
    pub(super) artifact: Arc<File>,
}

impl Launcher for HostLauncher {
    fn prepare(&self, _spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>> {
        let slot = Slot {
            lease: Arc::clone(&self.lease),
            artifact: Arc::clone(&self.artifact),
            context: OnceLock::new(),
            admitted: OnceLock::new(),
        };
        Box::pin(std::future::ready(Ok(Box::new(slot) as Box<dyn Cell>)))
    }

    fn report(&self) -> LauncherReport {
        LauncherReport::default()
    }
}

/// A place for one context.
#[derive(Debug)]
struct Slot {
    lease: Arc<Lease>,
    artifact: Arc<File>,
    context: OnceLock<Arc<Context>>,
    /// As whom it calls the platform.
    admitted: OnceLock<InstanceId>,
}

impl Slot {
    fn open(&self, spec: &ProcessSpec) -> Result<Box<dyn Process>, Fault> {
        let link: &OwnedFd = spec.fds.get(LINK_FD).ok_or_else(|| failed("a context needs a link"))?;
        let context = self.lease.host.open(&spec.env, link, &self.artifact).map_err(|error| {
            tracing::error!(%error, "a script host takes no context");
            failed("the process for scripts does not answer")
        })?;
        let context = self.context.get_or_init(|| context);
        let host = Arc::clone(&self.lease.host);
        Ok(Box::new(ContextProcess { host, context: Arc::clone(context) }))
    }

    fn close(&self) {
        if let Some(id) = self.admitted.get() {
            self.lease.host.visitors.dismiss(id);
        }
        if let Some(context) = self.context.get() {
            self.lease.host.close(context.number);
        }
    }
}

fn failed(message: &str) -> Fault {
    Fault::new(ErrorCode::SandboxFailed, message)
}

impl Cell for Slot {
    fn mount(&self, _mount: Mount) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(std::future::ready(Err(failed("nothing can be mounted into a script"))))
    }

    fn specialise(&self, _spec: CellSpec) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(std::future::ready(Err(failed("a script's place is made for its function from the start"))))
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        Box::pin(std::future::ready(self.open(&spec)))
    }

    fn take_listener(&self, _port: u16) -> Option<TcpListener> {
        None
    }

    fn admit(&self, id: &InstanceId, caller: &Arc<Caller>) {
        self.lease.host.visitors.admit(id, Arc::clone(caller));
        let _ = self.admitted.set(id.clone());
    }

    fn dial(&self, _inside: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::Unsupported.into())))
    }

    fn sweep(&self) -> BoxFuture<'_, ()> {
        self.destroy()
    }

    fn usage(&self) -> Usage {
        self.context.get().map_or(Usage::default(), |context| Usage {
            memory_bytes: context.memory_bytes.load(Ordering::Relaxed),
            cpu_us: context.cpu_us.load(Ordering::Relaxed),
        })
    }

    /// A context has no CPU that could be taken away; but its host may give way while no call comes.
    fn freeze(&self) -> bool {
        self.lease.rest();
        true
    }

    fn thaw(&self) {
        self.lease.wake();
    }

    fn oom_kills(&self) -> u64 {
        0
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.close();
            if let Some(context) = self.context.get() {
                wait(context).await;
            }
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits for the end of a context. It comes: a host that does not say so is killed for its silence.
async fn wait(context: &Context) {
    // The sender is in the context itself, so this cannot fail.
    let _ = context.ended.subscribe().wait_for(|ended| *ended).await;
}

#[derive(Debug)]
struct ContextProcess {
    host: Arc<Host>,
    context: Arc<Context>,
}

impl Process for ContextProcess {
    fn wait(&self) -> BoxFuture<'_, ProcessExit> {
        Box::pin(async move {
            wait(&self.context).await;
            match self.host.is_gone() {
                // The host was killed because of this one, so it is this one that was killed.
                true if self.context.is_stuck.load(Ordering::Relaxed) => ProcessExit::Signal(SIGKILL),
                true => ProcessExit::Lost,
                false => ProcessExit::Code(0),
            }
        })
    }

    fn signal(&self, _signal: i32) {
        self.host.close(self.context.number);
    }
}
