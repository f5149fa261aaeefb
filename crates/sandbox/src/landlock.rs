//! Landlock: the second wall around files, kept even if a mount were wrong.
//!
//! Reading and executing is allowed everywhere below the cell's root, writing only below named places. A rule
//! on the root also covers what is mounted below it later; a rule on a folder that is mounted over later does
//! not, so writable places are named after they are mounted. TCP is not governed here: the network namespace
//! does that.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::sys;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
/// Rights of the first version: bits 0 to 12.
const FILES_V1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// The scope of abstract UNIX sockets.
pub(crate) const ABSTRACT_UNIX: u64 = 1;
/// The scope of signals.
pub(crate) const SIGNAL: u64 = 1 << 1;

/// The file rights that version `abi` of the kernel's Landlock knows.
fn files_of(abi: u32) -> u64 {
    let mut rights = FILES_V1;
    for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if abi >= since {
            rights |= right;
        }
    }
    rights
}

/// The scopes that version `abi` knows, and how many bytes of the ruleset it reads.
fn scopes_of(abi: u32) -> (u64, usize) {
    match abi {
        0..=3 => (0, 8),
        4..=5 => (0, 16),
        _ => (ABSTRACT_UNIX | SIGNAL, 24),
    }
}

/// A ruleset that governs nothing but `scopes`, where version `abi` knows them. Moving files between folders is the one
/// right that every ruleset takes away unless it grants it, so it is granted everywhere.
pub(crate) fn scope_only(abi: u32, scopes: u64) -> io::Result<Option<OwnedFd>> {
    let (known, size) = scopes_of(abi);
    if known & scopes == 0 {
        return Ok(None);
    }
    let attributes = sys::LandlockRuleset { files: REFER, tcp: 0, scopes: known & scopes };
    let ruleset = sys::landlock_create(&attributes, size)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::landlock_allow(ruleset.as_fd(), root.as_fd(), REFER)?;
    Ok(Some(ruleset))
}

/// Rules that leave writing to the mounts, and `scopes` as far as version `abi` knows them: for processes whose children
/// will be put under the rules of other cells, which could not grant what is refused here.
pub(crate) fn reading(abi: u32, scopes: u64) -> io::Result<OwnedFd> {
    let (known, size) = scopes_of(abi);
    let files = (EXECUTE | READ_FILE | READ_DIR | REFER) & files_of(abi);
    let ruleset =
        sys::landlock_create(&sys::LandlockRuleset { files, tcp: 0, scopes: known & scopes }, size)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::landlock_allow(ruleset.as_fd(), root.as_fd(), files)?;
    Ok(ruleset)
}

/// The rules for files, and `scopes` as far as version `abi` knows them. `writable` are folders, `devices` are files.
pub(crate) fn ruleset(abi: u32, scopes: u64, writable: &[&Path], devices: &[&Path]) -> io::Result<OwnedFd> {
    let files = files_of(abi);
    let (known, size) = scopes_of(abi);
    let ruleset =
        sys::landlock_create(&sys::LandlockRuleset { files, tcp: 0, scopes: known & scopes }, size)?;
    let allow = |path: &Path, rights: u64| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty())?;
        sys::landlock_allow(ruleset.as_fd(), opened.as_fd(), rights & files)
    };
    allow(Path::new("/"), EXECUTE | READ_FILE | READ_DIR)?;
    for place in writable {
        let is_folder = place.is_dir();
        allow(place, if is_folder { FILES_V1 | REFER | TRUNCATE } else { FILE_RIGHTS })?;
    }
    for device in devices {
        allow(device, FILE_RIGHTS | IOCTL_DEV)?;
    }
    Ok(ruleset)
}

/// Rights that make sense on a file; the kernel refuses those of folders there.
const FILE_RIGHTS: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_only_for_what_it_knows() {
        assert_eq!(files_of(1), 0x1fff);
        assert_eq!(files_of(2), 0x3fff);
        assert_eq!(files_of(3), 0x7fff);
        assert_eq!(files_of(4), 0x7fff);
        assert_eq!(files_of(7), 0xffff);
        assert_eq!(scopes_of(1), (0, 8));
        assert_eq!(scopes_of(4), (0, 16));
        assert_eq!(scopes_of(6), (3, 24));
    }
}
