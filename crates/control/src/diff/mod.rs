//! What differs between two versions: fields of the spec, and files of the source.
//!
//! The sources are compared, not what was built from them: a dependency that a build brought in is told by the
//! lock file.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;

use alula_model::{Digest, Fault, FunctionSpec, Name, Qualifier, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::archive::{self, Added};
use crate::code::blocking;
use crate::control::Control;

/// Largest file whose text is compared; of a larger one it is only said that it changed.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Text of one version that is held in memory while it is compared; of files beyond it it is only said that they
/// changed.
const TEXTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Text of one whole comparison.
const DIFF_BYTES_MAX: usize = 1024 * 1024;

/// What differs between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDiff {
    /// The version that is compared from.
    pub from: u64,
    /// The version that is compared to.
    pub to: u64,
    /// Fields of the spec, ordered by name; variables of `env` each for itself as `env.NAME`.
    pub fields: Vec<FieldChange>,
    /// Files of the source, ordered by path.
    pub files: Vec<FileChange>,
}

/// A field of the spec that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its name as in `alula.toml`.
    pub field: String,
    /// Its value in the first version; `None` where it was not set.
    pub from: Option<Value>,
    /// Its value in the second version; `None` where it is not set.
    pub to: Option<Value>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path below the source's folder.
    pub path: String,
    /// What happened to it.
    pub kind: FileChangeKind,
    /// The unified difference of its text; `None` where it is not text, too large, or only its mode changed.
    pub text: Option<String>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// Only the second version has it.
    Added,
    /// Only the first version has it.
    Removed,
    /// Both have it, with another content or mode.
    Changed,
}

impl Control {
    /// Compares two versions of a function.
    pub async fn diff(
        &self,
        namespace: &Name,
        name: &Name,
        from: &Qualifier,
        to: &Qualifier,
    ) -> Result<VersionDiff, Fault> {
        let from = self.version(namespace, name, from).await?;
        let to = self.version(namespace, name, to).await?;
        let fields = field_changes(&from.spec, &to.spec);
        let files = if from.source == to.source { Vec::new() } else { self.file_changes(&from, &to).await? };
        Ok(VersionDiff { from: from.key.version, to: to.key.version, fields, files })
    }

    async fn file_changes(&self, from: &Version, to: &Version) -> Result<Vec<FileChange>, Fault> {
        let (from, to) = (self.package(&from.source).await?, self.package(&to.source).await?);
        let compared = blocking("compare two versions", move || {
            Ok(read(from).and_then(|from| Ok(compare(&from, &read(to)?))))
        });
        compared.await?.map_err(|error| error.fault())
    }
}

/// A file of a package: enough to tell whether it differs, and its text where it can be shown.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    digest: Digest,
    executable: bool,
    text: Option<String>,
}

fn read(package: impl Read) -> Result<BTreeMap<PathBuf, Content>, archive::ArchiveError> {
    let mut files = BTreeMap::new();
    let mut texts_left = TEXTS_BYTES_MAX;
    archive::for_each_file(package, |path, entry| {
        let mut content = match entry {
            Added::File { executable, content } => read_file(executable, content)?,
            Added::Link(target) => read_file(false, &mut format!("-> {}", target.display()).as_bytes())?,
        };
        match texts_left.checked_sub(content.text.as_ref().map_or(0, String::len)) {
            Some(left) => texts_left = left,
            None => content.text = None,
        }
        files.insert(path.to_owned(), content);
        Ok(())
    })?;
    Ok(files)
}

fn read_file(executable: bool, content: &mut dyn Read) -> io::Result<Content> {
    let mut hasher = Sha256::new();
    let mut begin = Vec::new();
    (&mut *content).take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut begin)?;
    hasher.update(&begin);
    let is_shown = begin.len() <= TEXT_BYTES_MAX && !begin.contains(&0);
    // What the first part already read leaves nothing of a file that is shown.
    io::copy(content, &mut hasher)?;
    let digest = Digest::from_bytes(hasher.finalize().into());
    Ok(Content { digest, executable, text: if is_shown { String::from_utf8(begin).ok() } else { None } })
}

fn compare(from: &BTreeMap<PathBuf, Content>, to: &BTreeMap<PathBuf, Content>) -> Vec<FileChange> {
    let until = text::effort_ends();
    let mut bytes_left = DIFF_BYTES_MAX;
    let mut changes = Vec::new();
    for path in from.keys().chain(to.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (from.get(path), to.get(path));
        let kind = match (before, after) {
            (None, _) => FileChangeKind::Added,
            (_, None) => FileChangeKind::Removed,
            (before, after) if before == after => continue,
            _ => FileChangeKind::Changed,
        };
        let shown = path.display().to_string();
        let text_of =
            |content: Option<&Content>| content.map_or(Some(String::new()), |content| content.text.clone());
        let text = match (text_of(before), text_of(after)) {
            (Some(before), Some(after)) if before != after => {
                Some(text::unified(&shown, &before, &after, until))
            }
            _ => None,
        };
        let text = text.filter(|text| text.len() <= bytes_left);
        bytes_left -= text.as_ref().map_or(0, String::len);
        changes.push(FileChange { path: shown, kind, text });
    }
    changes
}

fn field_changes(from: &FunctionSpec, to: &FunctionSpec) -> Vec<FieldChange> {
    let (from, to) = (flatten(from), flatten(to));
    let fields = from.keys().chain(to.keys()).collect::<BTreeSet<_>>();
    let changed = fields.into_iter().filter(|field| from.get(*field) != to.get(*field));
    changed
        .map(|field| FieldChange {
            field: field.clone(),
            from: from.get(field).cloned(),
            to: to.get(field).cloned(),
        })
        .collect()
}

/// The fields of a spec by name, those of tables by `table.name`.
fn flatten(spec: &FunctionSpec) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let Ok(Value::Object(object)) = serde_json::to_value(spec) else { return fields };
    for (name, value) in object {
        match value {
            Value::Object(table) => {
                fields.extend(table.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)))
            }
            value => {
                fields.insert(name, value);
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_differ_are_named_and_variables_one_by_one() {
        let from = FunctionSpec::new("exec");
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let to = FunctionSpec { memory_mb: 512, env, ..from.clone() };
        let changes = field_changes(&from, &to);
        let change = |field: &str, from: Option<Value>, to: Option<Value>| FieldChange {
            field: field.to_owned(),
            from,
            to,
        };
        assert_eq!(
            changes,
            [
                change("env.A", None, Some(Value::from("1"))),
                change("memory_mb", Some(Value::from(256)), Some(Value::from(512))),
            ]
        );
        assert!(field_changes(&to, &to).is_empty());
    }

    #[test]
    fn files_that_differ() {
        let content = |text: &str| Content {
            digest: Digest::from_bytes(Sha256::digest(text).into()),
            executable: false,
            text: Some(text.to_owned()),
        };
        let files = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(path, text)| (PathBuf::from(path), content(text))).collect::<BTreeMap<_, _>>()
        };
        let from = files(&[("a", "one\ntwo\n"), ("gone", "x\n"), ("same", "y")]);
        let to = files(&[("a", "one\n2\n"), ("new", "z\n"), ("same", "y")]);
        let changes = compare(&from, &to);
        let kinds: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
        use FileChangeKind::{Added, Changed, Removed};
        assert_eq!(kinds, [("a", Changed), ("gone", Removed), ("new", Added)]);
        let text = changes[0].text.as_deref().unwrap();
        assert!(text.contains("-two\n") && text.contains("+2\n") && text.contains(" one\n"), "{text}");
    }
}
