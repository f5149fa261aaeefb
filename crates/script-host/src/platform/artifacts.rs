//! Compiled scripts, by the content of their source and the version of the engine.
//!
//! They are made by the compiler in a cell of its own, and kept in a folder of the platform's that no user can write
//! to. Only these are ever given to a host, so that nobody can bring his own bytecode.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, VersionKey};
use alula_runtime::{Launcher, Mount, ProcessExit, Tool, ToolEnd, ToolRun, VersionPlan, no_input};
use alula_script::ENGINE_VERSION;
use sha2::{Digest as _, Sha256};

use crate::process::COMPILE_MODE;

use super::{PROGRAM, PROGRAM_DIR, ScriptOptions};

/// Time to compile one script: a thousand times what one takes.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory of the compiler.
const COMPILE_MEMORY_BYTES: u64 = 256 << 20;
/// Largest compiled script.
const ARTIFACT_BYTES_MAX: u64 = 64 << 20;
/// It starts no thread; what its allocator and runtime may want is allowed for.
const COMPILE_PROCESSES_MAX: u32 = 8;
/// Like a running function: somebody waits for it.
const COMPILE_CPU_WEIGHT: u32 = 100;
/// Source files of one package, and their bytes.
const SOURCES_MAX: usize = 10_000;
const SOURCE_BYTES_MAX: u64 = 64 << 20;
/// Versions whose compiled script is held open, so that a cold start does not look for it.
const OPEN_MAX: usize = 1_024;
/// Compiled scripts that are kept; the oldest go. One that is missing is made again.
const KEPT_MAX: usize = 16_384;
const EXTENSIONS: [&str; 5] = ["ts", "mts", "js", "mjs", "json"];

/// See the module.
#[derive(Debug)]
pub(super) struct Artifacts {
    dir: PathBuf,
    program_dir: PathBuf,
    launcher: Arc<dyn Launcher>,
    open: Mutex<Open>,
    scratch: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    by_version: HashMap<(VersionKey, PathBuf), Arc<File>>,
    order: VecDeque<(VersionKey, PathBuf)>,
}

/// Puts the binary into a folder that cells can be shown; gives the folder.
pub(super) fn install_program(options: &ScriptOptions) -> io::Result<PathBuf> {
    let folder = options.dir.join("program");
    let (target, new) = (folder.join("alula"), folder.join("alula.new"));
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let _gone_before = fs::remove_file(&new);
    if fs::hard_link(&options.program, &new).is_err() || !is_executable_by_all(&new) {
        let _gone_before = fs::remove_file(&new);
        fs::copy(&options.program, &new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    }
    // A host that still runs keeps the file it was started from.
    fs::rename(&new, &target)?;
    Ok(folder)
}

fn is_executable_by_all(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.permissions().mode() & 0o005 == 0o005)
}

impl Artifacts {
    pub(super) fn open(dir: &Path, program_dir: PathBuf, launcher: Arc<dyn Launcher>) -> io::Result<Self> {
        let dir = dir.join("compiled");
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        Ok(Self { dir, program_dir, launcher, open: Mutex::default(), scratch: AtomicU64::new(0) })
    }

    /// The compiled script of a version, made where it is missing.
    pub(super) async fn of(&self, plan: &VersionPlan) -> Result<Arc<File>, Fault> {
        let version = (plan.key.clone(), plan.code.clone());
        if let Some(file) = self.lock_open().by_version.get(&version) {
            return Ok(Arc::clone(file));
        }
        let handler = plan.spec.handler.clone().unwrap_or_default();
        let (dir, code, named) = (self.dir.clone(), plan.code.clone(), handler.clone());
        let looked = tokio::task::spawn_blocking(move || find(&dir, &code, &named)).await;
        let (path, found) = looked.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let file = match found {
            Some(file) => file,
            None => self.make(plan, &handler, path).await?,
        };
        let file = Arc::new(file);
        let mut open = self.lock_open();
        if open.order.len() >= OPEN_MAX
            && let Some(oldest) = open.order.pop_front()
        {
            open.by_version.remove(&oldest);
        }
        open.order.push_back(version.clone());
        open.by_version.insert(version, Arc::clone(&file));
        Ok(file)
    }

