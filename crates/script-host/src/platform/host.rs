//! One script host, from its start to its end.
//!
//! It ends by itself only when it breaks. The platform ends it when it has been unused for a while, when it gives way to
//! another one, and when it does not answer. Then the context that kept it from answering has crashed; the others
//! have lost their place through no fault of their own.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{Calls, ErrorCode, Fault, Name};
use alula_runtime::{
    Behalf, Cell, CellSpec, DOOR_PORT, Door, GATEWAY_PORT, Launcher, Mount, OpenDoor, Process, ProcessSpec,
    Visitors,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::control::{self, Kind, PACKET_BYTES_MAX};
use crate::process::HOST_MODE;

use super::hosts::Reach;
use super::lease::{Lease, Uses};
use super::output;
use super::{PROGRAM, PROGRAM_DIR, ScriptOptions};

/// How often a host in use is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
/// Processes and threads of a host: one a core and a few of the machine's.
const PROCESSES_MAX: u32 = 64;
/// Nothing is written to `/tmp` by a host; a cell has one all the same.
const TMP_BYTES: u64 = 1 << 20;
/// The CPU weight of a usual instance: a namespace's scripts together count as one.
const CPU_WEIGHT: u32 = 100;

/// Where its scripts call the platform.
const DOOR_PORTS: &[u16] = &[DOOR_PORT, GATEWAY_PORT];

/// For the allocator that the engine's heaps come from: bodies of some hundred kilobytes come and go with every call, and
/// giving their pages back to the kernel each time would cost more than the call.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "2097152"), ("MALLOC_MMAP_THRESHOLD_", "1048576")];

/// What a host is started with.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) namespace: Name,
    pub(super) reach: Reach,
    pub(super) door: Door,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) options: ScriptOptions,
    pub(super) program_dir: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Host {
    namespace: Name,
    cell: Box<dyn Cell>,
    /// The instances in it, as those that call the platform.
    pub(super) visitors: Arc<Visitors>,
    _door: OpenDoor,
    /// Packets of `control`; the type lends only its readiness.
    link: UnixDatagram,
    contexts: Mutex<HashMap<u32, Arc<Context>>>,
    last_number: AtomicU32,
    last_sign: Mutex<Instant>,
    pub(super) uses: Uses,
    gives_way: Notify,
    gone: watch::Sender<bool>,
}

/// One context, as far as the platform knows.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) number: u32,
    pub(super) memory_bytes: AtomicU64,
    pub(super) cpu_us: AtomicU64,
    /// Whether it keeps its host from answering.
    pub(super) is_stuck: AtomicBool,
    pub(super) ended: watch::Sender<bool>,
}

impl Host {
    /// Starts one, with the first share in it.
    pub(super) async fn start(launcher: &dyn Launcher, order: Order) -> Result<(Arc<Self>, Lease), Fault> {
        let Order { namespace, reach, door, permit, options, program_dir } = order;
        let ports = if reach.calls == Calls::Namespace && door.is_open() { DOOR_PORTS } else { &[] };
        let program = Mount { source: program_dir, target: PROGRAM_DIR.into(), writable: false };
        let cell = launcher.prepare(CellSpec {
            memory_bytes: options.host_memory_bytes,
            processes_max: PROCESSES_MAX,
            tmp_bytes: TMP_BYTES,
            cpu_weight: CPU_WEIGHT,
            behalf: Behalf {
                namespace: Some(namespace.clone()),
                function: None,
                network: Some(reach.network),
            },
            listeners: ports.to_vec(),
            mounts: vec![program],
        });
        let cell = cell.await?;
        let visitors = Arc::new(Visitors::new(namespace.clone()));
        let listeners = ports.iter().filter_map(|port| cell.take_listener(*port)).collect();
        let (ours, inside) = control::pair().map_err(|error| no_host(&error))?;
        let (said, stdout, stderr) = output::pipe().map_err(|error| no_host(&error))?;
        let argv = [PROGRAM, HOST_MODE, &options.host_memory_bytes.to_string()].map(str::to_owned);
        let fds = vec![inside, stdout, stderr];
        let env = ALLOCATOR.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let spec = ProcessSpec { argv: argv.into(), env, cwd: "/tmp".to_owned(), fds };
        let process = cell.start(spec).await?;
        let host = Arc::new(Self {
            namespace: namespace.clone(),
            cell,
            _door: door.serve(listeners, &visitors),
            visitors,
            link: UnixDatagram::from_std(ours.into()).map_err(|error| no_host(&error))?,
            contexts: Mutex::default(),
            last_number: AtomicU32::new(0),
            last_sign: Mutex::new(Instant::now()),
            uses: Uses::new(),
            gives_way: Notify::new(),
            gone: watch::Sender::new(false),
        });
        // Nobody but this function has the host yet, so it cannot have been closed.
        let lease = host.lease().ok_or_else(|| no_host(&std::io::ErrorKind::NotConnected.into()))?;
        tokio::spawn(output::pass_on(said, namespace));
        tokio::spawn(watch_over(Arc::clone(&host), process, options, permit));
        Ok((host, lease))
    }

