//! Languages as data: what can be run on this machine, and how.
//!
//! A language is a folder with a `manifest.toml`, a shim where its protocol needs one, and templates. The folders
//! under `guest/` of this project are part of the binary; more can be given when the platform starts, and an
//! `id` given there replaces the one of the binary. A folder becomes one [`Language`] for each version of its
//! interpreter that is installed, or one that is unavailable and says how to change that.
//!
//! Read `manifest` for what a folder may say and `detect` for how interpreters are found. Nothing here starts a
//! process: asking an interpreter for its version is done by the caller's function.

mod detect;
mod folder;
mod manifest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_model::SpecError;

pub use detect::Host;
pub use folder::TemplateFile;
pub use manifest::{
    Build, BuildTrigger, Cancel, Home, Interpreter, Manifest, Protocol, RuntimeNames, StemSupport, Template,
};

use folder::Folder;

/// Where the shim's folder is mounted inside a cell.
pub const SHIM_DIR: &str = "/alula";

/// A language in one version, as it is on this machine.
#[derive(Debug, Clone)]
pub struct Language {
    /// The canonical name of the runtime: `python3.11`.
    pub name: String,
    /// Other names of it: `python`, `python3`.
    pub aliases: Vec<String>,
    /// What its folder says.
    pub manifest: Arc<Manifest>,
    /// The interpreter, where the language has one and it is installed.
    pub interpreter: Option<PathBuf>,
    folder: Arc<Folder>,
    shim_dir: Option<PathBuf>,
}

/// A folder cannot be used as a language.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// A file cannot be read or written.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not valid.
    #[error("the manifest of language {folder:?} is not valid")]
    Manifest {
        /// The folder's name.
        folder: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// The manifest contradicts itself.
    #[error("the manifest of language {folder:?}: {reason}")]
    Contradiction {
        /// The folder's name.
        folder: String,
        /// What does not fit.
        reason: &'static str,
    },
}

/// Everything that can be run.
#[derive(Debug, Default)]
pub struct Languages {
    all: Vec<Arc<Language>>,
    by_name: BTreeMap<String, Arc<Language>>,
}

impl Languages {
    /// Loads the folders of the binary and those in `extra_dirs` (each holds one folder a language), writes the
    /// shims of the binary below `unpack_dir`, from where cells mount them, and looks for interpreters on `host`.
    pub fn load(unpack_dir: &Path, extra_dirs: &[PathBuf], host: &Host<'_>) -> Result<Self, LanguageError> {
        let mut folders = BTreeMap::new();
        for folder in Folder::embedded().chain(Folder::in_dirs(extra_dirs)?) {
            let manifest = Manifest::parse(&folder)?;
            folders.insert(manifest.id.clone(), (folder, manifest));
        }
        let with_builds: Vec<Manifest> =
            folders.values().map(|(_, manifest)| manifest).filter(|m| m.build.is_some()).cloned().collect();
        for (_, manifest) in folders.values_mut().filter(|(_, m)| m.protocol != Protocol::Frames) {
            with_builds.iter().for_each(|other| manifest.find_packages_of(other));
        }
        let mut languages = Self::default();
        for (folder, manifest) in folders.into_values() {
            let on_disk = manifest.shim.as_ref().map(|_| folder.on_disk(unpack_dir)).transpose()?;
            let (shim_dir, is_new) = on_disk.map_or((None, false), |(dir, is_new)| (Some(dir), is_new));
            let first = languages.all.len();
            languages.add(Arc::new(folder), Arc::new(manifest), shim_dir, host);
            if is_new {
                languages.all[first..].iter().for_each(|language| language.precompile(host));
            }
        }
        Ok(languages)
    }

