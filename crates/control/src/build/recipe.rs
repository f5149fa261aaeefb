//! Which build a function needs, and the key under which its result is remembered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use alula_model::{BuildSpec, Digest, Fault, FunctionSpec};
use alula_runtime::EGRESS_PROXY_PORT;
use alula_runtime::language::{Build, Language, Languages, Protocol};
use sha2::{Digest as _, Sha256};

use crate::archive::entry_path;
use crate::error;

/// Largest file that decides about a build: lock files of large projects have a few megabytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Part of every key: to be raised when results of earlier versions of this code are not to be used any more.
const KEY_FORMAT: &str = "alula build 1";

/// What is kept of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The files that were not in the source.
    Added,
    /// Everything.
    Whole,
}

/// What is run, with what, and what its result depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Run by `/bin/sh -c` in the code's folder.
    pub(crate) command: String,
    /// What is being done, for the one who waits for it.
    pub(crate) told: String,
    pub(crate) scope: Scope,
    /// The SHA-256 of everything that the result depends on.
    pub(crate) key: String,
    pub(crate) memory_bytes: u64,
    pub(crate) timeout_ms: u64,
    /// Told to the command as `$ALULA_INTERPRETER`.
    interpreter: Option<String>,
}

impl Recipe {
    /// The build that a function needs, if any: its own command, or its language's where the source asks for it.
    /// Runtimes that are programs of any language (`http`, `exec`, `provided`) use the first language whose build
    /// the source asks for.
    pub(crate) fn find(
        spec: &FunctionSpec,
        language: &Language,
        languages: &Languages,
        folder: &Path,
        source: &Digest,
    ) -> Result<Option<Self>, Fault> {
        if let Some(build) = &spec.build {
            let scope = if build.cache_key.is_empty() { Scope::Whole } else { Scope::Added };
            return Self::new(build, language, scope, folder, source).map(Some);
        }
        let is_needed = |build: &Build| build.is_needed(|file| read(folder, file).ok().flatten());
        let own = language.manifest.build.as_ref().filter(|build| is_needed(build));
        if let Some(build) = own {
            return Self::of_language(build, language, folder, source).map(Some);
        }
        if language.protocol() == Protocol::Frames {
            return Ok(None);
        }
        let usable = languages.iter().filter(|other| other.unavailable().is_none());
        for other in usable {
            if let Some(build) = other.manifest.build.as_ref().filter(|build| is_needed(build)) {
                return Self::of_language(build, other, folder, source).map(Some);
            }
        }
        Ok(None)
    }

    fn of_language(
        build: &Build,
        language: &Language,
        folder: &Path,
        source: &Digest,
    ) -> Result<Self, Fault> {
        let settings = serde_json::json!({ "command": build.command, "cache_key": build.cache_key });
        let build: BuildSpec = serde_json::from_value(settings)
            .map_err(|_| error::defect("the build of a language does not read as one"))?;
        let recipe = Self::new(&build, language, Scope::Added, folder, source)?;
        let is_there = |file: &&String| folder.join(file).is_file();
        let named: Vec<&str> = build.cache_key.iter().filter(is_there).map(String::as_str).collect();
        Ok(Self { told: format!("installing the dependencies in {}", named.join(" and ")), ..recipe })
    }

    fn new(
        build: &BuildSpec,
        language: &Language,
        scope: Scope,
        folder: &Path,
        source: &Digest,
    ) -> Result<Self, Fault> {
        let interpreter = language.interpreter.as_ref().map(|path| path.display().to_string());
        let mut key = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // Lengths keep two parts from reading as another two.
            key.update((bytes.len() as u64).to_le_bytes());
            key.update(bytes);
        };
        part(KEY_FORMAT.as_bytes());
        part(language.name.as_bytes());
        part(interpreter.as_deref().unwrap_or_default().as_bytes());
        part(build.command.as_bytes());
        for file in &build.cache_key {
            // A file that is missing is another state than one that is empty.
            if let Some(content) = read(folder, file)? {
                part(file.as_bytes());
                part(&content);
            }
        }
        if scope == Scope::Whole {
            part(source.as_bytes());
        }
        Ok(Self {
            command: build.command.clone(),
            told: build.command.trim().to_owned(),
            scope,
            key: Digest::from_bytes(key.finalize().into()).to_string(),
            memory_bytes: u64::from(build.memory_mb) * 1024 * 1024,
            timeout_ms: build.timeout_ms,
            interpreter,
        })
    }

    /// The environment of the build, without what the host adds. Programs are looked for in `tools` first.
    pub(super) fn env(&self, tools: impl Iterator<Item = PathBuf>) -> BTreeMap<String, String> {
        let proxy = format!("http://127.0.0.1:{EGRESS_PROXY_PORT}");
        let own_folder = self.interpreter.as_deref().and_then(|path| Path::new(path).parent());
        let first = tools.chain(own_folder.map(Path::to_owned));
        let path: String =
            first.map(|folder| format!("{}:", folder.display())).chain([PATH.to_owned()]).collect();
        let fixed = [
            ("CI", "1"),
            ("HOME", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("NO_PROXY", "localhost,127.0.0.1"),
            ("PATH", &path),
        ];
        let mut env: BTreeMap<_, _> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            env.insert(name.to_owned(), proxy.clone());
        }
        env.extend(self.interpreter.clone().map(|interpreter| ("ALULA_INTERPRETER".to_owned(), interpreter)));
        env
    }
}

/// A file of the source; `None` where there is no plain file of this name.
fn read(folder: &Path, file: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Ok(relative) = entry_path(file.as_bytes()) else { return Ok(None) };
    let path = folder.join(relative);
    if !path.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    let failed = |error: std::io::Error| error::file("read the source", &error);
    File::open(path).map_err(failed)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
    Ok(Some(content))
}
