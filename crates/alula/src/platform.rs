//! The seam to the platform itself: the only module that knows `alula-node`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alula_node::{Overrides, Sources};

use crate::failure::{Exit, Failure, Result, chain};
use crate::session::Session;

pub(crate) use alula_node::{Config, default_data_dir, detect_languages};

/// The configuration file that is read where none is named and this one exists.
const CONFIG_FILE_DEFAULT: &str = "/etc/alula/alula.toml";

/// What flags of `alula up` and `alula config show` say about the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// The configuration file.
    pub(crate) config: Option<PathBuf>,
    /// The data directory.
    pub(crate) data_dir: Option<PathBuf>,
    /// The address of the public data plane.
    pub(crate) listen: Option<SocketAddr>,
    /// The address of the control API.
    pub(crate) control_listen: Option<SocketAddr>,
}

/// The configuration from file, environment and flags.
pub(crate) fn in_force(session: &Session, flags: Flags) -> Result<Config> {
    let environment = &session.environment;
    let Flags { config, data_dir, listen, control_listen } = flags;
    let usual = || Some(PathBuf::from(CONFIG_FILE_DEFAULT)).filter(|path| path.exists());
    let sources = Sources {
        file: config.or_else(|| environment.config_file.clone()).or_else(usual),
        environment: environment.variables.clone(),
        overrides: Overrides { data_dir, data_plane: listen, control: control_listen },
        default_data_dir: default_data_dir(environment.home.as_deref()),
    };
    Config::load(&sources).map_err(|error| {
        Failure::new(Exit::Usage, "configuration", error)
            .remedy("`alula config show --defaults` prints every key with its default")
    })
}

/// The configuration as the file it could be read from.
pub(crate) fn to_toml(config: &Config) -> Result<String> {
    config.to_toml().map_err(|error| Failure::failed("configuration", error))
}

/// Runs the platform until it is stopped. Before any thread exists.
pub(crate) fn up(session: &Session, flags: Flags) -> ExitCode {
    let run = || {
        let config = in_force(session, flags)?;
        let failed = |error: alula_node::Error| {
            let failure = Failure::failed("up", chain(&error));
            match error.remedy() {
                Some(remedy) => failure.remedy(remedy),
                None => failure,
            }
        };
        alula_node::up(config, &session.environment.variables).map_err(failed)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            session.output.failure(&failure);
            failure.exit.into()
        }
    }
}

/// The administrator's token of a data directory, where this user may read it.
pub(crate) fn local_token(data_dir: &Path) -> Option<String> {
    alula_node::local_token(data_dir).ok()
}
