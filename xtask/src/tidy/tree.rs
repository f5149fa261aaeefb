//! Rules about files of any kind: their names, and what no file may hold.

use std::path::{Path, PathBuf};

use super::Finding;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];
/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "node_modules", ".git", "__pycache__", ".packages", ".alula"];
/// Words that promise work instead of doing it, put together here so that this file does not find itself.
const PROMISES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
/// Where somebody's machine keeps its own; split like the words above.
const MACHINE_FOLDERS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/home/ru", "nner/")];

/// Every file of the tree, relative to `root`.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let skipped = SKIPPED.iter().any(|skipped| name == *skipped)
                || name.to_string_lossy().starts_with("target-");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    found.extend(entry.path().strip_prefix(root).map(Path::to_owned));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) || EMPTY_NAMES.contains(&folder) {
        findings.push(Finding::new(
            path,
            None,
            "the name says nothing: name it after the noun that owns the code",
        ));
    }
    findings.extend(machine_paths(path, text));
    let is_ours = path
        .extension()
        .is_some_and(|e| ["rs", "py", "js", "mjs", "cjs", "pl", "sh"].iter().any(|x| e == *x));
    for (index, line) in text.lines().enumerate().filter(|_| is_ours) {
        if let Some(word) = PROMISES.iter().find(|word| line.contains(**word)) {
            let advice = format!("{word} is a promise: do it now, or say in the note what is left");
            findings.push(Finding::new(path, Some(index + 1), advice));
        }
    }
    findings
}

/// Paths that exist on the machine of whoever wrote the line and nowhere else.
fn machine_paths(path: &Path, text: &str) -> Vec<Finding> {
    let begins_a_path =
        |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || "._-}*/".contains(c));
    let names_one = |line: &str| {
        let mut places = MACHINE_FOLDERS.iter().flat_map(|folder| line.match_indices(folder));
        places.any(|(at, _)| begins_a_path(&line[..at]))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names_one(line));
    let advice = "a path of one machine: make it relative to the repository, or a parameter";
    lines.map(|(index, _)| Finding::new(path, Some(index + 1), advice)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_of_one_machine() {
        let count = |text: &str| check(Path::new("docs/x.md"), text).len();
        assert_eq!(count(concat!("see /wo", "rk/main/x\nand `/Us", "ers/me/x`\n")), 2);
        assert_eq!(count(concat!("see crates/wo", "rk/main\nand ../wo", "rk/x\n")), 0);
    }

    #[test]
    fn finds_empty_names_and_promises() {
        assert_eq!(check(Path::new("crates/x/src/utils.rs"), "").len(), 1);
        assert_eq!(check(Path::new("crates/x/src/a.rs"), concat!("// TO", "DO: later\n")).len(), 1);
        assert_eq!(check(Path::new("crates/x/src/a.rs"), "// Done.\n").len(), 0);
    }
}
