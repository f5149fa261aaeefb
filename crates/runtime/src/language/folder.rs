//! The files of a language, inside the binary or on disk.

use std::io;
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use super::LanguageError;

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../guest");

/// Where a language's files are.
#[derive(Debug)]
pub(super) enum Folder {
    Embedded(&'static Dir<'static>),
    OnDisk(PathBuf),
}

/// One file of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFile {
    /// Below the folder of the new function.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Folder {
    /// The folders of the binary.
    pub(super) fn embedded() -> impl Iterator<Item = Self> {
        EMBEDDED.dirs().map(Self::Embedded)
    }

    /// The folders in each of `dirs`; files beside them are passed over.
    pub(super) fn in_dirs(dirs: &[PathBuf]) -> Result<Vec<Self>, LanguageError> {
        let mut folders = Vec::new();
        for dir in dirs {
            let failed = |source| LanguageError::Io { path: dir.clone(), source };
            for entry in std::fs::read_dir(dir).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.is_dir() {
                    folders.push(Self::OnDisk(path));
                }
            }
        }
        Ok(folders)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Embedded(dir) => dir.path(),
            Self::OnDisk(path) => path,
        }
    }

    /// The folder's own name.
    pub(super) fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The text of `file`.
    pub(super) fn read(&self, file: &str) -> Result<String, LanguageError> {
        let path = self.path().join(file);
        let text = match self {
            Self::Embedded(dir) => dir
                .get_file(&path)
                .and_then(include_dir::File::contents_utf8)
                .map(str::to_owned)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
            Self::OnDisk(_) => std::fs::read_to_string(&path),
        };
        text.map_err(|source| LanguageError::Io { path, source })
    }

    /// The folder on disk, and whether it was written: that of the binary is unpacked below `unpack_dir` where it
    /// is not there or another one is. Templates are left out.
    pub(super) fn on_disk(&self, unpack_dir: &Path) -> Result<(PathBuf, bool), LanguageError> {
        match self {
            Self::OnDisk(path) => Ok((path.clone(), false)),
            Self::Embedded(dir) => {
                let target = unpack_dir.join(dir.path());
                match unpack(dir, unpack_dir) {
                    Ok(is_new) => Ok((target, is_new)),
                    Err(source) => Err(LanguageError::Io { path: target, source }),
                }
            }
        }
    }

    /// The files of a template, sorted by path.
    pub(super) fn template(&self, name: &str) -> Option<Vec<TemplateFile>> {
        let root = self.path().join("templates").join(name);
        let mut files = Vec::new();
        match self {
            Self::Embedded(dir) => gather_embedded(dir.get_dir(&root)?, &root, &mut files),
            Self::OnDisk(_) => gather_on_disk(&root, &root, &mut files).ok()?,
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Some(files)
    }
}

/// Writes those files of `dir` that are not there as they should be. `false` where there were none.
fn unpack(dir: &Dir<'_>, unpack_dir: &Path) -> io::Result<bool> {
    let mut is_new = false;
    std::fs::create_dir_all(unpack_dir.join(dir.path()))?;
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) if dir.path().ends_with("templates") => {}
            DirEntry::Dir(dir) => is_new |= unpack(dir, unpack_dir)?,
            DirEntry::File(file) => is_new |= write_whole(&unpack_dir.join(file.path()), file.contents())?,
        }
    }
    Ok(is_new)
}

/// Replaces a file in one step: an instance that starts meanwhile sees the old content or the new one.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<bool> {
    if std::fs::read(path).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, content)?;
    std::fs::rename(&unfinished, path)?;
    Ok(true)
}

fn gather_embedded(dir: &Dir<'_>, root: &Path, into: &mut Vec<TemplateFile>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => gather_embedded(dir, root, into),
            DirEntry::File(file) => {
                let path = file.path().strip_prefix(root).unwrap_or(file.path()).to_owned();
                into.push(TemplateFile { path, content: file.contents().to_vec() });
            }
        }
    }
}

fn gather_on_disk(dir: &Path, root: &Path, into: &mut Vec<TemplateFile>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            gather_on_disk(&path, root, into)?;
        } else {
            let content = std::fs::read(&path)?;
            into.push(TemplateFile { path: path.strip_prefix(root).unwrap_or(&path).to_owned(), content });
        }
    }
    Ok(())
}
