//! Having a component compiled in a process of its own, inside a cell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Network};
use alula_runtime::{BoxFuture, Cell, CellSpec, Launcher, Mount, ProcessExit, ProcessSpec};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Where the platform's binary is inside the cell.
const PROGRAM: &str = "/alula/wasm-compiler";
/// The hidden mode of that binary.
pub const COMPILE_COMMAND: &str = "wasm-compile";
/// Enough for the interpreters that come as components; a bomb gets no further.
const MEMORY_MB: u64 = 2_048;
const MEMORY_BYTES: u64 = MEMORY_MB << 20;
/// Far above the half minute that the largest known components take on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The compiler starts a thread a core.
const PROCESSES_MAX: u32 = 256;
/// It writes no file.
const TMP_BYTES: u64 = 1 << 20;
/// A deploy gives way to running functions, whose weight is 100.
const CPU_WEIGHT: u32 = 50;
/// Largest compiled code: some ten times the component that it was made of.
const COMPILED_BYTES_MAX: u64 = 1 << 30;
/// Most that is read of what the compiler says.
const REASON_BYTES_MAX: u64 = 16 << 10;

/// Compiles components.
pub trait Compiler: Send + Sync + std::fmt::Debug {
    /// The compiled code of `component`.
    ///
    /// Faults: [`ErrorCode::InvalidPackage`] with the reason where the component is at fault, else the platform's.
    fn compile(&self, component: File) -> BoxFuture<'_, Result<Vec<u8>, Fault>>;
}

/// Runs the platform's binary in a cell.
#[derive(Debug)]
pub struct CellCompiler {
    /// Makes the cell.
    pub launcher: Arc<dyn Launcher>,
    /// The platform's binary on this machine.
    pub program: PathBuf,
}

impl Compiler for CellCompiler {
    fn compile(&self, component: File) -> BoxFuture<'_, Result<Vec<u8>, Fault>> {
        Box::pin(self.run(component))
    }
}

/// How the process ended, and what it wrote.
struct Ended {
    exit: ProcessExit,
    compiled: Vec<u8>,
    said: String,
}

impl CellCompiler {
    async fn run(&self, component: File) -> Result<Vec<u8>, Fault> {
        let program = Mount { source: self.program.clone(), target: PROGRAM.into(), writable: false };
        let spec = CellSpec {
            memory_bytes: MEMORY_BYTES,
            processes_max: PROCESSES_MAX,
            tmp_bytes: TMP_BYTES,
            cpu_weight: CPU_WEIGHT,
            network: Network::None,
            listeners: Vec::new(),
            mounts: vec![program],
        };
        let cell = self.launcher.prepare(spec).await?;
        let ended = tokio::time::timeout(TIMEOUT, run_in(&*cell, component)).await;
        let oom_kills = cell.oom_kills();
        cell.destroy().await;
        let Ok(ended) = ended else {
            let seconds = TIMEOUT.as_secs();
            return Err(refused(format!("the component could not be compiled within {seconds} s")));
        };
        match ended? {
            Ended { exit: ProcessExit::Code(0), compiled, .. } => Ok(compiled),
            _ if oom_kills > 0 => {
                Err(refused(format!("compiling the component took more than {MEMORY_MB} MB of memory")))
            }
            Ended { exit: ProcessExit::Code(_), said, .. } => Err(refused(said.trim_end().to_owned())),
            Ended { exit, .. } => {
                tracing::error!(?exit, "the process that compiles a component ended in the middle of it");
                Err(refused("compiling the component brought the compiler down".to_owned()))
            }
        }
    }
}

async fn run_in(cell: &dyn Cell, component: File) -> Result<Ended, Fault> {
    let failed = |error: io::Error| {
        tracing::error!(%error, "cannot talk to the process that compiles a component");
        Fault::new(ErrorCode::SandboxFailed, "the platform cannot talk to its compiler")
    };
    let (compiled, stdout) = io::pipe().map_err(failed)?;
    let (said, stderr) = io::pipe().map_err(failed)?;
    let argv = [PROGRAM, COMPILE_COMMAND].map(str::to_owned).to_vec();
    let fds = vec![component.into(), stdout.into(), stderr.into()];
    let spec = ProcessSpec { argv, env: BTreeMap::new(), cwd: "/".to_owned(), fds };
    let process = cell.start(spec).await?;
    let read = |pipe: io::PipeReader, limit| async move {
        let mut content = Vec::new();
        pipe::Receiver::from_owned_fd(pipe.into())?.take(limit).read_to_end(&mut content).await?;
        Ok::<_, io::Error>(content)
    };
    let (compiled, said, exit) =
        tokio::join!(read(compiled, COMPILED_BYTES_MAX), read(said, REASON_BYTES_MAX), process.wait());
    let said = String::from_utf8_lossy(&said.map_err(failed)?).into_owned();
    Ok(Ended { exit, compiled: compiled.map_err(failed)?, said })
}

fn refused(reason: String) -> Fault {
    let mut lines = reason.lines().map(str::to_owned);
    let first = lines.next().unwrap_or_else(|| "the component cannot be compiled".to_owned());
    Fault::new(ErrorCode::InvalidPackage, first).with_log_tail(lines.collect())
}
