//! The small `/etc` of cells: who is who, how names are looked up, and what programs read to be themselves.
//!
//! Written or copied once when the spawner starts. Copied are only files that everybody may read, from a list
//! of places; the host's users, its name and its secrets stay outside.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Bytes that are copied at most: certificates of a distribution are below one megabyte.
const COPY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Depth of the deepest folder that is copied.
const COPY_DEPTH_MAX: u32 = 6;

const WRITTEN: &[(&str, &str)] = &[
    ("passwd", "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
    ("group", "root:x:0:\nnogroup:x:65534:\n"),
    // The gateway is the platform itself, under the name that functions of OpenFaaS call it by.
    ("hosts", "127.0.0.1 localhost cell gateway\n::1 localhost ip6-localhost\n"),
    ("hostname", "cell\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
    // Where a cell has a network the platform answers there, and nobody does in the others, which is an answer at once.
    ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:10 attempts:1\n"),
];

/// Where programs find certificates, alternatives of commands, libraries, time zones and types.
const COPIED: &[&str] = &[
    "ssl",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "timezone",
    "mime.types",
    "pip.conf",
    "services",
    "protocols",
    "os-release",
    "debian_version",
];

/// Beginnings of names in `/etc` under which languages keep their settings, a folder for each version.
const COPIED_LANGUAGES: &[&str] = &["java", "php", "perl", "python3", "ruby"];

/// Fills the folder.
pub(super) fn fill(etc: &Path) -> io::Result<()> {
    for (name, text) in WRITTEN {
        fs::write(etc.join(name), text)?;
    }
    let mut budget = COPY_BYTES_MAX;
    let listed = fs::read_dir("/etc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let languages = listed.filter(|name| COPIED_LANGUAGES.iter().any(|language| name.starts_with(language)));
    for name in COPIED.iter().map(|name| (*name).to_owned()).chain(languages) {
        let to = etc.join(&name);
        if let Some(above) = to.parent() {
            fs::create_dir_all(above)?;
        }
        // What cannot be copied is missing inside, as it would be on a host without it.
        let _ = copy(&Path::new("/etc").join(&name), &to, &mut budget, 0);
    }
    Ok(())
}

/// Copies what everybody may read, within the budget.
fn copy(from: &Path, to: &Path, budget: &mut u64, depth: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let public = meta.mode() & 0o004 != 0;
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if meta.is_dir() && public && depth < COPY_DEPTH_MAX {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)?.flatten() {
            let _ = copy(&entry.path(), &to.join(entry.file_name()), budget, depth + 1);
        }
        Ok(())
    } else if meta.is_file() && public && meta.len() <= *budget {
        *budget -= meta.len();
        fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o644))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_and_files_over_the_budget_stay_outside() {
        let folder = std::env::temp_dir().join(format!("alula-etc-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(&from).unwrap();
        for (name, mode) in [("public", 0o644), ("private", 0o600), ("later", 0o644)] {
            fs::write(from.join(name), "12345").unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut budget = 9;
        copy(&from, &to, &mut budget, 0).unwrap();
        let copied = [to.join("public").exists(), to.join("later").exists()];
        assert!(!to.join("private").exists());
        assert_eq!(copied.iter().filter(|there| **there).count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
