//! One build in one cell: started, listened to, and ended, by itself or by a limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name, Network};
use alula_runtime::{Behalf, CellSpec, Launcher, Mount, Process, ProcessExit, ProcessSpec};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::log::BuildLog;
use super::recipe::Recipe;
use crate::archive::{ArchiveError, EntryKind, Limits, walk};
use crate::code::blocking;

/// Where the source is inside; the same path as when it runs, since builds write paths into their results.
pub(crate) const CODE_DIR: &str = "/code";
/// Processes and threads of a build: compilers and package managers start one a core and more.
const PROCESSES_MAX: u32 = 4_096;
/// A build gives way to running functions, whose weight is 100.
const CPU_WEIGHT: u32 = 50;
/// How often the size of what a build writes is looked at.
const SIZE_INTERVAL: Duration = Duration::from_secs(3);

/// Where the tools of a folder of the host are inside.
pub(super) fn tools_dir(index: usize) -> PathBuf {
    PathBuf::from(format!("/alula/tools/{index}"))
}

/// Where a build runs.
pub(super) struct Cell<'a> {
    pub(super) launcher: &'a dyn Launcher,
    /// The namespace that it is for.
    pub(super) namespace: &'a Name,
    /// The copy of the source that the build may write to.
    pub(super) folder: &'a Path,
    /// Folders of the host with tools for it.
    pub(super) tools: &'a [PathBuf],
    pub(super) limits: Limits,
}

/// Why a build failed, in words for its owner.
type Ended = Result<(), String>;

impl Cell<'_> {
    /// Runs the recipe's command to its end. A fault is the platform's; the build's own failure is the inner error.
    pub(super) async fn run<F: FnMut(&str) + Send>(
        &self,
        recipe: &Recipe,
        env: &BTreeMap<String, String>,
        log: &mut BuildLog<F>,
    ) -> Result<Ended, Fault> {
        let source = Mount { source: self.folder.to_owned(), target: CODE_DIR.into(), writable: true };
        let tools = self.tools.iter().enumerate().map(|(index, folder)| Mount {
            source: folder.clone(),
            target: tools_dir(index),
            writable: false,
        });
        // Of its namespace's ceiling no build reaches more either: it runs the code of its owner.
        let (namespace, network) = (Some(self.namespace.clone()), Some(Network::Internet));
        let behalf = Behalf { namespace, function: None, network };
        let spec = CellSpec {
            memory_bytes: recipe.memory_bytes,
            processes_max: PROCESSES_MAX,
            tmp_bytes: recipe.memory_bytes,
            cpu_weight: CPU_WEIGHT,
            behalf,
            listeners: Vec::new(),
            mounts: std::iter::once(source).chain(tools).collect(),
        };
        let cell = self.launcher.prepare(spec).await?;
        let ended = self.run_in(&*cell, recipe, env, log).await;
        let oom_kills = cell.oom_kills();
        cell.destroy().await;
        log.finish();
        match ended? {
            Err(_) if oom_kills > 0 => {
                let megabytes = recipe.memory_bytes / (1024 * 1024);
                Ok(Err(format!(
                    "it used more than {megabytes} MB of memory; raise build.memory_mb in alula.toml"
                )))
            }
            other => Ok(other),
        }
    }

    async fn run_in<F: FnMut(&str) + Send>(
        &self,
        cell: &dyn alula_runtime::Cell,
        recipe: &Recipe,
        env: &BTreeMap<String, String>,
        log: &mut BuildLog<F>,
    ) -> Result<Ended, Fault> {
        let (mut output, fds) =
            pipes().map_err(|error| crate::error::file("make a pipe for the build", &error))?;
        let argv = ["/bin/sh", "-c", &recipe.command].map(str::to_owned).to_vec();
        let process =
            cell.start(ProcessSpec { argv, env: env.clone(), cwd: CODE_DIR.to_owned(), fds }).await?;
        let limit = Duration::from_millis(recipe.timeout_ms);
        let listened = tokio::select! {
            exit = listen(&mut output, &*process, log) => Ok(exit),
            () = tokio::time::sleep(limit) => {
                Err(format!("it took longer than {} ms; raise build.timeout_ms in alula.toml", recipe.timeout_ms))
            }
            fault = self.watch_size() => Err(fault.message),
        };
        cell.sweep().await;
        if listened.is_ok() {
            drain(&mut output, log).await;
        }
        match listened {
            Err(reason) => Ok(Err(reason)),
            Ok(ProcessExit::Code(0)) => Ok(Ok(())),
            Ok(ProcessExit::Code(code)) => Ok(Err(format!("its command ended with status {code}"))),
            Ok(ProcessExit::Signal(signal)) => Ok(Err(format!("its command was ended by signal {signal}"))),
            Ok(ProcessExit::Lost) => {
                Err(Fault::new(ErrorCode::SandboxFailed, "the sandbox of the build went away"))
            }
        }
    }

    /// Returns when the build has written more than a package may hold.
    async fn watch_size(&self) -> Fault {
        loop {
            tokio::time::sleep(SIZE_INTERVAL).await;
            let (folder, limits) = (self.folder.to_owned(), self.limits);
            let sized = blocking("look at the size of the build", move || Ok(check_size(&folder, limits)));
            match sized.await {
                Ok(Err(over @ ArchiveError::OverLimit { .. })) => return over.fault(),
                // Files come and go under a running build; the end is checked again.
                _ => continue,
            }
        }
    }
}

fn check_size(folder: &Path, limits: Limits) -> Result<(), ArchiveError> {
    let entries = walk(folder)?;
    let sizes = entries.iter().map(|entry| match entry.kind {
        EntryKind::File { bytes, .. } => bytes,
        _ => 0,
    });
    limits.check(entries.len(), sizes.sum())
}

/// The reading end of one pipe for both outputs, and the descriptors of the process.
fn pipes() -> io::Result<(pipe::Receiver, Vec<OwnedFd>)> {
    let (reader, writer) = io::pipe()?;
    let nothing = File::open("/dev/null")?;
    let errors = writer.try_clone()?;
    let receiver = pipe::Receiver::from_owned_fd(reader.into())?;
    Ok((receiver, vec![nothing.into(), writer.into(), errors.into()]))
}

/// Passes on what the build writes until its command has ended.
async fn listen<F: FnMut(&str) + Send>(
    output: &mut pipe::Receiver,
    process: &dyn Process,
    log: &mut BuildLog<F>,
) -> ProcessExit {
    let mut buffer = vec![0; 16 * 1024];
    let mut exit = process.wait();
    loop {
        tokio::select! {
            exit = &mut exit => return exit,
            read = output.read(&mut buffer) => match read {
                Ok(count) if count > 0 => log.write(&buffer[..count]),
                _ => return exit.await,
            },
        }
    }
}

/// What is still in the pipe once nobody is left who could write.
async fn drain<F: FnMut(&str) + Send>(output: &mut pipe::Receiver, log: &mut BuildLog<F>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = output.try_read(&mut buffer) {
        if count == 0 {
            return;
        }
        log.write(&buffer[..count]);
    }
}
