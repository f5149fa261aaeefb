//! What is uploaded: a file as it is, an archive as it is, or a folder packed into one.
//!
//! What the content means - which language, which functions - is the platform's to tell; here it is only bytes
//! with a name.

mod folder;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result};

pub(crate) use folder::is_packed;

/// Source code that is ready to be uploaded.
#[derive(Debug)]
pub(crate) struct Package {
    /// The bytes, positioned at their begin.
    pub(crate) file: File,
    /// How many there are.
    pub(crate) length: u64,
    /// How the file or folder is called: it names the function where nothing else does.
    pub(crate) file_name: Option<String>,
    /// How many files of a folder were packed.
    pub(crate) files: Option<usize>,
}

impl Package {
    /// Takes the file or packs the folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| Failure::file("read", path, &error))?;
        if metadata.is_dir() {
            return Self::of_folder(path);
        }
        if !metadata.is_file() {
            return Err(Failure::usage(format!("{} is neither a file nor a folder", path.display())));
        }
        if metadata.len() == 0 {
            return Err(
                Failure::usage(format!("{} is empty", path.display())).remedy("write a function into it")
            );
        }
        let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
        Ok(Self { file, length: metadata.len(), file_name: name_of(path), files: None })
    }

    /// Code that was typed or piped in, as a file of this name.
    pub(crate) fn of_text(code: &[u8], file_name: String) -> Result<Self> {
        if code.is_empty() {
            return Err(Failure::usage("the code is empty")
                .remedy("pass it with --code, or pipe it in with --code -"));
        }
        let write = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            file.write_all(code)?;
            rewind(file)
        };
        let file = write().map_err(|error| temporary(&error))?;
        Ok(Self { file, length: code.len() as u64, file_name: Some(file_name), files: None })
    }

    fn of_folder(path: &Path) -> Result<Self> {
        // `.` and `..` have no name of their own.
        let path = path.canonicalize().map_err(|error| Failure::file("read", path, &error))?;
        let mut file = tempfile::tempfile().map_err(|error| temporary(&error))?;
        let files = folder::pack(&path, &mut file)?;
        let file = rewind(file).map_err(|error| temporary(&error))?;
        let length = file.metadata().map_err(|error| temporary(&error))?.len();
        let file_name = name_of(&path).map(|name| format!("{name}.tar.gz"));
        Ok(Self { file, length, file_name, files: Some(files) })
    }

    /// Whether the content of two packages is the same.
    pub(crate) fn is_same_as(&mut self, other: &mut Self) -> io::Result<bool> {
        if self.length != other.length {
            return Ok(false);
        }
        let equal = equal_content(&self.file, &other.file);
        io::Seek::rewind(&mut self.file)?;
        io::Seek::rewind(&mut other.file)?;
        equal
    }
}

/// Where code can be: the path as it is, or the current folder.
pub(crate) fn or_here(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    if paths.is_empty() { vec![PathBuf::from(".")] } else { paths }
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn rewind(mut file: File) -> io::Result<File> {
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

fn equal_content(mut a: &File, mut b: &File) -> io::Result<bool> {
    io::Seek::rewind(&mut a)?;
    io::Seek::rewind(&mut b)?;
    let mut a = io::BufReader::new(a).bytes();
    let mut b = io::BufReader::new(b).bytes();
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a != b => return Ok(false),
            _ => {}
        }
    }
}

fn temporary(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, "temporary_file", format!("cannot write a temporary file: {error}"))
        .remedy("free some disk space, or let TMPDIR name another folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello.py");
        std::fs::write(&path, "x = 1").unwrap();
        let package = Package::open(&path).unwrap();
        assert_eq!((package.length, package.file_name.as_deref()), (5, Some("hello.py")));
    }

    #[test]
    fn nothing_and_emptiness_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello.py");
        assert!(Package::open(&path).unwrap_err().message.contains("hello.py"));
        std::fs::write(&path, "").unwrap();
        assert!(Package::open(&path).unwrap_err().message.contains("is empty"));
        assert!(Package::open(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_folder_names_its_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("main.py"), "x = 1").unwrap();
        let mut package = Package::open(&path).unwrap();
        assert_eq!(package.file_name.as_deref(), Some("shop.tar.gz"));
        assert_eq!(package.files, Some(1));
        let mut again = Package::open(&path).unwrap();
        assert!(package.is_same_as(&mut again).unwrap());
        std::fs::write(path.join("main.py"), "x = 2").unwrap();
        let mut changed = Package::open(&path).unwrap();
        assert!(!package.is_same_as(&mut changed).unwrap());
    }
}
