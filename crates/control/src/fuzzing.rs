//! Entrances for fuzzers: what takes bytes that strangers made, in the form that they can be thrown at.
//!
//! Each function panics where a promise is broken and returns otherwise, whatever the bytes are. Not part of any build
//! that serves.

use std::path::{Component, Path};

use alula_model::{Name, Route};

use crate::archive::{self, Limits};
use crate::catalog::RouteTable;
use crate::manifest;

/// Small, so that a fuzzer gets at what is beyond them.
const LIMITS: Limits = Limits { unpacked_bytes_max: 1024 * 1024, files_max: 64 };
/// What a folder and a file's metadata may take beside the bytes that are counted.
const WALK_MAX: usize = 64;

/// An upload: whatever it is, nothing is written outside of `folder`, which must be empty, and nothing over the limits in it.
pub fn archive(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let (upload, into) = (folder.join("upload"), folder.join("inside").join("tree"));
    std::fs::create_dir(folder.join("inside"))?;
    std::fs::write(&upload, bytes)?;
    let unpacked = archive::unpack(&upload, Some("main.py"), &into, LIMITS);
    assert_eq!(names_in(folder)?, ["inside", "upload"], "something was written outside");
    assert!(
        names_in(&folder.join("inside"))?.iter().all(|name| name == "tree"),
        "something was written outside"
    );
    if unpacked.is_ok() {
        check_tree(&into, &into);
    }
    Ok(())
}

fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Every entry is a file, a folder, or a link that stays inside; all together are within the limits.
fn check_tree(root: &Path, folder: &Path) {
    let (mut bytes, mut entries, mut folders) = (0, 0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            entries += 1;
            assert!(entries <= WALK_MAX, "more entries than the limit");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_symlink() {
                stays_inside(root, &entry.path());
            } else {
                assert!(kind.is_file(), "{} is neither file, folder nor link", entry.path().display());
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
    }
    assert!(bytes <= LIMITS.unpacked_bytes_max, "more bytes than the limit");
}

fn stays_inside(root: &Path, link: &Path) {
    let Ok(target) = std::fs::read_link(link) else { return };
    assert!(target.is_relative(), "{} leads to {}", link.display(), target.display());
    let depth = link.strip_prefix(root).map_or(0, |inside| inside.components().count()) - 1;
    let mut left = i64::try_from(depth).unwrap_or(0);
    for component in target.components() {
        match component {
            Component::ParentDir => left -= 1,
            Component::Normal(_) => left += 1,
            _ => {}
        }
        assert!(left >= 0, "{} leads to {}", link.display(), target.display());
    }
}

/// A manifest: what can be read gives functions that can be checked, and an error names a line that is there.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match manifest::read(text) {
        Ok(drafts) => {
            assert!(drafts.len() <= manifest::FUNCTIONS_MAX);
            drafts.iter().for_each(|draft| drop(draft.spec()));
        }
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
        }
    }
}

/// Routes, a line each, and then a path that is looked up: what a route says it leads to is where it leads.
pub fn router(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (Ok(namespace), Ok(name)) = (Name::new("n"), Name::new("f")) else { return };
    let mut table = RouteTable::default();
    for line in text.lines() {
        let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
        let (host, path) = path.find('/').map_or((None, path), |at| (Some(&path[..at]), &path[at..]));
        if let Some(found) = table.find(method, host.filter(|host| !host.is_empty()), path) {
            let inside = |value: &str| value.is_empty() || path.contains(value);
            assert!(found.parameters.iter().all(|(_, value)| inside(value)), "{found:?} of {path}");
        }
        let Ok(route) = Route::parse(line) else { continue };
        assert_eq!(Route::parse(&route.to_string()).as_ref(), Ok(&route), "a route reads as it is written");
        if table.insert(&route, &namespace, &name).is_err() {
            continue;
        }
        assert!(route.conflicts_with(&route));
    }
}
