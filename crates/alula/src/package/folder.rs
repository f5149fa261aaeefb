//! Packs a folder into a tar.gz that depends on its content alone.
//!
//! Left out is what `.gitignore` and `.alulaignore` name (the latter wins), what version control keeps for itself,
//! and what an interpreter or package manager makes again. Entries are sorted and carry neither times nor owners,
//! so the same code gives the same bytes on every machine and the platform knows it again.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ignore::{DirEntry, WalkBuilder};
use tar::{Builder, EntryType, Header};

use crate::failure::{Exit, Failure, Result};

/// Most files of one package: beyond this it is a forgotten dependency folder rather than a function.
const FILES_MAX: usize = 100_000;

/// Our own ignore file.
const IGNORE_FILE: &str = ".alulaignore";

/// What is never packed.
const NEVER_PACKED: [&str; 6] = [".git", ".hg", ".svn", "__pycache__", ".venv", ".pytest_cache"];

/// Lock files of Node: where one is, the platform installs `node_modules` itself, for its own machine.
const NODE_LOCK_FILES: [&str; 2] = ["package-lock.json", "npm-shrinkwrap.json"];

/// Packs `root` into `into` and tells how many files there were.
pub(super) fn pack(root: &Path, into: &mut File) -> Result<usize> {
    let mut archive = Builder::new(GzEncoder::new(io::BufWriter::new(into), Compression::fast()));
    let mut files = 0;
    for entry in walk(root) {
        let entry =
            entry.map_err(|error| Failure::usage(format!("cannot read {}: {error}", root.display())))?;
        let Some(inside) = inside(root, entry.path()) else { continue };
        let add = add(&mut archive, &entry, &inside);
        files += add.map_err(|error| Failure::file("pack", entry.path(), &error))?;
        if files > FILES_MAX {
            let message = format!("{} has more than {FILES_MAX} files", root.display());
            return Err(Failure::new(Exit::Usage, "too_many_files", message)
                .remedy(format!("name what does not belong to the function in {IGNORE_FILE}")));
        }
    }
    if files == 0 {
        return Err(Failure::usage(format!("{} has no files to deploy", root.display())).remedy(format!(
            "write a function into it (`alula new NAME` makes one), or check {IGNORE_FILE}"
        )));
    }
    let finish = || -> io::Result<()> { archive.into_inner()?.finish()?.flush() };
    finish().map_err(|error| super::temporary(&error))?;
    Ok(files)
}

/// Whether a change of the file at `path` below `root` can change the package, by its folders' names alone.
pub(crate) fn is_packed(root: &Path, path: &Path) -> bool {
    let inside = path.strip_prefix(root).unwrap_or(path);
    !inside.iter().any(|part| NEVER_PACKED.iter().any(|never| part == *never) || part == "node_modules")
}