    fn add(
        &mut self,
        folder: Arc<Folder>,
        manifest: Arc<Manifest>,
        shim_dir: Option<PathBuf>,
        host: &Host<'_>,
    ) {
        for found in detect::runtimes(&manifest, host) {
            let language = Arc::new(Language {
                name: found.name,
                aliases: found.aliases,
                interpreter: found.interpreter,
                manifest: Arc::clone(&manifest),
                folder: Arc::clone(&folder),
                shim_dir: shim_dir.clone(),
            });
            for name in std::iter::once(&language.name).chain(&language.aliases) {
                self.by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&language));
            }
            self.all.push(language);
        }
    }

    /// The language that has `runtime` as its name or as an alias.
    #[must_use]
    pub fn get(&self, runtime: &str) -> Option<Arc<Language>> {
        self.by_name.get(runtime).cloned()
    }

    /// All of them, the unavailable ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Language>> {
        self.all.iter()
    }

    /// The language for a function that is the single file `file`, by its extension; a file that begins with
    /// `#!` and whose extension nobody claims is run as a program.
    #[must_use]
    pub fn for_file(&self, file: &Path, first_bytes: &[u8]) -> Option<Arc<Language>> {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let claims = |language: &&Arc<Language>| {
            extension.is_some_and(|extension| language.manifest.extensions.iter().any(|e| e == extension))
        };
        let program =
            || self.all.iter().find(|l| l.protocol() == Protocol::Exec && first_bytes.starts_with(b"#!"));
        self.all.iter().find(claims).or_else(program).cloned()
    }

    /// The language with the id `id`, whatever its version: for templates.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<Language>> {
        self.all.iter().find(|language| language.manifest.id == id).cloned()
    }
}

impl Language {
    fn precompile(&self, host: &Host<'_>) {
        let (Some(interpreter), Some(dir)) = (&self.interpreter, &self.shim_dir) else { return };
        let (interpreter, dir) = (interpreter.to_string_lossy(), dir.to_string_lossy());
        let fill = |part: &String| part.replace("{interpreter}", &interpreter).replace("{folder}", &dir);
        let argv: Vec<String> = self.manifest.precompile.iter().map(fill).collect();
        if !argv.is_empty() && (host.run)(&argv).is_none() {
            tracing::warn!(language = %self.name, "cannot compile the shim ahead; instances start slower");
        }
    }

    /// How the platform talks to it.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.manifest.protocol
    }

    /// Why it cannot be used on this machine and what to do about it; `None` where it can.
    #[must_use]
    pub fn unavailable(&self) -> Option<String> {
        let wanted = self.manifest.interpreter.as_ref()?;
        if self.interpreter.is_some() {
            return None;
        }
        Some(format!("{} is not installed on this machine; install it with: {}", self.name, wanted.remedy))
    }

    /// Refuses a spec that names a runtime whose interpreter is missing.
    pub fn check_available(&self) -> Result<(), SpecError> {
        self.unavailable().map_or(Ok(()), |reason| Err(SpecError { field: "runtime", reason }))
    }

    /// The folder of the shim on this machine, to be mounted at [`SHIM_DIR`].
    #[must_use]
    pub fn shim_dir(&self) -> Option<&Path> {
        self.shim_dir.as_deref()
    }

    /// Program and arguments that start the shim inside a cell.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.command_with(self.manifest.shim.as_deref().unwrap_or_default())
    }

    /// Program and arguments that start the zygote, where there is one.
    #[must_use]
    pub fn zygote_command(&self) -> Option<Vec<String>> {
        Some(self.command_with(self.manifest.stem.as_ref()?.zygote.as_deref()?))
    }

    fn command_with(&self, file: &str) -> Vec<String> {
        let interpreter = self.interpreter.as_deref().unwrap_or(Path::new("")).to_string_lossy();
        let shim = format!("{SHIM_DIR}/{file}");
        let fill = |part: &String| part.replace("{interpreter}", &interpreter).replace("{shim}", &shim);
        self.manifest.command.iter().map(fill).collect()
    }

    /// The handler of a function that names none: `file` is its single file or the first that exists of
    /// [`Manifest::entry_files`].
    #[must_use]
    pub fn default_handler(&self, file: &Path) -> Option<String> {
        let stem = file.with_extension("");
        let pattern = self.manifest.default_handler.as_deref()?;
        Some(pattern.replace("{file}", &stem.to_string_lossy()))
    }

    /// The files of the template `name`.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<Vec<TemplateFile>> {
        let is_known = self.manifest.templates.iter().any(|template| template.name == name);
        if is_known { self.folder.template(name) } else { None }
    }
}

#[cfg(test)]
mod tests;
