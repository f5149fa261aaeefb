//! What is asked of the machine before any thread exists: interpreters, folders, names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alula_runtime::language::{Host, LanguageError, Languages};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where data is kept when nothing else is said: what distributions give to services, or the user's own folder.
#[must_use]
pub fn default_data_dir(home: Option<&Path>) -> PathBuf {
    match home {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(".local/share/alula"),
        _ => PathBuf::from("/var/lib/alula"),
    }
}

/// Looks for the interpreters of every language. Starts processes to ask for versions, so it must run before the
/// server has threads.
pub fn detect_languages(unpack_dir: &Path, folders: &[PathBuf]) -> Result<Languages, LanguageError> {
    let resolve = |path: &Path| path.canonicalize().ok();
    let host = Host { resolve: &resolve, run: &run };
    Languages::load(unpack_dir, folders, &host)
}

fn run(argv: &[String]) -> Option<String> {
    let (program, arguments) = argv.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    output.status.success().then(|| String::from_utf8_lossy(&said).into_owned())
}

/// Allows this process as many open files as it may have. Service managers give a low limit to begin with, for the sake
/// of programs that use `select`; with it the server would be full at a thousand connections.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised it stays what it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The default Rust toolchain that rustup keeps for a user: a folder with `bin/cargo` in it.
pub(crate) fn rust_toolchain(home: &Path) -> Option<PathBuf> {
    let rustup = home.join(".rustup");
    let settings: toml::Table = std::fs::read_to_string(rustup.join("settings.toml")).ok()?.parse().ok()?;
    let name = settings.get("default_toolchain")?.as_str()?;
    let candidates = std::fs::read_dir(rustup.join("toolchains")).ok()?.flatten().map(|entry| entry.path());
    // The settings may say `stable` where the folder says `stable-x86_64-unknown-linux-gnu`.
    let is_named =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    candidates.filter(is_named).find(|path| path.join("bin/cargo").exists())
}

/// The machine's memory in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// A name for the control groups of a data directory: the same at every start, different for every directory.
pub(crate) fn group_name(data_dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    format!("alula-{:016x}", hasher.finish())
}

/// What this node is called towards people: its host, and its data directory where a host has several.
pub(crate) fn node_name(data_dir: &Path) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let group = group_name(data_dir);
    format!("{host}-{}", &group[group.len() - 4..])
}

/// The variables that builds get, by the patterns of `build.pass_env`.
pub(crate) fn passed_env<'a>(
    patterns: &'a [String],
    environment: &'a [(String, String)],
) -> impl Iterator<Item = (String, String)> + 'a {
    let matches = |name: &str| {
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    };
    environment.iter().filter(move |(name, _)| matches(name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_are_allowed() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn builds_get_what_the_patterns_name() {
        let pair = |name: &str| (name.to_owned(), "x".to_owned());
        let environment =
            [pair("PIP_INDEX_URL"), pair("PATH"), pair("SSL_CERT_FILE"), pair("SSL_CERT_FILES")];
        let patterns = ["PIP_*".to_owned(), "SSL_CERT_FILE".to_owned()];
        let passed: Vec<_> = passed_env(&patterns, &environment).map(|(name, _)| name).collect();
        assert_eq!(passed, ["PIP_INDEX_URL", "SSL_CERT_FILE"]);
    }
}
