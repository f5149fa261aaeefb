//! The first stage: from an archive to folders with drafts of functions.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use alula_model::{ErrorCode, Fault, Name};
use alula_runtime::language::Languages;

use super::{Reporter, Scratch};
use crate::archive::{self, Unpacked};
use crate::code::blocking;
use crate::control::Control;
use crate::error;
use crate::manifest::{self, Draft, guess};
use crate::upload::{Overrides, Stage, Upload};

/// A function of the archive before it is checked.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Name,
    pub(super) draft: Draft,
    /// Its unpacked code.
    pub(super) folder: PathBuf,
}

impl Control {
    /// Unpacks the upload and reads or guesses what is in it.
    pub(super) async fn intake(
        &self,
        upload: &Upload,
        work: &Scratch,
        reporter: &Reporter,
    ) -> Result<Vec<Source>, Fault> {
        let bytes =
            fs::metadata(&upload.archive).map_err(|error| error::file("read the upload", &error))?.len();
        let limit = self.shared.options.package_bytes_max;
        if bytes > limit {
            let message = format!("the archive has {bytes} bytes, at most {limit} are allowed");
            let setting = "build.package_bytes_max in the configuration";
            return Err(Fault::limit(
                ErrorCode::InvalidPackage,
                message,
                "package_bytes_max",
                limit,
                setting,
            ));
        }
        reporter.stage(None, Stage::Upload, format!("unpacking {bytes} bytes"));
        let (archive, file_name) = (upload.archive.clone(), upload.file_name.clone());
        let (into, limits) = (work.fresh("source"), self.shared.code.limits());
        let folder = into.clone();
        let unpacked = blocking("unpack the archive", move || {
            Ok(archive::unpack(&archive, file_name.as_deref(), &into, limits))
        });
        let unpacked = unpacked.await?.map_err(|error| error.fault())?;

        let languages = self.shared.parts.languages.clone();
        let (overrides, file_name) = (upload.overrides.clone(), upload.file_name.clone());
        let read = move || Ok(sources(&folder, &unpacked, file_name.as_deref(), &overrides, &languages));
        blocking("read the unpacked source", read).await?
    }
}

/// The functions in an unpacked archive.
fn sources(
    unpacked_into: &Path,
    unpacked: &Unpacked,
    file_name: Option<&str>,
    overrides: &Overrides,
    languages: &Languages,
) -> Result<Vec<Source>, Fault> {
    let root = match unpacked {
        Unpacked::Archive => {
            top_folder(unpacked_into).map_err(|error| error::file("read the archive", &error))?
        }
        Unpacked::SingleFile(_) => unpacked_into.to_owned(),
    };
    let drafts = match manifest_text(&root)? {
        Some(text) => manifest::read(&text).map_err(|error| error.fault())?,
        None => vec![Draft::default()],
    };
    let drafts = pick(drafts, overrides)?;
    let mut names = BTreeSet::new();
    let mut sources = Vec::new();
    for mut draft in drafts {
        let folder = root.join(&draft.source);
        if !folder.is_dir() {
            let message = format!("source: the archive has no folder {}", draft.source.display());
            return Err(Fault::new(ErrorCode::InvalidSpec, message));
        }
        let name = draft.name.clone().or_else(|| file_name.and_then(guess::name_from)).ok_or_else(unnamed)?;
        draft.name = Some(name.clone());
        draft.override_with(overrides).map_err(|error| error.fault())?;
        guess::complete(&mut draft, &folder, languages)?;
        if !names.insert(name.clone()) {
            return Err(Fault::new(ErrorCode::InvalidSpec, format!("function {name} is there twice")));
        }
        sources.push(Source { name, draft, folder });
    }
    Ok(sources)
}

/// Of several functions the one that the overrides name; a single one gets that name.
fn pick(mut drafts: Vec<Draft>, overrides: &Overrides) -> Result<Vec<Draft>, Fault> {
    let Some(wanted) = &overrides.name else { return Ok(drafts) };
    if let [only] = drafts.as_mut_slice() {
        only.name = Some(wanted.clone());
        return Ok(drafts);
    }
    let names: Vec<_> = drafts.iter().filter_map(|draft| draft.name.as_ref().map(Name::to_string)).collect();
    drafts.retain(|draft| draft.name.as_ref() == Some(wanted));
    if drafts.is_empty() {
        let message = format!("the archive has no function {wanted}; it has {}", names.join(", "));
        return Err(Fault::new(ErrorCode::InvalidSpec, message));
    }
    Ok(drafts)
}

/// Archives are often made of a folder instead of what is in it: then that folder is meant.
fn top_folder(root: &Path) -> std::io::Result<PathBuf> {
    let mut entries = fs::read_dir(root)?;
    let (first, second) = (entries.next().transpose()?, entries.next());
    match (first, second) {
        (Some(only), None) if only.file_type()?.is_dir() => Ok(only.path()),
        _ => Ok(root.to_owned()),
    }
}

/// The manifest's text, where there is one. A link is not followed: it could only lead to another name for it.
fn manifest_text(root: &Path) -> Result<Option<String>, Fault> {
    let path = root.join(manifest::FILE_NAME);
    if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_file()) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|error| error::file("read alula.toml", &error))?;
    file.take(manifest::BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error::file("read alula.toml", &error))?;
    let refuse = |reason: &str| Err(Fault::new(ErrorCode::InvalidSpec, format!("alula.toml: {reason}")));
    if bytes.len() as u64 > manifest::BYTES_MAX {
        return refuse("it is larger than 1 MiB");
    }
    String::from_utf8(bytes).map_or_else(|_| refuse("it is not UTF-8"), |text| Ok(Some(text)))
}

fn unnamed() -> Fault {
    let message = "the function has no name: add `name` to alula.toml, or name it with the upload";
    Fault::new(ErrorCode::InvalidSpec, message)
}
