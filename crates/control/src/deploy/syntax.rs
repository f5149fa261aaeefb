//! Mistakes in a handler's file that its first call would show are shown to whoever deploys it.
//!
//! What looks for them is data of the language, and runs in a cell like everything that reads a user's code. It is a
//! courtesy: where it cannot run or takes too long, the deploy goes on, and the first call shows what is wrong.

use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name};
use alula_runtime::{Mount, ProcessExit, Tool, ToolEnd, ToolRun, VersionPlan, check_command, no_input};

use crate::build::CODE_DIR;
use crate::control::Control;

/// What an interpreter needs to read one file.
const MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// Interpreters start some threads of their own.
const PROCESSES_MAX: u32 = 64;
/// It says what is wrong on its standard error.
const STDOUT_BYTES_MAX: u64 = 64 * 1024;
/// Lines that are shown of what it says.
const LINES_MAX: usize = 40;
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
        let tool = Tool {
            argv,
            cwd: CODE_DIR,
            mounts: vec![code],
            memory_bytes: MEMORY_BYTES,
            processes_max: PROCESSES_MAX,
            cpu_weight: CPU_WEIGHT,
            stdout_bytes_max: STDOUT_BYTES_MAX,
            timeout: TIMEOUT,
        };
        let ran = tool.run(&*self.shared.parts.launcher, no_input()?).await;
        match ran {
            Ok(ToolRun { end: ToolEnd::Exited(ProcessExit::Code(0)), .. }) => Ok(()),
            Ok(ToolRun { end: ToolEnd::Exited(ProcessExit::Code(_)), stderr, .. }) => {
                Err(mistake(name, &stderr))
            }
            other => {
                tracing::warn!(function = %name, ?other, "the code could not be checked before it is deployed");
                Ok(())
            }
        }
    }
}

/// The first line says where; the others are shown below it.
fn mistake(name: &Name, said: &str) -> Fault {
    let folder = format!("{CODE_DIR}/");
    let lines: Vec<_> = said.lines().take(LINES_MAX).map(|line| line.replace(&folder, "")).collect();
    let first = lines.first().map_or("its file cannot be read by its language", String::as_str);
    Fault::new(ErrorCode::InvalidPackage, format!("function {name} has a mistake in {first}"))
        .with_log_tail(lines)
}