fn walk(root: &Path) -> ignore::Walk {
    WalkBuilder::new(root)
        .hidden(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .git_ignore(true)
        .require_git(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .follow_links(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(is_wanted)
        .build()
}

fn is_wanted(entry: &DirEntry) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    let name = entry.file_name();
    if name == "node_modules" {
        let folder = entry.path().parent().unwrap_or(entry.path());
        return !NODE_LOCK_FILES.iter().any(|lock| folder.join(lock).exists());
    }
    !NEVER_PACKED.iter().any(|never| name == *never)
}

/// The path below `root`; `None` for `root` itself.
fn inside(root: &Path, path: &Path) -> Option<std::path::PathBuf> {
    let inside = path.strip_prefix(root).ok()?;
    (!inside.as_os_str().is_empty()).then(|| inside.to_owned())
}

/// Adds one entry and tells how many files it was: sockets, pipes and devices are none.
fn add<W: Write>(archive: &mut Builder<W>, entry: &DirEntry, inside: &Path) -> io::Result<usize> {
    let metadata = entry.path().symlink_metadata()?;
    if metadata.is_symlink() {
        let target = std::fs::read_link(entry.path())?;
        archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), inside, target)?;
        return Ok(1);
    }
    if metadata.is_dir() {
        archive.append_data(&mut header(EntryType::Directory, 0o755, 0), inside, io::empty())?;
        return Ok(0);
    }
    if !metadata.is_file() {
        return Ok(0);
    }
    let file = File::open(entry.path())?;
    let length = file.metadata()?.len();
    // A file that grows while it is read must not spill into the next entry, one that shrinks is an error.
    let content = io::Read::take(file, length);
    archive.append_data(&mut header(EntryType::Regular, mode(&metadata), length), inside, content)?;
    Ok(1)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Only whether it may be executed says something about the code.
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Seek};

    use super::*;

    /// Packs these files and gives what is in the package: paths and modes.
    fn packed(files: &[(&str, &str)]) -> Result<BTreeMap<String, (String, u32)>> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        unpack(root.path())
    }

    fn unpack(root: &Path) -> Result<BTreeMap<String, (String, u32)>> {
        let mut file = tempfile::tempfile().unwrap();
        pack(root, &mut file)?;
        file.rewind().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut content = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_dir() {
                continue;
            }
            let (path, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            content.insert(path, (text, mode));
        }
        Ok(content)
    }

    fn paths(files: &[(&str, &str)]) -> Vec<String> {
        packed(files).unwrap().into_keys().collect()
    }

    #[test]
    fn both_ignore_files_count_and_ours_wins() {
        let files = [
            (".gitignore", "*.log\nbuild/\n"),
            (".alulaignore", "!keep.log\nnotes.txt\n"),
            ("main.py", ""),
            ("keep.log", ""),
            ("drop.log", ""),
            ("notes.txt", ""),
            ("build/out", ""),
            ("sub/.gitignore", "x\n"),
            ("sub/x", ""),
            ("sub/y", ""),
        ];
        let expect = [".alulaignore", ".gitignore", "keep.log", "main.py", "sub/.gitignore", "sub/y"];
        assert_eq!(paths(&files), expect);
    }

    #[test]
    fn version_control_and_caches_stay_behind_but_hidden_files_go() {
        let files =
            [(".git/config", ""), ("a/.git/x", ""), ("__pycache__/m.pyc", ""), (".npmrc", ""), ("m.py", "")];
        assert_eq!(paths(&files), [".npmrc", "m.py"]);
    }

    #[test]
    fn node_modules_stay_behind_only_where_a_lock_file_brings_them_back() {
        let vendored = [("index.js", ""), ("node_modules/a/index.js", "")];
        assert_eq!(paths(&vendored).len(), 2);
        let locked = [("package-lock.json", "{}"), ("index.js", ""), ("node_modules/a/index.js", "")];
        assert_eq!(paths(&locked), ["index.js", "package-lock.json"]);
    }

    #[test]
    fn nothing_to_pack_is_an_error() {
        assert!(packed(&[]).unwrap_err().message.contains("no files"));
        assert!(packed(&[(".git/config", "")]).is_err());
    }

    #[test]
    fn links_stay_links_and_programs_stay_programs() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("run");
        std::fs::write(&program, "#!/bin/sh").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        let content = unpack(root.path()).unwrap();
        assert_eq!(content["run"], ("#!/bin/sh".to_owned(), 0o755));
        assert_eq!(content["link"].0, "", "the target's content must not be packed");
    }

    #[test]
    fn long_and_foreign_names_survive() {
        let long = format!("{}/{}.py", "d".repeat(120), "f".repeat(120));
        assert_eq!(paths(&[(&long, ""), ("ü n.py", "")]), [long.clone(), "ü n.py".to_owned()]);
    }

    #[test]
    fn changes_that_cannot_matter() {
        let check =
            |path: &str, expect| assert_eq!(is_packed(Path::new("/r"), Path::new(path)), expect, "{path}");
        check("/r/main.py", true);
        check("/r/.git/index", false);
        check("/r/a/__pycache__/m.pyc", false);
        check("/r/node_modules/x/y.js", false);
    }
}
