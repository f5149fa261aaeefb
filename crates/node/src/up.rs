//! The entry of the server: what must happen before threads, then the two runtimes, then the end.

use std::io::{ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_sandbox::{SpawnerOptions, fork_spawner};
use alula_store::DataDir;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::assembly::{self, Prepared};
use crate::config::{Config, LogFormat, ServerLog};
use crate::machine::{detect_languages, group_name, raise_open_files, rust_toolchain};
use crate::secret::{self, Secret};
use crate::serve;
use crate::token::AdminToken;

/// The server could not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be opened", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: alula_store::Error,
    },
    /// Something of the operating system failed.
    #[error("{what}")]
    System {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A component could not be set up.
    #[error("{what}")]
    Component {
        /// Which, doing what.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process that makes sandboxes has ended, and all sandboxes with it.
    #[error("the spawner, which makes all sandboxes, has ended, so the platform has stopped")]
    SpawnerGone,
}

impl Error {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::DataDir { source: alula_store::Error::InUse { .. }, .. } => {
                Some("stop the `alula up` that uses it, or choose another with --data-dir or ALULA_DATA_DIR")
            }
            Self::DataDir { source: alula_store::Error::TooNew { .. }, .. } => None,
            Self::DataDir { .. } => {
                Some("choose a folder that this user may write with --data-dir or ALULA_DATA_DIR")
            }
            Self::System { source, .. } if source.kind() == ErrorKind::AddrInUse => Some(
                "stop the program that uses the port, or choose others with --listen and --control-listen",
            ),
            Self::SpawnerGone => Some(
                "start it again, best by a service manager that restarts it; it was killed, perhaps for want of memory: \
                 see the kernel's log",
            ),
            Self::System { .. } | Self::Component { .. } => {
                Some("`alula doctor` shows what this machine lacks")
            }
        }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    pub(crate) fn component<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Component { what, source: Box::new(source) }
    }
}

/// Runs the platform until it is told to stop. Call it from `main` before any thread exists: it forks the spawner.
/// `environment` is where builds get their variables from.
pub fn up(config: Config, environment: &[(String, String)]) -> Result<(), Error> {
    // A server that uses a few kilobytes here and there would hold megabytes in huge pages. The spawner switches them on
    // again for functions. A kernel without the switch has no huge pages to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    raise_open_files();
    start_log(&config.log)?;
    let path = config.data_dir.clone();
    let in_data_dir = |source| Error::DataDir { path: path.clone(), source };
    // Before the spawner: it cleans up what an earlier one left, which must not be a running one's.
    let data_dir = DataDir::open(&config.data_dir).map_err(in_data_dir)?;
    let data_path = data_dir.path().to_owned();
    let languages = detect_languages(&data_path.join("languages"), &config.languages.folders)
        .map_err(Error::component("the languages cannot be set up"))?;
    let spawner = fork_spawner(SpawnerOptions {
        group_name: group_name(&data_path),
        uid_base: config.sandbox.uid_base,
        extra_readonly: config.sandbox.extra_readonly.clone(),
    })
    .map_err(Error::component("the spawner cannot be started"))?;
    // Secrets are in the memory of this process: no core file, and nobody but root looks into it. Not before the spawner,
    // which looks into the processes that it makes.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let token = AdminToken::open(&data_path, crate::clock::random)
        .map_err(Error::system("the administrator's token cannot be made"))?;
    let lineage_secret = Secret::open(&data_path, secret::LINEAGE_KEY, crate::clock::random)
        .map_err(Error::system("the key that lineages are signed with cannot be made"))?;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());

    let data_plane = runtime("alula-data", config.threads.data_plane)?;
    let control = runtime("alula-control", config.threads.control)?;
    let prepared = Prepared {
        build_env: crate::machine::passed_env(&config.build.pass_env, environment).collect(),
        build_tools: build_tools(&config, environment),
        program: std::env::current_exe().map_err(Error::system("this program's own file cannot be found"))?,
        config,
        data_dir,
        languages: Arc::new(languages),
        spawner,
        token,
        lineage_secret,
        data_plane: data_plane.handle().clone(),
    };
    let result = control.block_on(async {
        let platform = assembly::assemble(prepared).await?;
        serve::serve(platform).await
    });
    data_plane.shutdown_timeout(SHUTDOWN_PATIENCE);
    control.shutdown_timeout(SHUTDOWN_PATIENCE);
    result
}

fn build_tools(config: &Config, environment: &[(String, String)]) -> Vec<PathBuf> {
    if !config.build.tools.is_empty() {
        return config.build.tools.clone();
    }
    let home = environment.iter().find(|(name, _)| name == "HOME").map(|(_, home)| Path::new(home));
    home.and_then(rust_toolchain).into_iter().collect()
}

/// What is said only if it is asked for: the reader of S3 requests takes every answer that is not 200 for an error.
const QUIET: &str = "s3s=off";

/// Writes what the platform says about itself to standard error.
fn start_log(log: &ServerLog) -> Result<(), Error> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.filter))
        .map_err(Error::component("log.filter is wrong"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let to_stderr =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    let started = match log.format {
        LogFormat::Text => to_stderr.with_target(false).try_init(),
        LogFormat::Json => to_stderr.json().try_init(),
    };
    started.map_err(|source| Error::Component { what: "the log cannot be started", source })
}

/// Time for tasks that nobody waits for, at the very end.
const SHUTDOWN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

fn runtime(name: &str, threads: usize) -> Result<Runtime, Error> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(Error::system("the threads cannot be started"))
}

/// Reads the token of a data directory, for a command line on the same machine.
pub fn local_token(data_dir: &Path) -> std::io::Result<String> {
    AdminToken::read(&data_dir.join(crate::token::TOKEN_FILE))
}
