//! Finding interpreters on this machine.

use std::path::{Path, PathBuf};

use super::manifest::{Interpreter, Manifest};

/// The host folders that a sandbox shows: an interpreter elsewhere could not be started in it.
const VISIBLE_IN_SANDBOX: [&str; 3] = ["/usr", "/bin", "/opt"];

/// What detection needs to know of the machine.
pub struct Host<'a> {
    /// The canonical path of a file that exists; `None` where it does not.
    pub resolve: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// Runs a program with arguments and gives what it printed; `None` where it failed.
    pub run: &'a dyn Fn(&[String]) -> Option<String>,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// A runtime that a manifest gives on this machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) interpreter: Option<PathBuf>,
}

/// The runtimes of `manifest`: one a version found, the first with the aliases; or one without an interpreter.
pub(super) fn runtimes(manifest: &Manifest, host: &Host<'_>) -> Vec<Found> {
    let aliases = manifest.runtime.aliases.clone();
    let Some(interpreter) = &manifest.interpreter else {
        return vec![Found { name: manifest.runtime.name.clone(), aliases, interpreter: None }];
    };
    let mut found: Vec<Found> = Vec::new();
    for candidate in &interpreter.candidates {
        let Some(path) = visible(Path::new(candidate), host) else { continue };
        if found.iter().any(|earlier| earlier.interpreter.as_deref() == Some(&*path)) {
            continue;
        }
        let Some(version) = version(interpreter, &path, host) else { continue };
        let name = manifest.runtime.name.replace("{version}", &version);
        if found.iter().all(|earlier| earlier.name != name) {
            let aliases = if found.is_empty() { aliases.clone() } else { Vec::new() };
            found.push(Found { name, aliases, interpreter: Some(path) });
        }
    }
    if found.is_empty() {
        let name = manifest.runtime.name.replace("{version}", "");
        found.push(Found { name, aliases, interpreter: None });
    }
    found
}

fn visible(candidate: &Path, host: &Host<'_>) -> Option<PathBuf> {
    let path = (host.resolve)(candidate)?;
    VISIBLE_IN_SANDBOX.iter().any(|root| path.starts_with(root)).then_some(path)
}

/// The version from the program's file name, or else from what the program prints.
fn version(interpreter: &Interpreter, path: &Path, host: &Host<'_>) -> Option<String> {
    let parts = interpreter.version_parts;
    let file_name = path.file_name()?.to_str()?;
    let in_name = interpreter.file_name.as_deref().and_then(|pattern| {
        let version = file_name.strip_prefix(pattern.strip_suffix("{version}")?)?;
        leading_version(version, parts).filter(|found| found.as_str() == version)
    });
    in_name.or_else(|| {
        let mut argv = vec![path.to_str()?.to_owned()];
        argv.extend(interpreter.version_args.iter().cloned());
        let output = (host.run)(&argv)?;
        let (_, version) = output.split_once(interpreter.version_prefix.as_str())?;
        leading_version(version, parts)
    })
}

/// The first `parts` numbers of a version: `3.11.7` in 2 parts is `3.11`.
fn leading_version(text: &str, parts: usize) -> Option<String> {
    let numbers = text.split('.').take(parts).map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        &part[..end]
    });
    let numbers: Vec<&str> = numbers.collect();
    (numbers.len() == parts && numbers.iter().all(|number| !number.is_empty())).then(|| numbers.join("."))
}
