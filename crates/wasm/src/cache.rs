//! Compiled components on disk.
//!
//! ```text
//! data_dir/wasm/<engine>-<component>-<content>.cwasm
//! ```
//!
//! `engine` stands for everything that compiled code depends on besides the component (version, configuration, the
//! machine's features), `component` is the SHA-256 of what was compiled, `content` that of the file. The folder is the
//! platform's own; still, each file is read and its digest checked once in the life of a process before code of it
//! runs, so that what a failing disk or a torn write left is compiled again and never run. Files of other engines are
//! removed at the start, the longest unused ones when there are too many.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

/// Compiled code on disk, in bytes: some hundred of the largest components.
const BYTES_MAX: u64 = 4 << 30;
const EXTENSION: &str = "cwasm";

/// The compiled components of one engine.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    engine: String,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    by_component: HashMap<String, File>,
    /// Counts uses, so that the longest unused file is known.
    uses: u64,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    content: String,
    bytes: u64,
    used: u64,
    /// Whether this process has seen that the content is what the name says.
    is_checked: bool,
}

/// The SHA-256 of `bytes`, as it stands in file names.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

impl Cache {
    /// Opens the folder, which is made where it is not there, and looks at what is in it.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = format!("{:016x}", hasher.finish());
        let mut files = Files::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match parse(&entry.path(), &engine) {
                Some((component, content)) => {
                    let (path, bytes) = (entry.path(), entry.metadata()?.len());
                    files
                        .by_component
                        .insert(component, File { path, content, bytes, used: 0, is_checked: false });
                }
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Self { dir: dir.to_owned(), engine, files: Mutex::new(files) })
    }

    /// Whether anything was compiled for this engine.
    pub(crate) fn has(&self, component: &str) -> bool {
        self.files().by_component.contains_key(component)
    }

    /// Whether [`get`](Self::get) will read the whole file.
    pub(crate) fn is_checked(&self, component: &str) -> bool {
        self.files().by_component.get(component).is_some_and(|file| file.is_checked)
    }

    /// The file of a component, where it is there and whole.
    pub(crate) fn get(&self, component: &str) -> Option<PathBuf> {
        let (path, content) = {
            let mut files = self.files();
            files.uses += 1;
            let uses = files.uses;
            let file = files.by_component.get_mut(component)?;
            file.used = uses;
            if file.is_checked {
                return Some(file.path.clone());
            }
            (file.path.clone(), file.content.clone())
        };
        let is_whole = fs::read(&path).is_ok_and(|bytes| digest(&bytes) == content);
        if !is_whole {
            tracing::warn!(path = %path.display(), "a compiled component is damaged; it is compiled again");
            self.forget(component);
            return None;
        }
        if let Some(file) = self.files().by_component.get_mut(component) {
            file.is_checked = true;
        }
        Some(path)
    }

    /// Keeps the compiled code of a component.
    pub(crate) fn put(&self, component: &str, compiled: &[u8]) -> io::Result<()> {
        let content = digest(compiled);
        let name = format!("{}-{component}-{content}.{EXTENSION}", self.engine);
        let (path, unfinished) = (self.dir.join(&name), self.dir.join(format!("{name}.new")));
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(compiled)?;
        drop(file);
        fs::rename(&unfinished, &path)?;
        let mut files = self.files();
        files.uses += 1;
        let file = File { path, content, bytes: compiled.len() as u64, used: files.uses, is_checked: true };
        files.by_component.insert(component.to_owned(), file);
        files.trim();
        Ok(())
    }

    /// Removes what cannot be used.
    pub(crate) fn forget(&self, component: &str) {
        if let Some(file) = self.files().by_component.remove(component) {
            // What is left of it is removed at the next start.
            let _ = fs::remove_file(file.path);
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn trim(&mut self) {
        let mut bytes: u64 = self.by_component.values().map(|file| file.bytes).sum();
        while bytes > BYTES_MAX {
            let oldest = self.by_component.iter().min_by_key(|(_, file)| file.used);
            let Some(component) = oldest.map(|(component, _)| component.clone()) else { return };
            let Some(file) = self.by_component.remove(&component) else { return };
            bytes -= file.bytes;
            // Code that is mapped stays until it is unmapped.
            let _ = fs::remove_file(file.path);
        }
    }
}

/// The component and the content that a file's name tells, where it is one of `engine`'s.
fn parse(path: &Path, engine: &str) -> Option<(String, String)> {
    let is_compiled = path.extension().is_some_and(|extension| extension == EXTENSION);
    let mut parts = path.file_stem()?.to_str()?.split('-');
    match (is_compiled, parts.next(), parts.next(), parts.next(), parts.next()) {
        (true, Some(own), Some(component), Some(content), None) if own == engine => {
            Some((component.to_owned(), content.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Cache {
        let engine = Engine::new(&crate::engine::config()).unwrap();
        Cache::open(dir, &engine).unwrap()
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        assert_eq!(cache.get("aa"), None);
        cache.put("aa", b"machine code").unwrap();
        let path = cache.get("aa").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"machine code");
        assert_eq!(open(dir.path()).get("aa"), Some(path));
    }

    #[test]
    fn a_damaged_file_is_never_given() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).put("aa", b"machine code").unwrap();
        let cache = open(dir.path());
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&path, b"machine c").unwrap();
        assert_eq!(cache.get("aa"), None);
        assert!(!path.exists() && !cache.has("aa"));
    }

    #[test]
    fn files_of_other_engines_and_unfinished_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0000000000000000-aa-bb.cwasm", "x.cwasm.new", "y"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        let cache = open(dir.path());
        assert!(!cache.has("aa"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
