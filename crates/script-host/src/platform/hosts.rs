//! The script hosts that run: one for each namespace and network policy, watched.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name, Network};
use alula_runtime::{Cell, CellSpec, Launcher, Mount, Process, ProcessSpec};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::control::{self, Kind, PACKET_BYTES_MAX};
use crate::process::HOST_MODE;

use super::{PROGRAM, PROGRAM_DIR, ScriptOptions};

/// How often a host with contexts is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
/// Processes and threads of a host: one a core and a few of the machine's.
const PROCESSES_MAX: u32 = 64;
/// Nothing is written to `/tmp` by a host; a cell has one all the same.
const TMP_BYTES: u64 = 1 << 20;
/// The CPU weight of a usual instance: a namespace's scripts together count as one.
const CPU_WEIGHT: u32 = 100;

/// All hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    options: ScriptOptions,
    program_dir: PathBuf,
    launcher: Arc<dyn Launcher>,
    running: Mutex<HashMap<Key, Arc<Place>>>,
}

/// The namespace, and whether its scripts reach the internet.
type Key = (Name, bool);
/// Where a host is, or is being started.
type Place = tokio::sync::Mutex<Option<Arc<Host>>>;

/// One script host.
#[derive(Debug)]
pub(super) struct Host {
    cell: Box<dyn Cell>,
    /// Packets of `control`; the type lends only its readiness.
    link: UnixDatagram,
    contexts: Mutex<HashMap<u32, Arc<Context>>>,
    last_number: AtomicU32,
    last_sign: Mutex<Instant>,
    gone: watch::Sender<bool>,
}

/// One context, as far as the platform knows.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) number: u32,
    pub(super) memory_bytes: AtomicU64,
    pub(super) ended: watch::Sender<bool>,
}

impl Hosts {
    pub(super) fn new(options: ScriptOptions, program_dir: PathBuf, launcher: Arc<dyn Launcher>) -> Self {
        Self { options, program_dir, launcher, running: Mutex::default() }
    }

    /// The host of `namespace`, started where there is none that lives. Many may ask at once: one is started.
    pub(super) async fn of(&self, namespace: &Name, network: Network) -> Result<Arc<Host>, Fault> {
        let key = (namespace.clone(), network == Network::Internet);
        let place = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(running.entry(key).or_default())
        };
        let mut place = place.lock().await;
        if let Some(host) = place.as_ref().filter(|host| !host.is_gone()) {
            return Ok(Arc::clone(host));
        }
        let host = self.start(network).await?;
        *place = Some(Arc::clone(&host));
        Ok(host)
    }

    async fn start(&self, network: Network) -> Result<Arc<Host>, Fault> {
        let program = Mount { source: self.program_dir.clone(), target: PROGRAM_DIR.into(), writable: false };
        let cell = self.launcher.prepare(CellSpec {
            memory_bytes: self.options.host_memory_bytes,
            processes_max: PROCESSES_MAX,
            tmp_bytes: TMP_BYTES,
            cpu_weight: CPU_WEIGHT,
            network,
            listeners: Vec::new(),
            mounts: vec![program],
        });
        let cell = cell.await?;
        let (ours, inside) = control::pair().map_err(|error| no_host(&error))?;
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let fds =
            vec![inside, null().map_err(|error| no_host(&error))?, null().map_err(|error| no_host(&error))?];
        let argv = [PROGRAM, HOST_MODE, &self.options.host_memory_bytes.to_string()].map(str::to_owned);
        let spec = ProcessSpec { argv: argv.into(), env: BTreeMap::new(), cwd: "/tmp".to_owned(), fds };
        let process = cell.start(spec).await?;
        let host = Arc::new(Host {
            cell,
            link: watched(ours).map_err(|error| no_host(&error))?,
            contexts: Mutex::default(),
            last_number: AtomicU32::new(0),
            last_sign: Mutex::new(Instant::now()),
            gone: watch::Sender::new(false),
        });
        tokio::spawn(watch_over(Arc::clone(&host), process, self.options.silence_max));
        Ok(host)
    }
}

fn watched(link: OwnedFd) -> std::io::Result<UnixDatagram> {
    UnixDatagram::from_std(link.into())
}

fn no_host(error: &std::io::Error) -> Fault {
    tracing::error!(%error, "cannot start a script host");
    Fault::new(ErrorCode::SandboxFailed, "the platform cannot start a process for scripts")
}

/// Hears a host until it ends or falls silent; then nothing of it is left.
async fn watch_over(host: Arc<Host>, process: Box<dyn Process>, silence_max: Duration) {
    tokio::select! {
        exit = process.wait() => tracing::warn!(?exit, "a script host ended"),
        () = host.listen() => tracing::warn!("a script host closed its link"),
        () = host.until_silent(silence_max) => tracing::warn!("a script host does not answer and is killed"),
    }
    host.gone.send_replace(true);
    host.cell.destroy().await;
    let contexts = std::mem::take(&mut *host.contexts());
    for context in contexts.into_values() {
        context.ended.send_replace(true);
    }
}

impl Host {
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
        let context =
            Arc::new(Context { number, memory_bytes: AtomicU64::new(0), ended: watch::Sender::new(false) });
        let fields: Vec<&str> =
            env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        let text = fields.join("\0");
        if self.contexts().is_empty() {
            // It has not been asked for a sign while it had nothing to do.
            *self.last_sign() = Instant::now();
        }
        self.contexts().insert(number, Arc::clone(&context));
        let sent = control::send(
            &self.link,
            Kind::Open,
            number,
            0,
            text.as_bytes(),
            &[link.as_fd(), script.as_fd()],
        );
        if let Err(error) = sent {
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
            match packet.kind {
                Kind::Pong => *self.last_sign() = Instant::now(),
                Kind::Usage => {
                    if let Some(context) = self.contexts().get(&packet.number) {
                        context.memory_bytes.store(packet.value, Ordering::Relaxed);
                    }
                }
                Kind::Ended => {
                    if let Some(context) = { self.contexts().remove(&packet.number) } {
                        context.ended.send_replace(true);
                    }
                }
                Kind::Open | Kind::Close | Kind::Ping => return,
            }
        }
    }

    async fn until_silent(&self, silence_max: Duration) {
        let mut number = 0_u32;
        loop {
            tokio::time::sleep(PING_EVERY).await;
            if self.contexts().is_empty() {
                *self.last_sign() = Instant::now();
                continue;
            }
            let silence = self.last_sign().elapsed();
            number = number.wrapping_add(1);
            let sent = control::send(&self.link, Kind::Ping, number, 0, &[], &[]);
            if sent.is_err() || silence > silence_max {
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
