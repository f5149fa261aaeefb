//! What a function is where nobody said so: its language, its handler, its name, told by its files.
//!
//! Languages say what they look like in their own manifests. A folder with a file that a language begins with
//! (`main.py`, `index.js`, `bootstrap`) is that language's; otherwise its only file of a known extension decides,
//! otherwise its only executable. Where two would do, nothing is guessed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_model::{ErrorCode, Fault, Name};
use alula_runtime::language::{Language, Languages, Protocol};
use serde_json::Value;

use super::Draft;

/// Files of a folder that are looked at.
const FILES_MAX: usize = 1_000;
/// Bytes of a file that tell whether it is a program.
const MAGIC_BYTES: u64 = 128;

/// Fills in the runtime, and what follows from the file it was told by, where the draft leaves it out.
pub(crate) fn complete(draft: &mut Draft, folder: &Path, languages: &Languages) -> Result<(), Fault> {
    if draft.has("runtime") {
        return complete_handler(draft, folder, languages);
    }
    let files = files(folder).map_err(|error| crate::error::file("read the unpacked source", &error))?;
    let (language, file) = language_of(&files, folder, languages)?;
    draft.fields.insert("runtime".to_owned(), Value::from(language.name.clone()));
    set_concurrency(draft, &language);
    set_entry(draft, &language, &file);
    Ok(())
}

/// A name from that of the file or folder: `My Shop.tar.gz` becomes `my-shop`.
pub(crate) fn name_from(file_name: &str) -> Option<Name> {
    let stem = file_name.rsplit('/').next().unwrap_or(file_name);
    let stem = stem.trim_start_matches('.');
    let stem = stem.split('.').next().unwrap_or(stem).to_lowercase();
    let spelled: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Name::new(spelled.trim_matches('-')).ok()
}

/// With the runtime named, the only question is which file a single-file function begins with.
fn complete_handler(draft: &mut Draft, folder: &Path, languages: &Languages) -> Result<(), Fault> {
    let runtime = draft.fields.get("runtime").and_then(Value::as_str).unwrap_or_default();
    let Some(language) = languages.get(runtime) else { return Ok(()) };
    set_concurrency(draft, &language);
    let files = files(folder).map_err(|error| crate::error::file("read the unpacked source", &error))?;
    if let Some(file) = entry_file(&language, &files) {
        set_entry(draft, &language, &file);
    } else if let [only] = sources(&language, &files).as_slice() {
        set_entry(draft, &language, only);
    }
    Ok(())
}

fn set_concurrency(draft: &mut Draft, language: &Language) {
    if let Some(concurrency) = language.manifest.concurrency
        && !draft.has("concurrency")
    {
        draft.fields.insert("concurrency".to_owned(), Value::from(concurrency));
    }
}

fn set_entry(draft: &mut Draft, language: &Language, file: &Path) {
    if draft.has("handler") || draft.has("command") {
        return;
    }
    if let Some(handler) = language.default_handler(file) {
        draft.fields.insert("handler".to_owned(), Value::from(handler));
    } else if language.protocol() == Protocol::Exec && language.manifest.command.is_empty() {
        draft.fields.insert("command".to_owned(), Value::from(vec![format!("./{}", file.display())]));
    }
}

fn language_of(
    files: &[PathBuf],
    folder: &Path,
    languages: &Languages,
) -> Result<(Arc<Language>, PathBuf), Fault> {
    let mut by_entry: Vec<(Arc<Language>, PathBuf)> = Vec::new();
    for language in languages.iter() {
        // The first version of a language stands for all.
        if by_entry.iter().all(|(known, _)| known.manifest.id != language.manifest.id) {
            by_entry.extend(entry_file(language, files).map(|file| (Arc::clone(language), file)));
        }
    }
    if let Some(found) = only(by_entry)? {
        return Ok(found);
    }
    let told = files
        .iter()
        .filter_map(|file| languages.for_file(file, b"").map(|language| (language, file.clone())));
    if let Some(found) = only(told.collect())? {
        return Ok(found);
    }
    let programs = files.iter().filter_map(|file| {
        let start = first_bytes(&folder.join(file));
        let marked = if is_executable(&folder.join(file)) { b"#!" } else { start.get(..2)? };
        languages.for_file(file, marked).map(|language| (language, file.clone()))
    });
    only(programs.collect())?.ok_or_else(|| {
        let message = "no file tells the runtime: add alula.toml with `runtime` and `handler` or `command`, or name \
                       the main file as its language expects it (main.py, index.js, main.sh)";
        Fault::new(ErrorCode::InvalidSpec, message)
    })
}

fn only(mut found: Vec<(Arc<Language>, PathBuf)>) -> Result<Option<(Arc<Language>, PathBuf)>, Fault> {
    if found.len() > 1 {
        let files: Vec<_> = found.iter().map(|(_, file)| file.display().to_string()).collect();
        let message = format!(
            "{} could each be the function: add alula.toml with `runtime` and `handler` or `command`",
            files.join(" and ")
        );
        return Err(Fault::new(ErrorCode::InvalidSpec, message));
    }
    Ok(found.pop())
}

fn entry_file(language: &Language, files: &[PathBuf]) -> Option<PathBuf> {
    let entries = language.manifest.entry_files.iter().map(PathBuf::from);
    entries.into_iter().find(|entry| files.contains(entry))
}

fn sources(language: &Language, files: &[PathBuf]) -> Vec<PathBuf> {
    let extensions = &language.manifest.extensions;
    let is_source = |file: &&PathBuf| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        extensions.is_empty() || extension.is_some_and(|extension| extensions.iter().any(|e| e == extension))
    };
    files.iter().filter(is_source).cloned().collect()
}

/// The names of the plain files in the folder itself, sorted; the manifest is not one of the function's.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)?.take(FILES_MAX) {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != super::FILE_NAME {
            files.push(PathBuf::from(entry.file_name()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn first_bytes(file: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    // A file that cannot be read is no program; the next look at it says why.
    let _ = File::open(file).and_then(|file| file.take(MAGIC_BYTES).read_to_end(&mut start));
    start
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
}