    /// A share in it; `None` where it ends or has ended.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let is_first = self.uses.begin()?;
        let lease = Lease::new(Arc::clone(self));
        if is_first {
            self.expect_signs();
        }
        Some(lease)
    }

    /// It was not asked for a sign while it had nothing to do.
    pub(super) fn expect_signs(&self) {
        *self.last_sign() = Instant::now();
    }

    /// Since when nothing in it has had anything to do, as far as the platform knows.
    pub(super) fn quiet_since(&self) -> Instant {
        self.uses.quiet_since()
    }

    /// Ends it, where nothing in it has anything to do.
    pub(super) fn give_way(&self) -> bool {
        let gives_way = self.uses.close_if_quiet();
        if gives_way {
            self.gives_way.notify_one();
        }
        gives_way
    }

    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Makes a context that speaks on `link` and runs `script`.
    pub(super) fn open(
        &self,
        env: &BTreeMap<String, String>,
        link: &OwnedFd,
        script: &File,
    ) -> std::io::Result<Arc<Context>> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let context = Arc::new(Context {
            number,
            memory_bytes: AtomicU64::new(0),
            cpu_us: AtomicU64::new(0),
            is_stuck: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        });
        let fields: Vec<&str> =
            env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        let text = fields.join("\0");
        self.contexts().insert(number, Arc::clone(&context));
        let fds = [link.as_fd(), script.as_fd()];
        if let Err(error) = control::send(&self.link, Kind::Open, number, 0, text.as_bytes(), &fds) {
            self.contexts().remove(&number);
            return Err(error);
        }
        if self.is_gone() {
            context.ended.send_replace(true);
        }
        Ok(context)
    }

    /// Asks for the end of a context; [`Context::ended`] tells when it is there.
    pub(super) fn close(&self, number: u32) {
        if self.contexts().contains_key(&number) {
            // A host that cannot be told is stuck, which its silence will show.
            let _ = control::send(&self.link, Kind::Close, number, 0, &[], &[]);
        }
    }

    async fn listen(&self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while self.link.readable().await.is_ok() {
            let packet =
                match self.link.try_io(Interest::READABLE, || control::receive(&self.link, &mut buffer)) {
                    Ok(Some(packet)) => packet,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Ok(None) | Err(_) => return,
                };
            let context = self.contexts().get(&packet.number).cloned();
            match (packet.kind, context) {
                (Kind::Pong, _) => self.has_answered(),
                (Kind::Usage, Some(context)) => {
                    context.memory_bytes.store(packet.value, Ordering::Relaxed);
                    let cpu_us = packet.text.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                    context.cpu_us.store(cpu_us, Ordering::Relaxed);
                }
                (Kind::Stuck, Some(context)) => context.is_stuck.store(true, Ordering::Relaxed),
                (Kind::Ended, Some(context)) => {
                    self.contexts().remove(&packet.number);
                    context.ended.send_replace(true);
                }
                (Kind::Usage | Kind::Stuck | Kind::Ended, None) => {}
                (Kind::Open | Kind::Close | Kind::Ping, _) => return,
            }
        }
    }

    fn has_answered(&self) {
        self.expect_signs();
        for context in self.contexts().values() {
            context.is_stuck.store(false, Ordering::Relaxed);
        }
    }

    async fn until_silent(&self, silence_max: Duration) {
        let (mut number, mut unanswered, mut heard_at) = (0_u32, 0_u32, *self.last_sign());
        loop {
            self.uses.until_awake().await;
            tokio::time::sleep(PING_EVERY).await;
            // Silence is counted in questions: after a pause of the whole machine the host has done nothing wrong.
            let last_sign = *self.last_sign();
            unanswered = if last_sign == heard_at { unanswered + 1 } else { 0 };
            heard_at = last_sign;
            number = number.wrapping_add(1);
            let sent = control::send(&self.link, Kind::Ping, number, 0, &[], &[]);
            if sent.is_err() || PING_EVERY * unanswered > silence_max {
                return;
            }
        }
    }

    fn contexts(&self) -> MutexGuard<'_, HashMap<u32, Arc<Context>>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_sign(&self) -> MutexGuard<'_, Instant> {
        self.last_sign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_host(error: &std::io::Error) -> Fault {
    tracing::error!(%error, "cannot start a script host");
    Fault::new(ErrorCode::SandboxFailed, "the platform cannot start a process for scripts")
}

/// Hears a host until it ends, falls silent or is not needed any more; then nothing of it is left.
async fn watch_over(
    host: Arc<Host>,
    process: Box<dyn Process>,
    options: ScriptOptions,
    _permit: OwnedSemaphorePermit,
) {
    let namespace = &host.namespace;
    tokio::select! {
        exit = process.wait() => tracing::warn!(%namespace, ?exit, "a script host ended"),
        () = host.listen() => tracing::warn!(%namespace, "a script host closed its link"),
        () = host.until_silent(options.silence_max) => {
            tracing::warn!(%namespace, "a script host does not answer and is killed");
        }
        () = host.uses.until_unused(options.unused_max) => {
            tracing::debug!(%namespace, "a script host was not used any more");
        }
        () = host.gives_way.notified() => tracing::debug!(%namespace, "a script host gave way to another"),
    }
    host.uses.close();
    host.gone.send_replace(true);
    host.cell.destroy().await;
    let contexts = std::mem::take(&mut *host.contexts());
    for context in contexts.into_values() {
        context.ended.send_replace(true);
    }
}
