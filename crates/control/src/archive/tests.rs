use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const LIMITS: Limits = Limits { unpacked_bytes_max: 64 * 1024 * 1024, files_max: 100 };

fn header(kind: EntryType, bytes: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(mode);
    header
}

/// Path, kind, and the content or the link's target.
type TarEntry<'a> = (&'a str, EntryType, &'a str);

/// A tar archive whose paths and links are written as they are, which the crate's own writer would refuse.
fn tar_of(entries: &[TarEntry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let bytes = if is_link { 0 } else { content.len() as u64 };
        let mut header = header(*kind, bytes, 0o644);
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_cksum();
        builder.append(&header, if is_link { &[] } else { content.as_bytes() }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpack_bytes(bytes: &[u8], limits: Limits) -> (TempDir, Result<Unpacked, ArchiveError>) {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("upload"), bytes).unwrap();
    let unpacked = unpack(&dir.path().join("upload"), Some("hello.py"), &dir.path().join("tree"), limits);
    (dir, unpacked)
}

fn refusal(bytes: &[u8]) -> String {
    let (dir, unpacked) = unpack_bytes(bytes, LIMITS);
    let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(outside.len() <= 2, "something was written beside the folder: {outside:?}");
    unpacked.unwrap_err().to_string()
}

#[test]
fn hostile_tars_are_refused_and_write_nothing_outside() {
    use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let refused: &[(&[TarEntry<'_>], &str)] = &[
        (&[("/etc/evil", Regular, "x")], "absolute"),
        (&[("../evil", Regular, "x")], "leads out"),
        (&[("a/../../evil", Regular, "x")], "leads out"),
        (&[("a", Symlink, "/etc"), ("a/evil", Regular, "x")], "twice"),
        (&[("a", Symlink, "../..")], "out of the archive"),
        (&[("a", Symlink, "/etc/passwd")], "out of the archive"),
        (&[("a/b", Symlink, "."), ("c", Symlink, "a/b/../..")], "out of the archive"),
        (&[("a", Link, "/etc/passwd")], "absolute"),
        (&[("a", Link, "../upload")], "leads out"),
        (&[("a", Link, "missing")], "out of the archive"),
        (&[("a", Symlink, "b"), ("c", Link, "a"), ("b", Regular, "")], "out of the archive"),
        (&[("dev", Char, "")], "device"),
        (&[("dev", Block, "")], "device"),
        (&[("pipe", Fifo, "")], "pipe"),
        (&[("a", Regular, "1"), ("a", Regular, "2")], "twice"),
        (&[("a", Regular, "1"), ("./a", Regular, "2")], "twice"),
        (&[("a", Regular, "1"), ("a/b", Regular, "2")], "twice"),
        (&[("a/b", Regular, "1"), ("a", Symlink, "x")], "twice"),
        (&[("a\nb", Regular, "1")], "control"),
        (&[("a", Symlink, "")], "nowhere"),
    ];
    for (entries, reason) in refused {
        let tar = tar_of(entries);
        let said = refusal(&tar);
        assert!(said.contains(reason), "{entries:?}: {said}");
        assert_eq!(refusal(&gz(&tar)), said, "the same archive compressed");
    }
}

#[test]
fn what_is_harmless_is_taken() {
    use EntryType::{Directory, Link, Regular, Symlink, XGlobalHeader};
    let tar = tar_of(&[
        ("pax", XGlobalHeader, "18 comment=abcdef\n"),
        ("./", Directory, ""),
        ("./lib/", Directory, ""),
        ("lib/a.py", Regular, "a"),
        ("deep/er/b.py", Regular, "b"),
        ("same.py", Link, "lib/a.py"),
        ("link.py", Symlink, "lib/../deep/er/b.py"),
        ("dangling", Symlink, "nothing/here"),
    ]);
    for bytes in [tar.clone(), gz(&tar)] {
        let (dir, unpacked) = unpack_bytes(&bytes, LIMITS);
        assert_eq!(unpacked.unwrap(), Unpacked::Archive);
        let read = |file: &str| fs::read_to_string(dir.path().join("tree").join(file)).unwrap();
        assert_eq!(
            (read("same.py"), read("link.py"), read("deep/er/b.py")),
            ("a".into(), "b".into(), "b".into())
        );
    }
}

#[test]
fn limits_are_named() {
    let many: Vec<_> = (0..101).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), EntryType::Regular, "")).collect();
    let (_dir, unpacked) = unpack_bytes(&tar_of(&many), LIMITS);
    assert!(matches!(unpacked, Err(ArchiveError::OverLimit { name: "files_max", .. })));

    let large = "x".repeat(1001);
    let tar = tar_of(&[("a", EntryType::Regular, &large)]);
    let small = Limits { unpacked_bytes_max: 1000, ..LIMITS };
    let (_dir, unpacked) = unpack_bytes(&tar, small);
    let fault = unpacked.unwrap_err().fault();
    let hit = fault.limit.unwrap();
    assert_eq!((hit.name.as_str(), hit.value), ("unpacked_bytes_max", 1000));
    let (_dir, unpacked) = unpack_bytes(&tar, Limits { unpacked_bytes_max: 1001, ..LIMITS });
    assert!(unpacked.is_ok(), "exactly the limit is allowed");
}

#[test]
fn bombs_end_at_the_ratio() {
    let zeros = "\0".repeat(30 * 1024 * 1024);
    let (dir, unpacked) = unpack_bytes(&gz(&tar_of(&[("zeros", EntryType::Regular, &zeros)])), LIMITS);
    assert!(matches!(unpacked, Err(ArchiveError::Bomb)));
    let written = fs::metadata(dir.path().join("tree/zeros")).unwrap().len();
    assert!(written < 25 * 1024 * 1024, "{written} bytes were written");
}

#[test]
fn broken_archives_are_the_callers_fault() {
    let whole = gz(&tar_of(&[("a", EntryType::Regular, &"text ".repeat(5_000))]));
    for bytes in [&whole[..whole.len() / 2], b"\x1f\x8bgarbage", b"PK\x03\x04garbage", b"PK\x05\x06"] {
        let (_dir, unpacked) = unpack_bytes(bytes, LIMITS);
        assert_eq!(unpacked.unwrap_err().fault().code, ErrorCode::InvalidPackage);
    }
}

fn zip_of(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, mode, content) in entries {
        writer.start_file(*path, SimpleFileOptions::default().unix_permissions(*mode)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn zips() {
    let (dir, unpacked) = unpack_bytes(&zip_of(&[("a/run.sh", 0o755, b"#!"), ("b.py", 0o600, b"b")]), LIMITS);
    unpacked.unwrap();
    let mode =
        |file: &str| fs::metadata(dir.path().join("tree").join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a/run.sh"), mode("b.py")), (0o755, 0o644));
    for (path, reason) in [("../evil", "leads out"), ("/evil", "absolute"), ("a\\b", "backslash")] {
        let said = refusal(&zip_of(&[(path, 0o644, b"x")]));
        assert!(said.contains(reason), "{path}: {said}");
    }
    let twice = zip_of(&[("aaaa", 0o644, b"1"), ("aaab", 0o644, b"2")]);
    assert!(refusal(&replace(&twice, b"aaab", b"aaaa")).contains("same name"));
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for start in 0..bytes.len() - from.len() {
        if &bytes[start..start + from.len()] == from {
            bytes[start..start + from.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn a_single_file_keeps_its_name_and_programs_are_executable() {
    let (dir, unpacked) = unpack_bytes(b"print(1)", LIMITS);
    assert_eq!(unpacked.unwrap(), Unpacked::SingleFile("hello.py".into()));
    assert_eq!(fs::read(dir.path().join("tree/hello.py")).unwrap(), b"print(1)");
    let (dir, unpacked) = unpack_bytes(b"#!/bin/sh\n", LIMITS);
    unpacked.unwrap();
    assert!(fs::metadata(dir.path().join("tree/hello.py")).unwrap().permissions().mode() & 0o100 != 0);
    let (dir, unpacked) = unpack_bytes(b"", LIMITS);
    unpacked.unwrap();
    assert!(dir.path().join("tree/hello.py").is_file());
}

#[test]
fn a_file_that_only_calls_itself_an_archive_is_no_function() {
    let folder = tempfile::tempdir().unwrap();
    let upload = folder.path().join("upload");
    fs::write(&upload, "no archive at all").unwrap();
    for name in ["x.zip", "x.tar.gz", "x.tgz", "x.tar"] {
        let unpacked = unpack(&upload, Some(name), &folder.path().join(name), LIMITS);
        assert!(unpacked.unwrap_err().to_string().contains("archive"), "{name}");
    }
}

#[test]
fn the_same_content_packs_to_the_same_bytes_and_comes_back() {
    use EntryType::{Directory, Regular, Symlink};
    let long = format!("{}/{}/f.py", "d".repeat(90), "e".repeat(90));
    let forth = tar_of(&[("b", Regular, "b"), ("a/x", Regular, "x"), ("l", Symlink, "a/x")]);
    let back =
        tar_of(&[("l", Symlink, "a/x"), ("a", Directory, ""), ("a/x", Regular, "x"), ("b", Regular, "b")]);
    let mut digests = Vec::new();
    for bytes in [forth, back] {
        let (dir, unpacked) = unpack_bytes(&bytes, LIMITS);
        unpacked.unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join(&long).parent().unwrap()).unwrap();
        fs::write(tree.join(&long), "long").unwrap();
        let package = dir.path().join("package");
        let packed = pack(&tree, &walk(&tree).unwrap(), &package, LIMITS).unwrap();
        assert_eq!(packed.bytes, fs::metadata(&package).unwrap().len());
        digests.push(packed.digest);
        let again = dir.path().join("again");
        unpack_package(File::open(&package).unwrap(), &again, LIMITS).unwrap();
        assert_eq!(walk(&again).unwrap(), walk(&tree).unwrap());
    }
    assert_eq!(digests[0], digests[1]);
}
