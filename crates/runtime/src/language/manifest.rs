//! What the folder of a language says about it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::LanguageError;
use super::folder::Folder;

/// The content of `manifest.toml`. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Names the language in commands and folders: `python`.
    pub id: String,
    /// One line for lists.
    pub description: String,
    /// How the platform talks to the processes.
    pub protocol: Protocol,
    /// What its processes are.
    #[serde(default)]
    pub home: Home,
    /// The names that functions use.
    pub runtime: RuntimeNames,
    /// What must be installed; absent where the code needs nothing.
    #[serde(default)]
    pub interpreter: Option<Interpreter>,
    /// The shim's file in the folder, for the protocol `frames`.
    #[serde(default)]
    pub shim: Option<String>,
    /// Program and arguments that start the shim; `{interpreter}` and `{shim}` are filled in. For the other
    /// protocols, the command of a function that names none.
    #[serde(default)]
    pub command: Vec<String>,
    /// Program and arguments, run once on the host after the shim was unpacked or has changed; `{interpreter}` and
    /// `{folder}` (of the shim, on the host) are filled in. A failure only costs time at each start of an instance.
    #[serde(default)]
    pub precompile: Vec<String>,
    /// Program and arguments that look for mistakes in the file of a handler when it is deployed, in a sandbox without
    /// network; `{interpreter}` and `{file}` (below the code's folder) are filled in. Where it ends with a status other
    /// than 0, what it wrote is the reason for refusing the deploy.
    #[serde(default)]
    pub check: Vec<String>,
    /// Environment variables that a function may override.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Folders of the package where the build puts programs; they come first in `PATH`.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Calls at once in one instance of a function that says nothing; 1 where this says nothing either.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Extensions, without the dot, of files that are functions in this language.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// The handler of a function that names none; `{file}` is its file without the extension.
    #[serde(default)]
    pub default_handler: Option<String>,
    /// Where the function is looked for in a folder that names no handler, in this order.
    #[serde(default)]
    pub entry_files: Vec<String>,
    /// How user code is stopped in the middle of a call, for the protocol `frames`.
    #[serde(default)]
    pub cancel: Cancel,
    /// That processes can be started before it is known what they will run; absent where the shim does not know the
    /// frame WARM.
    #[serde(default)]
    pub stem: Option<StemSupport>,
    /// Whether the shim can take long bodies from memory that it shares with the platform, and give them that way.
    #[serde(default)]
    pub arena: bool,
    /// How dependencies are installed.
    #[serde(default)]
    pub build: Option<Build>,
    /// What `alula new` can make, in the folder `templates/<name>`.
    #[serde(default)]
    pub templates: Vec<Template>,
}

/// What the processes of a language are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// Processes of a cell, each instance in one of its own.
    #[default]
    Cell,
    /// Contexts in a process that the instances of a namespace share; they need no shim.
    ScriptHost,
    /// None: an engine inside the platform runs the code.
    Engine,
}

/// How the platform talks to the processes of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The guest protocol of the module `frames`, spoken by a shim.
    Frames,
    /// One process a call: request on its standard input, answer on its standard output.
    Exec,
    /// Any HTTP server on `$PORT`.
    Http,
    /// An executable that speaks the AWS Lambda Runtime API.
    Provided,
    /// None: a WebAssembly component.
    Component,
}

/// How user code is stopped in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cancel {
    /// Not at all: the process is killed.
    #[default]
    Kill,
    /// The shim reads frames while user code waits, and so sees CANCEL.
    Frame,
    /// SIGUSR1 makes the shim look for a CANCEL frame in the middle of user code, which blocks it otherwise.
    Signal,
}

/// The names of the runtimes that a folder gives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeNames {
    /// The canonical name; `{version}` is the version of the interpreter found.
    pub name: String,
    /// Further names, for the first interpreter found.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// What must be known about processes that are started ahead of the function they will run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StemSupport {
    /// Variables that have their effect when the process starts, by the beginning of their names: a function that
    /// sets one is started from nothing.
    pub start_env: Vec<String>,
    /// The file in the folder that is started as the zygote of such processes, in the same way as the shim; absent
    /// where each of them is started by itself.
    #[serde(default)]
    pub zygote: Option<String>,
}

