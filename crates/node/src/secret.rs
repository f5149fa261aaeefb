//! Secrets that the platform makes for itself at its first start and keeps where only its owner can read them.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;
/// Its file in the data directory: what lineages are signed with. Who deletes it lets all chains of calls begin anew.
pub(crate) const LINEAGE_FILE: &str = "lineage.key";

/// Reads the secret `file` of `data_dir`, or makes one of the bits that two calls of `random` give.
pub(crate) fn open(data_dir: &Path, file: &str, random: impl Fn() -> u128) -> io::Result<[u8; SECRET_BYTES]> {
    let path = data_dir.join(file);
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found,
    }
    let mut secret = [0; SECRET_BYTES];
    for half in secret.chunks_exact_mut(size_of::<u128>()) {
        half.copy_from_slice(&random().to_ne_bytes());
    }
    write_whole(&path, &secret)?;
    Ok(secret)
}

fn read(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let mut bytes = Vec::with_capacity(SECRET_BYTES);
    std::fs::File::open(path)?.take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    bytes.try_into().map_err(|_| {
        let reason =
            format!("{} is not {SECRET_BYTES} bytes long: delete it to get a new one", path.display());
        io::Error::new(ErrorKind::InvalidData, reason)
    })
}

/// Writes a file that only its owner can read. It is written aside and renamed, so that a crash leaves either none or a
/// whole one.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), LINEAGE_FILE, || 7).unwrap();
        assert_eq!(open(folder.path(), LINEAGE_FILE, || 8).unwrap(), first);
        let path = folder.path().join(LINEAGE_FILE);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_another_length_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        for content in [&b""[..], &[1; SECRET_BYTES - 1], &[1; SECRET_BYTES + 1]] {
            std::fs::write(folder.path().join(LINEAGE_FILE), content).unwrap();
            assert_eq!(open(folder.path(), LINEAGE_FILE, || 7).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
