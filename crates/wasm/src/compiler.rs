//! Having a component compiled in a process of its own, inside a cell.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use alula_runtime::{BoxFuture, Launcher, Mount, ProcessExit, Tool, ToolEnd, ToolRun};

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
/// A deploy gives way to running functions, whose weight is 100.
const CPU_WEIGHT: u32 = 50;
/// Largest compiled code: some ten times the component that it was made of.
const COMPILED_BYTES_MAX: u64 = 1 << 30;

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

impl CellCompiler {
    async fn run(&self, component: File) -> Result<Vec<u8>, Fault> {
        let tool = Tool {
            argv: [PROGRAM, COMPILE_COMMAND].map(str::to_owned).to_vec(),
            cwd: "/",
            mounts: vec![Mount { source: self.program.clone(), target: PROGRAM.into(), writable: false }],
            memory_bytes: MEMORY_BYTES,
            processes_max: PROCESSES_MAX,
            cpu_weight: CPU_WEIGHT,
            stdout_bytes_max: COMPILED_BYTES_MAX,
            timeout: TIMEOUT,
        };
        let ToolRun { end, stdout, stderr } = tool.run(&*self.launcher, component).await?;
        match end {
            ToolEnd::Exited(ProcessExit::Code(0)) => Ok(stdout),
            ToolEnd::Exited(ProcessExit::Code(_)) => Err(refused(stderr.trim_end().to_owned())),
            ToolEnd::OutOfMemory => {
                Err(refused(format!("compiling the component took more than {MEMORY_MB} MB of memory")))
            }
            ToolEnd::TimedOut => {
                let seconds = TIMEOUT.as_secs();
                Err(refused(format!("the component could not be compiled within {seconds} s")))
            }
            ToolEnd::Exited(exit) => {
                tracing::error!(?exit, "the process that compiles a component ended in the middle of it");
                Err(refused("compiling the component brought the compiler down".to_owned()))
            }
        }
    }
}

fn refused(reason: String) -> Fault {
    let mut lines = reason.lines().map(str::to_owned);
    let first = lines.next().unwrap_or_else(|| "the component cannot be compiled".to_owned());
    Fault::new(ErrorCode::InvalidPackage, first).with_log_tail(lines.collect())
}
