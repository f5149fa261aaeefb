//! `alula up`: the platform in this process, until it is told to stop.
//!
//! Runs before any thread exists, because sandboxes are made by a process that is forked first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::platform::{self, Flags};
use crate::session::Session;

/// What `alula up` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula up
  alula up --data-dir ./data --listen 0.0.0.0:8080
  alula up --config /etc/alula/alula.toml

The first start makes an administrator's token and prints where it is kept. `alula config
show` prints every setting; each can also be set by a variable: ALULA_LISTEN_CONTROL is
`control` in [listen]. SIGTERM and Ctrl-C let running calls finish.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
}

/// Where the configuration comes from besides the environment.
#[derive(Debug, Args)]
pub(super) struct Configuration {
    /// The configuration file
    #[arg(long, env = "ALULA_CONFIG", value_name = "FILE", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Where everything is kept that must survive
    #[arg(long, env = "ALULA_DATA_DIR", value_name = "FOLDER", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Address that functions are called on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address of the control API
    #[arg(long, value_name = "ADDRESS:PORT")]
    control_listen: Option<SocketAddr>,
}

impl From<Configuration> for Flags {
    fn from(given: Configuration) -> Self {
        let Configuration { config, data_dir, listen, control_listen } = given;
        Self { config, data_dir, listen, control_listen }
    }
}

/// Serves until it is stopped.
pub(crate) fn run(arguments: Arguments, session: &Session) -> ExitCode {
    platform::up(session, arguments.configuration.into())
}