    async fn make(&self, plan: &VersionPlan, handler: &str, path: PathBuf) -> Result<File, Fault> {
        let bytes = self.compile(&plan.code, handler).await?;
        let scratch = self.dir.join(format!("new-{}", self.scratch.fetch_add(1, Ordering::Relaxed)));
        let dir = self.dir.clone();
        let kept = tokio::task::spawn_blocking(move || {
            fs::write(&scratch, bytes)?;
            fs::rename(&scratch, &path)?;
            prune(&dir)?;
            File::open(&path)
        });
        kept.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    /// Runs the compiler over `code` in a cell of its own.
    async fn compile(&self, code: &Path, handler: &str) -> Result<Vec<u8>, Fault> {
        let read_only = |source: &Path, target: &str| Mount {
            source: source.to_owned(),
            target: target.into(),
            writable: false,
        };
        let tool = Tool {
            argv: [PROGRAM, COMPILE_MODE, handler].map(str::to_owned).into(),
            cwd: "/code",
            mounts: vec![read_only(code, "/code"), read_only(&self.program_dir, PROGRAM_DIR)],
            memory_bytes: COMPILE_MEMORY_BYTES,
            processes_max: COMPILE_PROCESSES_MAX,
            cpu_weight: COMPILE_CPU_WEIGHT,
            stdout_bytes_max: ARTIFACT_BYTES_MAX,
            timeout: COMPILE_TIMEOUT,
        };
        let ToolRun { end, stdout, stderr } = tool.run(&*self.launcher, no_input()?).await?;
        match end {
            ToolEnd::Exited(ProcessExit::Code(0)) => Ok(stdout),
            ToolEnd::Exited(ProcessExit::Code(_)) => {
                Err(Fault::new(ErrorCode::InitFailed, stderr.trim_end().to_owned()))
            }
            ToolEnd::TimedOut => {
                let limit = u64::try_from(COMPILE_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
                let message = format!("the script was not compiled within {limit} ms");
                Err(Fault::limit(ErrorCode::InitFailed, message, "COMPILE_TIMEOUT", limit, "fixed"))
            }
            ToolEnd::OutOfMemory | ToolEnd::Exited(ProcessExit::Signal(_) | ProcessExit::Lost) => {
                let message =
                    "the script cannot be compiled: the compiler ended over its limits of memory or nesting";
                Err(Fault::new(ErrorCode::InitFailed, message))
            }
        }
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: &dyn std::error::Error) -> Fault {
    tracing::error!(%error, "a script cannot be compiled");
    Fault::new(ErrorCode::SandboxFailed, "the platform could not compile the script")
}

/// Where the artifact of this source is kept, and the file where it is there.
fn find(dir: &Path, code: &Path, handler: &str) -> io::Result<(PathBuf, Option<File>)> {
    let mut digest = Sha256::new();
    for part in [ENGINE_VERSION.as_bytes(), handler.as_bytes()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut left = Budget { files: SOURCES_MAX, bytes: SOURCE_BYTES_MAX };
    add_folder(&mut digest, code, Path::new(""), &mut left)?;
    let name: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(name);
    let file = File::open(&path).ok();
    Ok((path, file))
}

struct Budget {
    files: usize,
    bytes: u64,
}

/// Adds the sources of a folder in the order of their names.
fn add_folder(digest: &mut Sha256, code: &Path, below: &Path, left: &mut Budget) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(code.join(below))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        let is_source = path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
        if kind.is_dir() {
            add_folder(digest, code, &path, left)?;
        } else if kind.is_file() && is_source {
            let content = fs::read(code.join(&path))?;
            let too_much = || io::Error::new(io::ErrorKind::FileTooLarge, "too much source for a script");
            left.files = left.files.checked_sub(1).ok_or_else(too_much)?;
            left.bytes = left.bytes.checked_sub(content.len() as u64).ok_or_else(too_much)?;
            for part in [path.as_os_str().as_encoded_bytes(), &content] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
    }
    Ok(())
}

/// Keeps the folder within its limit.
fn prune(dir: &Path) -> io::Result<()> {
    let mut kept: Vec<_> = fs::read_dir(dir)?.flatten().collect();
    if kept.len() <= KEPT_MAX {
        return Ok(());
    }
    kept.sort_by_cached_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    kept.iter().take(kept.len() - KEPT_MAX).try_for_each(|entry| fs::remove_file(entry.path()))
}
