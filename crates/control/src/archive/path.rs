//! Paths and links of archive entries: which are allowed, and where links lead.
//!
//! Nothing here touches the disk: links are followed in the list of the archive's own entries, so that a chain of
//! links that are each harmless cannot lead out together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{ArchiveError, PATH_BYTES_MAX};

/// Deepest entry: what walks a package may hold a descriptor for each level.
const DEPTH_MAX: usize = 100;
/// Links that one path may lead through, as in Linux itself.
const LINK_HOPS_MAX: usize = 40;

/// Where links may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkRule {
    /// Only to paths inside the archive.
    Inside,
    /// Also to absolute paths: what a build made, such as the interpreter of a virtual environment. They are only
    /// followed in the sandbox, never by the platform.
    Sandbox,
}

/// An entry's path below the folder it is unpacked into; empty for the folder itself.
pub(crate) fn entry_path(raw: &[u8]) -> Result<PathBuf, ArchiveError> {
    let shown = || String::from_utf8_lossy(raw).chars().take(200).collect::<String>();
    let refuse = |reason| Err(ArchiveError::BadPath { path: shown(), reason });
    let Ok(text) = std::str::from_utf8(raw) else { return refuse("the path is not UTF-8") };
    if text.len() > PATH_BYTES_MAX {
        return refuse("the path is longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return refuse("the path has control characters");
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(_) if path.components().count() == DEPTH_MAX => {
                return refuse("the path is deeper than 100 folders");
            }
            Component::Normal(part) if part.len() > 255 => return refuse("a name is longer than 255 bytes"),
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return refuse("the path leads out of the archive"),
            Component::RootDir | Component::Prefix(_) => return refuse("the path is absolute"),
        }
    }
    Ok(path)
}

/// The name for a single file: one plain component.
pub(super) fn file_name(raw: &str) -> Result<PathBuf, ArchiveError> {
    if raw.is_empty() {
        return Err(ArchiveError::Unreadable(
            "it is neither tar, tar.gz nor zip; a single file needs its name to be told".to_owned(),
        ));
    }
    let path = entry_path(raw.as_bytes())?;
    if path.components().count() == 1 {
        return Ok(path);
    }
    Err(ArchiveError::BadPath { path: raw.to_owned(), reason: "a single file has a name without folders" })
}

/// Refuses links that lead out.
pub(super) fn check_links(links: &BTreeMap<PathBuf, PathBuf>, rule: LinkRule) -> Result<(), ArchiveError> {
    for (path, target) in links {
        if rule == LinkRule::Sandbox && target.is_absolute() {
            continue;
        }
        if !stays_inside(path, links, rule) {
            return Err(ArchiveError::LinkEscapes {
                path: path.display().to_string(),
                target: target.display().to_string(),
            });
        }
    }
    Ok(())
}

/// Follows `path` through the links, component by component, and says whether it stays inside.
fn stays_inside(path: &Path, links: &BTreeMap<PathBuf, PathBuf>, rule: LinkRule) -> bool {
    let parts = |path: &Path| path.components().rev().map(|c| c.as_os_str().to_owned()).collect::<Vec<_>>();
    let mut here = PathBuf::new();
    let mut ahead: Vec<OsString> = parts(path);
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part.to_str() {
            Some(".") => continue,
            Some("..") => {
                if !here.pop() {
                    return false;
                }
                continue;
            }
            _ => here.push(&part),
        }
        let Some(target) = links.get(&here) else { continue };
        hops += 1;
        if hops > LINK_HOPS_MAX {
            // A loop leads nowhere; the kernel gives up on it in the same way.
            return true;
        }
        if target.is_absolute() {
            return rule == LinkRule::Sandbox;
        }
        here.pop();
        ahead.extend(parts(target));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(pairs: &[(&str, &str)]) -> BTreeMap<PathBuf, PathBuf> {
        pairs.iter().map(|(path, target)| (PathBuf::from(path), PathBuf::from(target))).collect()
    }

    #[test]
    fn links_may_lead_anywhere_inside_and_nowhere_else() {
        let ok = [
            vec![("a", "b")],
            vec![("a/b", "../c")],
            vec![("node_modules/.bin/x", "../x/cli.js")],
            vec![("a", "missing/../b")],
            vec![("a", "b"), ("b", "a")],
            vec![("a", ".")],
        ];
        for pairs in ok {
            assert!(check_links(&links(&pairs), LinkRule::Inside).is_ok(), "{pairs:?}");
        }
        let bad = [
            vec![("a", "..")],
            vec![("a", "/etc/passwd")],
            vec![("a/b", "../../c")],
            vec![("p/q/up", "../.."), ("evil", "p/q/up/../x")],
            vec![("d", "."), ("e", "d/..")],
        ];
        for pairs in bad {
            assert!(check_links(&links(&pairs), LinkRule::Inside).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_builds_links_may_be_absolute_but_not_climb_out() {
        assert!(check_links(&links(&[("bin/python", "/usr/bin/python3")]), LinkRule::Sandbox).is_ok());
        assert!(check_links(&links(&[("a", "../../etc")]), LinkRule::Sandbox).is_err());
    }

    #[test]
    fn entry_paths() {
        let path = |raw: &str| entry_path(raw.as_bytes()).ok();
        assert_eq!(path("./a/b/"), Some(PathBuf::from("a/b")));
        assert_eq!(path("a//b"), Some(PathBuf::from("a/b")));
        assert_eq!(path("."), Some(PathBuf::new()));
        for bad in ["/a", "../a", "a/../b", "a/..", "a\nb", "a\0b"] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
        assert!(entry_path(&[0xff, 0xfe]).is_err());
        assert!(entry_path("x".repeat(256).as_bytes()).is_err());
        assert!(entry_path("x/".repeat(600).as_bytes()).is_err());
        assert!(entry_path("x/".repeat(DEPTH_MAX).as_bytes()).is_ok());
        assert!(entry_path("x/".repeat(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(file_name("a/b.py").is_err());
        assert!(file_name("").is_err());
    }
}