/// The interpreter of a language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Absolute paths, best first. Those that a sandbox does not show are passed over.
    pub candidates: Vec<String>,
    /// What the program's own file name looks like, where it holds the version: `python{version}`. Saves a
    /// process at each start of the platform.
    #[serde(default)]
    pub file_name: Option<String>,
    /// Arguments that make it print its version.
    pub version_args: Vec<String>,
    /// What stands before the version in that output.
    #[serde(default)]
    pub version_prefix: String,
    /// How many parts of the version make a runtime of its own: 2 for `3.11`, 1 for `20`.
    pub version_parts: usize,
    /// The command that installs it on Debian.
    pub remedy: String,
}

/// How dependencies become part of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// A build is needed where one of these matches.
    pub when: Vec<BuildTrigger>,
    /// Files whose content decides whether an earlier build can be used again; those that exist count.
    pub cache_key: Vec<String>,
    /// Run by `/bin/sh -c` in the code's folder, with `$ALULA_INTERPRETER` naming the interpreter. Installs into
    /// that folder.
    pub command: String,
}

/// A file that asks for a build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTrigger {
    /// Its path below the code's folder.
    pub file: String,
    /// A text that must be in it; empty asks for nothing.
    #[serde(default)]
    pub containing: String,
}

/// A starting point for a new function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Names it and its folder below `templates/`.
    pub name: String,
    /// One line for lists.
    pub description: String,
    /// The handler to write into the function's spec.
    #[serde(default)]
    pub handler: Option<String>,
    /// The command to write into the function's spec.
    #[serde(default)]
    pub command: Vec<String>,
}

impl Build {
    /// Whether the code needs this build; `read` gives the content of a file below the code's folder.
    pub fn is_needed(&self, read: impl Fn(&str) -> Option<Vec<u8>>) -> bool {
        self.when.iter().any(|trigger| {
            read(&trigger.file).is_some_and(|content| {
                trigger.containing.is_empty()
                    || memchr::memmem::find(&content, trigger.containing.as_bytes()).is_some()
            })
        })
    }
}

impl Manifest {
    pub(super) fn parse(folder: &Folder) -> Result<Self, LanguageError> {
        let text = folder.read("manifest.toml")?;
        let manifest: Self = toml::from_str(&text)
            .map_err(|source| LanguageError::Manifest { folder: folder.name(), source: Box::new(source) })?;
        match manifest.contradiction() {
            Some(reason) => Err(LanguageError::Contradiction { folder: folder.name(), reason }),
            None => Ok(manifest),
        }
    }

    /// Lets a runtime that is a program of any language find what the build of `other` installs.
    pub(super) fn find_packages_of(&mut self, other: &Self) {
        for (name, value) in &other.env {
            self.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.programs.extend(other.programs.iter().cloned());
    }

    fn contradiction(&self) -> Option<&'static str> {
        let by_shim = self.protocol == Protocol::Frames;
        if (self.home == Home::Engine) != (self.protocol == Protocol::Component) {
            return Some("the home engine and the protocol component belong together");
        }
        if self.home == Home::ScriptHost {
            let is_bare = by_shim && self.shim.is_none() && self.command.is_empty();
            return (!is_bare)
                .then_some("a script host speaks the protocol frames, without a shim or a command");
        }
        if by_shim != self.shim.is_some() {
            return Some("a shim belongs to the protocol frames, and only to it");
        }
        if self.stem.is_some() && !by_shim {
            return Some("a stem belongs to the protocol frames, and only to it");
        }
        if by_shim && self.command.is_empty() {
            return Some("the protocol frames needs a command that starts the shim");
        }
        let versioned = self.runtime.name.contains("{version}");
        if versioned != self.interpreter.is_some() {
            return Some("{version} in the runtime's name belongs to a language with an interpreter");
        }
        let is_plain = |name: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !name.is_empty() && name.bytes().all(allowed)
        };
        if !is_plain(&self.id) || !self.templates.iter().all(|template| is_plain(&template.name)) {
            return Some("ids and names of templates are made of letters, digits, - and _");
        }
        None
    }
}
