//! Mistakes in a handler's file that its first call would show are shown to whoever deploys it.
//!
//! What looks for them is data of the language, and runs in a cell like everything that reads a user's code. It is a
//! courtesy: where it cannot run or takes too long, the deploy goes on, and the first call shows what is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name, Network};
use alula_runtime::{Cell, CellSpec, Mount, ProcessExit, ProcessSpec, VersionPlan, check_command};

use crate::build::{BuildLog, CODE_DIR, drain, listen, pipes};
use crate::control::Control;

/// What an interpreter needs to read one file.
const MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// Interpreters start some threads of their own.
const PROCESSES_MAX: u32 = 64;
/// What it may write, which is nothing that anybody reads.
const TMP_BYTES: u64 = 1024 * 1024;
/// Like a running function: somebody waits for it.
const CPU_WEIGHT: u32 = 100;
/// Far above the tens of milliseconds that it takes.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Control {
    /// Refuses code that its language cannot read.
    pub(super) async fn check_syntax(&self, name: &Name, plan: &VersionPlan) -> Result<(), Fault> {
        let Some(language) = self.shared.parts.languages.get(&plan.spec.runtime) else { return Ok(()) };
        let Some(argv) = check_command(plan, &language) else { return Ok(()) };
        let code = Mount { source: plan.code.clone(), target: CODE_DIR.into(), writable: false };
        let spec = CellSpec {
            memory_bytes: MEMORY_BYTES,
            processes_max: PROCESSES_MAX,
            tmp_bytes: TMP_BYTES,
            cpu_weight: CPU_WEIGHT,
            network: Network::None,
            listeners: Vec::new(),
            mounts: vec![code],
        };
        let cell = self.shared.parts.launcher.prepare(spec).await?;
        let mut log = BuildLog::new(|_line: &str| ());
        let looked = tokio::time::timeout(TIMEOUT, look(&*cell, argv, &mut log)).await;
        cell.destroy().await;
        log.finish();
        match looked {
            Ok(Ok(ProcessExit::Code(0))) => Ok(()),
            Ok(Ok(ProcessExit::Code(_))) => Err(mistake(name, &log.tail())),
            other => {
                tracing::warn!(function = %name, ?other, "the code could not be checked before it is deployed");
                Ok(())
            }
        }
    }
}

async fn look<F: FnMut(&str) + Send>(
    cell: &dyn Cell,
    argv: Vec<String>,
    log: &mut BuildLog<F>,
) -> Result<ProcessExit, Fault> {
    let (mut output, fds) =
        pipes().map_err(|error| crate::error::file("make a pipe for the check", &error))?;
    let spec = ProcessSpec { argv, env: BTreeMap::new(), cwd: CODE_DIR.to_owned(), fds };
    let process = cell.start(spec).await?;
    let exit = listen(&mut output, &*process, log).await;
    cell.sweep().await;
    drain(&mut output, log).await;
    Ok(exit)
}

/// The first line says where; the others are shown below it.
fn mistake(name: &Name, said: &[String]) -> Fault {
    let folder = format!("{CODE_DIR}/");
    let lines: Vec<_> = said.iter().map(|line| line.replace(&folder, "")).collect();
    let first = lines.first().map_or("its file cannot be read by its language", String::as_str);
    Fault::new(ErrorCode::InvalidPackage, format!("function {name} has a mistake in {first}"))
        .with_log_tail(lines)
}
