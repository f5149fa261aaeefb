//! A program of the platform's own choice that is run once over what a user gave: a compiler, a check of syntax.
//!
//! What it reads may be hostile, so it runs in a cell that is made for it and gone after it, without network. What it
//! writes is read up to a limit; whoever writes more is ended by its broken pipe.
//!
//! Deliberately absent: builds, whose commands belong to users, whose output is shown while they run, and which write to
//! folders.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::{Behalf, Cell, CellSpec, Launcher, Mount, ProcessExit, ProcessSpec};

/// Size of `/tmp`: tools leave nothing there that anybody reads.
const TMP_BYTES: u64 = 1 << 20;
/// Most that is read of what a tool says.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// A program and what it may use.
#[derive(Debug)]
pub struct Tool {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory inside.
    pub cwd: &'static str,
    /// What is shown inside: the program, where it is not the system's, and what it reads.
    pub mounts: Vec<Mount>,
    /// Memory of its processes together, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes_max: u32,
    /// Share of the CPU, as [`CellSpec::cpu_weight`].
    pub cpu_weight: u32,
    /// Most that is read of its standard output, in bytes.
    pub stdout_bytes_max: u64,
    /// Time to run, without the time to make the cell.
    pub timeout: Duration,
}

/// What became of a tool.
#[derive(Debug)]
pub struct ToolRun {
    /// How it ended.
    pub end: ToolEnd,
    /// What it wrote; nothing where its time was up.
    pub stdout: Vec<u8>,
    /// What it said; nothing where its time was up.
    pub stderr: String,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEnd {
    /// Its process ended.
    Exited(ProcessExit),
    /// A process of it was killed, because they used too much memory together.
    OutOfMemory,
    /// It was ended because its time was up.
    TimedOut,
}

impl Tool {
    /// Runs the program in a cell of `launcher`, with `input` on its standard input. A fault is the platform's.
    pub async fn run(self, launcher: &dyn Launcher, input: File) -> Result<ToolRun, Fault> {
        let cell = launcher.prepare(CellSpec {
            memory_bytes: self.memory_bytes,
            processes_max: self.processes_max,
            tmp_bytes: TMP_BYTES,
            cpu_weight: self.cpu_weight,
            behalf: Behalf::default(),
            listeners: Vec::new(),
            mounts: self.mounts,
        });
        let cell = cell.await?;
        let (stdout, stdout_inside) = io::pipe().map_err(|error| unreachable_tool(&error))?;
        let (stderr, stderr_inside) = io::pipe().map_err(|error| unreachable_tool(&error))?;
        let fds = vec![input.into(), stdout_inside.into(), stderr_inside.into()];
        let spec = ProcessSpec { argv: self.argv, env: BTreeMap::new(), cwd: self.cwd.to_owned(), fds };
        let running = run_in(&*cell, spec, (stdout, self.stdout_bytes_max), (stderr, STDERR_BYTES_MAX));
        let ended = tokio::time::timeout(self.timeout, running).await;
        let was_out_of_memory = cell.oom_kills() > 0;
        cell.destroy().await;
        let Ok(ended) = ended else {
            return Ok(ToolRun { end: ToolEnd::TimedOut, stdout: Vec::new(), stderr: String::new() });
        };
        let (exit, stdout, stderr) = ended?;
        let end = match exit {
            ProcessExit::Code(0) => ToolEnd::Exited(exit),
            _ if was_out_of_memory => ToolEnd::OutOfMemory,
            _ => ToolEnd::Exited(exit),
        };
        Ok(ToolRun { end, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }
}

type Ended = (ProcessExit, Vec<u8>, Vec<u8>);

async fn run_in(
    cell: &dyn Cell,
    spec: ProcessSpec,
    stdout: (io::PipeReader, u64),
    stderr: (io::PipeReader, u64),
) -> Result<Ended, Fault> {
    let process = cell.start(spec).await?;
    let exit = async {
        let exit = process.wait().await;
        // What it has left behind would hold the pipes open.
        cell.sweep().await;
        exit
    };
    let (exit, stdout, stderr) = tokio::join!(exit, read(stdout), read(stderr));
    let stdout = stdout.map_err(|error| unreachable_tool(&error))?;
    Ok((exit, stdout, stderr.map_err(|error| unreachable_tool(&error))?))
}

/// What comes out of a pipe, up to a limit in bytes.
async fn read((pipe, limit): (io::PipeReader, u64)) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    pipe::Receiver::from_owned_fd(pipe.into())?.take(limit).read_to_end(&mut content).await?;
    Ok(content)
}

fn unreachable_tool(error: &io::Error) -> Fault {
    tracing::error!(%error, "cannot talk to a program in a cell");
    Fault::new(ErrorCode::SandboxFailed, "the platform cannot talk to a program that it runs in a sandbox")
}

/// An input without content.
pub fn no_input() -> Result<File, Fault> {
    File::open("/dev/null").map_err(|error| unreachable_tool(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare::BareLauncher;

    async fn run(script: &str, stdout_bytes_max: u64, timeout: Duration) -> ToolRun {
        let tool = Tool {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            cwd: "/",
            mounts: Vec::new(),
            memory_bytes: 64 << 20,
            processes_max: 16,
            cpu_weight: 100,
            stdout_bytes_max,
            timeout,
        };
        let mut input = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut input, b"given").unwrap();
        io::Seek::rewind(&mut input).unwrap();
        tool.run(&BareLauncher, input).await.unwrap()
    }

    #[tokio::test]
    async fn both_outputs_and_the_status_come_back() {
        let ran = run("cat; echo said >&2; exit 3", 1_000, Duration::from_secs(30)).await;
        assert_eq!(ran.end, ToolEnd::Exited(ProcessExit::Code(3)));
        assert_eq!((&*ran.stdout, &*ran.stderr), (&b"given"[..], "said\n"));
    }

    #[tokio::test]
    async fn what_is_over_the_limit_is_not_read_and_ends_it() {
        let ran = run("exec yes", 5, Duration::from_secs(30)).await;
        assert_eq!(ran.stdout, b"y\ny\ny");
        assert!(matches!(ran.end, ToolEnd::Exited(exit) if exit != ProcessExit::Code(0)), "{ran:?}");
    }

    #[tokio::test]
    async fn a_process_that_it_leaves_behind_holds_nobody_up() {
        let ran = run("sleep 600 & echo done", 1_000, Duration::from_secs(300)).await;
        assert_eq!((ran.end, &*ran.stdout), (ToolEnd::Exited(ProcessExit::Code(0)), &b"done\n"[..]));
    }

    #[tokio::test]
    async fn its_time_is_bounded() {
        let ran = run("exec sleep 600", 1_000, Duration::from_millis(200)).await;
        assert_eq!(ran.end, ToolEnd::TimedOut);
    }
}
