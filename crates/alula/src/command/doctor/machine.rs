//! What can be seen on this machine without a platform: kernel, sandbox, interpreters, data directory, ports.
//!
//! Trying the sandbox forks, so all of it is looked at before this process has a second thread.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use alula_runtime::language::{Language, Languages};
use alula_sdk::wire::Protection;

use super::{Check, State};
use crate::failure::chain;
use crate::human;
use crate::platform::{self, Flags};
use crate::session::Session;

/// Free space below which deploys may soon fail.
const FREE_BYTES_LOW: u64 = 1024 * 1024 * 1024;
/// Free space below which nothing works for long.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// The kernel from which on every protection is there: Landlock came with it.
const KERNEL_WANTED: (u32, u32) = (5, 13);

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Findings {
    checks: Vec<Check>,
    /// The platform's ports and who has them.
    ports: Vec<(SocketAddr, std::io::Result<()>)>,
}

/// Looks at this machine.
pub(crate) fn look(session: &Session) -> Findings {
    let settings = Settings::of(session);
    let mut checks = vec![kernel()];
    checks.extend(sandbox());
    checks.extend(runtimes(&settings.language_folders));
    checks.push(settings.check);
    checks.push(data_dir(&settings.data_dir));
    let try_port = |address: SocketAddr| (address, TcpListener::bind(address).map(drop));
    Findings { checks, ports: settings.listen.into_iter().map(try_port).collect() }
}

impl Findings {
    /// The checks; a port that is taken is as it should be where the platform runs.
    pub(super) fn checks(self, is_running: bool) -> Vec<Check> {
        let ports = self.ports.iter().map(|(address, outcome)| port(*address, outcome, is_running));
        let ports: Vec<Check> = ports.collect();
        self.checks.into_iter().chain(ports).collect()
    }
}

/// What `alula up` would use on this machine.
struct Settings {
    data_dir: PathBuf,
    listen: Vec<SocketAddr>,
    language_folders: Vec<PathBuf>,
    check: Check,
}

impl Settings {
    fn of(session: &Session) -> Self {
        match platform::in_force(session, Flags::default()) {
            Ok(config) => Self {
                data_dir: config.data_dir,
                listen: vec![config.listen.data_plane, config.listen.control],
                language_folders: config.languages.folders,
                check: Check::new("configuration", State::Ok, "can be read"),
            },
            Err(failure) => {
                let check = Check::new("configuration", State::Fail, failure.message);
                Self {
                    data_dir: session.environment.data_dir(),
                    listen: Vec::new(),
                    language_folders: Vec::new(),
                    check: Check { remedy: failure.remedy, ..check },
                }
            }
        }
    }
}

fn kernel() -> Check {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().unwrap_or_default()
    });
    let version = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let detail = format!("{} {release}", name.sysname().to_string_lossy());
    if version >= KERNEL_WANTED {
        return Check::new("kernel", State::Ok, detail);
    }
    let (major, minor) = KERNEL_WANTED;
    Check::new("kernel", State::Warn, detail)
        .remedy(format!("Linux {major}.{minor} or newer has every protection"))
}

/// Makes a real sandbox and tells what protects it.
fn sandbox() -> Vec<Check> {
    let options = alula_sandbox::SpawnerOptions::new("alula-doctor");
    let link = match alula_sandbox::fork_spawner(options) {
        Ok(link) => link,
        Err(error) => return vec![Check::new("sandbox", State::Fail, chain(&error))],
    };
    match alula_sandbox::inspect(link) {
        Ok(report) => report.protections.into_iter().map(protection).collect(),
        Err(error) => vec![Check::new("sandbox", State::Fail, chain(&error))],
    }
}

fn protection(found: alula_runtime::Protection) -> Check {
    let alula_runtime::Protection { name, in_force, detail } = found;
    super::protection(&Protection { name: name.to_owned(), in_force, detail })
}

fn runtimes(folders: &[PathBuf]) -> Vec<Check> {
    let load = || -> Result<Languages, String> {
        let unpack_dir = tempfile::tempdir().map_err(|error| chain(&error))?;
        platform::detect_languages(unpack_dir.path(), folders).map_err(|error| chain(&error))
    };
    match load() {
        Ok(languages) => languages.iter().map(|language| runtime(language)).collect(),
        Err(error) => vec![Check::new("runtimes", State::Fail, error)],
    }
}

fn runtime(language: &Language) -> Check {
    let name = format!("runtime {}", language.name);
    if language.name == alula_wasm::RUNTIME {
        return match alula_wasm::inspect() {
            Ok(detail) => Check::new(name, State::Ok, detail),
            Err(reason) => Check::new(name, State::Warn, reason).remedy(
                "give the platform four terabytes of addresses: no limit of address space (ulimit -v), and \
                 vm.overcommit_memory not 2",
            ),
        };
    }
    let wanted = language.manifest.interpreter.as_ref().filter(|_| language.interpreter.is_none());
    match wanted {
        Some(wanted) => Check::new(name, State::Warn, "not installed").remedy(wanted.remedy.as_str()),
        None => {
            let found = language.interpreter.as_ref().map(|path| path.display().to_string());
            Check::new(name, State::Ok, found.unwrap_or_else(|| "needs nothing".to_owned()))
        }
    }
}

fn data_dir(path: &Path) -> Check {
    let name = "data directory";
    // The nearest folder that exists is the one whose permissions and disk decide.
    let Some(existing) = path.ancestors().find(|folder| folder.exists()).filter(|folder| folder.is_dir())
    else {
        return Check::new(name, State::Fail, format!("{} cannot be made", path.display()))
            .remedy("choose another with --data-dir or ALULA_DATA_DIR");
    };
    if let Err(error) = tempfile::tempfile_in(existing) {
        return Check::new(name, State::Fail, format!("{} cannot be written: {error}", existing.display()))
            .remedy("run as its owner, or choose another with --data-dir or ALULA_DATA_DIR");
    }
    let made = if existing == path { "" } else { " (will be made)" };
    let Ok(disk) = rustix::fs::statvfs(existing) else {
        return Check::new(name, State::Ok, format!("{}{made}", path.display()));
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = format!("{}{made}, {} free", path.display(), human::bytes(free));
    match free {
        free if free < FREE_BYTES_MIN => Check::new(name, State::Fail, detail).remedy("free some disk space"),
        free if free < FREE_BYTES_LOW => Check::new(name, State::Warn, detail).remedy("free some disk space"),
        _ => Check::new(name, State::Ok, detail),
    }
}

fn port(address: SocketAddr, outcome: &std::io::Result<()>, is_running: bool) -> Check {
    let name = format!("port {}", address.port());
    match outcome {
        Ok(()) => Check::new(name, State::Ok, format!("{address} is free")),
        Err(_) if is_running => {
            Check::new(name, State::Ok, format!("{address} is in use, and the platform runs"))
        }
        Err(error) => Check::new(name, State::Warn, format!("{address} cannot be used: {error}"))
            .remedy("end what uses it, or choose another with `alula up --listen` or --control-listen"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_that_cannot_be_is_a_failure() {
        assert_eq!(data_dir(Path::new("/dev/null/alula")).state, State::Fail);
        let folder = tempfile::tempdir().unwrap();
        assert_ne!(data_dir(&folder.path().join("a/b")).state, State::Fail);
    }

    #[test]
    fn a_taken_port_is_fine_only_where_the_platform_runs() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let taken = || Err(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        assert_eq!(port(address, &taken(), true).state, State::Ok);
        assert_eq!(port(address, &taken(), false).state, State::Warn);
        assert_eq!(port(address, &Ok(()), false).state, State::Ok);
    }
}
