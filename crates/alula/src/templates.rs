//! The templates of `alula new`, and what else the command line knows of languages: from the folders of languages
//! that are part of the binary, so nothing here names one.

use std::path::{Path, PathBuf};

use alula_runtime::language::{Host, Language, Languages};

use crate::failure::{Failure, Result, chain};

/// A function to begin with.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// The language: `python`.
    pub(crate) runtime: String,
    /// Other names of the language's runtimes.
    aliases: Vec<String>,
    /// Its name among those of its language.
    pub(crate) name: String,
    /// One line.
    pub(crate) description: String,
    /// The handler for the function's spec.
    pub(crate) handler: Option<String>,
    /// The command for the function's spec.
    pub(crate) command: Vec<String>,
    /// Paths and contents.
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

impl Template {
    /// Whether `runtime` is this template's language, by its id, an alias or with a version.
    pub(crate) fn is_for(&self, runtime: &str) -> bool {
        names_language(runtime, &self.runtime, &self.aliases)
    }
}

/// Every template, by language.
pub(crate) fn all() -> Result<Vec<Template>> {
    let languages = languages()?;
    let of = |language: &Language| {
        let manifest = &language.manifest;
        let with_files = manifest.templates.iter().map(|template| {
            let files = language.template(&template.name).unwrap_or_default();
            Template {
                runtime: manifest.id.clone(),
                aliases: manifest.runtime.aliases.clone(),
                name: template.name.clone(),
                description: template.description.clone(),
                handler: template.handler.clone(),
                command: template.command.clone(),
                files: files.into_iter().map(|file| (file.path, file.content)).collect(),
            }
        });
        with_files.collect::<Vec<_>>()
    };
    Ok(languages.iter().flat_map(|language| of(language)).collect())
}

/// The usual extension of files in the language of `runtime`.
pub(crate) fn extension(runtime: &str) -> Option<String> {
    let languages = languages().ok()?;
    let is_it = |language: &&std::sync::Arc<Language>| {
        names_language(runtime, &language.manifest.id, &language.manifest.runtime.aliases)
    };
    languages.iter().find(is_it)?.manifest.extensions.first().cloned()
}

/// The languages of the binary, whatever is installed on this machine.
fn languages() -> Result<Languages> {
    let broken = |error: &dyn std::error::Error| Failure::failed("languages", chain(error));
    let unpack_dir = tempfile::tempdir().map_err(|error| broken(&error))?;
    let nothing = Host { resolve: &|_: &Path| None, run: &|_: &[String]| None };
    Languages::load(unpack_dir.path(), &[], &nothing).map_err(|error| broken(&error))
}

fn names_language(runtime: &str, id: &str, aliases: &[String]) -> bool {
    let is_version = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    runtime == id
        || aliases.iter().any(|alias| alias == runtime)
        || runtime.strip_prefix(id).is_some_and(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_template_with_files() {
        let templates = all().unwrap();
        assert!(!templates.is_empty());
        for template in templates {
            assert!(!template.files.is_empty(), "{} {}", template.runtime, template.name);
        }
    }

    #[test]
    fn runtimes_are_known_by_any_of_their_names() {
        for name in ["python", "python3", "python3.11", "python3.14"] {
            assert_eq!(extension(name).as_deref(), Some("py"), "{name}");
        }
        assert_eq!(extension("pythonic"), None);
        assert_eq!(extension(""), None);
    }
}
