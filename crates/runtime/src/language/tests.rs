use std::path::{Path, PathBuf};

use super::*;

struct Machine {
    files: Vec<(&'static str, &'static str)>,
    prints: &'static str,
}

impl Machine {
    fn load(&self, extra: &[PathBuf], unpack_dir: &Path) -> Result<Languages, LanguageError> {
        let resolve = |path: &Path| {
            let file = self.files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(PathBuf::from(file.1))
        };
        let run = |_: &[String]| Some(self.prints.to_owned());
        Languages::load(unpack_dir, extra, &Host { resolve: &resolve, run: &run })
    }
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn every_folder_of_the_binary_loads_and_names_its_remedy_where_nothing_is_installed() {
    let dir = temp();
    let languages = Machine { files: vec![], prints: "" }.load(&[], dir.path()).unwrap();
    let names: Vec<&str> = languages.iter().map(|language| language.name.as_str()).collect();
    assert_eq!(names, ["exec", "http", "node", "perl", "provided", "python", "script", "wasm"]);
    let python = languages.get("python3").unwrap();
    assert!(python.check_available().unwrap_err().reason.contains("apt-get install -y python3"));
    assert!(languages.get("exec").unwrap().check_available().is_ok());
    assert!(languages.get("cobol").is_none());
}

#[test]
fn a_version_in_the_file_name_saves_asking_and_two_versions_are_two_runtimes() {
    let dir = temp();
    let files = vec![
        ("/usr/bin/python3.13", "/usr/bin/python3.13"),
        ("/usr/bin/python3.11", "/usr/bin/python3.11"),
        ("/usr/bin/python3", "/usr/bin/python3.11"),
        ("/usr/local/bin/python3", "/home/me/python3.12"),
    ];
    let languages = Machine { files, prints: "" }.load(&[], dir.path()).unwrap();
    let name = |runtime: &str| languages.get(runtime).map(|language| language.name.clone());
    assert_eq!(name("python"), Some("python3.13".to_owned()));
    assert_eq!(name("python3.11"), Some("python3.11".to_owned()));
    assert_eq!(name("python3.12"), None, "a sandbox does not show /home");
    let command = languages.get("python").unwrap().command();
    assert_eq!(command.first().map(String::as_str), Some("/usr/bin/python3.13"));
    assert_eq!(command.last().map(String::as_str), Some("/alula/shim.py"));
}

#[test]
fn a_version_is_read_from_what_the_program_prints() {
    let dir = temp();
    let load =
        |prints| Machine { files: vec![("/usr/bin/node", "/usr/bin/node")], prints }.load(&[], dir.path());
    let name = |prints| {
        load(prints).unwrap().get("node").map(|node| (node.name.clone(), node.unavailable().is_none()))
    };
    assert_eq!(name("v20.20.2\n"), Some(("node20".to_owned(), true)));
    for garbage in ["", "v", "20", "\u{0}v", "vx.y"] {
        assert_eq!(name(garbage), Some(("node".to_owned(), false)), "{garbage:?}");
    }
}

#[test]
fn a_single_file_finds_its_language() {
    let dir = temp();
    let languages = Machine { files: vec![], prints: "" }.load(&[], dir.path()).unwrap();
    let id =
        |file: &str, first: &[u8]| languages.for_file(Path::new(file), first).map(|l| l.manifest.id.clone());
    assert_eq!(id("a/hello.py", b""), Some("python".to_owned()));
    assert_eq!(id("hello.mjs", b""), Some("node".to_owned()));
    assert_eq!(id("hello.pl", b"#!/usr/bin/perl"), Some("perl".to_owned()));
    assert_eq!(id("hello.sh", b""), Some("exec".to_owned()));
    assert_eq!(id("hello", b"#!/usr/bin/awk -f"), Some("exec".to_owned()));
    assert_eq!(id("hello.txt", b"hello"), None);
    let handler = languages.by_id("python").unwrap().default_handler(Path::new("hello.py"));
    assert_eq!(handler, Some("hello".to_owned()));
}

#[test]
fn shims_are_unpacked_and_templates_are_not() {
    let dir = temp();
    let machine = Machine { files: vec![], prints: "" };
    let languages = machine.load(&[], dir.path()).unwrap();
    let python = languages.by_id("python").unwrap();
    let shim = python.shim_dir().unwrap().join("alula_shim.py");
    std::fs::write(&shim, "older").unwrap();
    machine.load(&[], dir.path()).unwrap();
    assert!(std::fs::read_to_string(&shim).unwrap().len() > 1000, "an older shim is replaced");
    assert!(!python.shim_dir().unwrap().join("templates").exists());
    for language in languages.iter() {
        for template in &language.manifest.templates {
            let files = language.template(&template.name).unwrap_or_default();
            assert!(!files.is_empty(), "{}/{}", language.manifest.id, template.name);
            assert!(files.iter().all(|file| file.path.is_relative()));
        }
    }
    assert!(python.template("../../..").is_none());
}

#[test]
fn a_folder_given_at_start_adds_or_replaces_a_language() {
    let (dir, extra) = (temp(), temp());
    let add = |id: &str, manifest: &str| {
        std::fs::create_dir_all(extra.path().join(id)).unwrap();
        std::fs::write(extra.path().join(id).join("manifest.toml"), manifest).unwrap();
    };
    let load = || Machine { files: vec![], prints: "" }.load(&[extra.path().to_owned()], dir.path());
    add("cgi", "id='exec'\ndescription='d'\nprotocol='exec'\nruntime={name='cgi'}");
    let languages = load().unwrap();
    assert!(languages.get("cgi").is_some() && languages.get("exec").is_none());
    for wrong in [
        "id='x'",
        "id='x'\ndescription='d'\nprotocol='exec'\nruntime={name='x'}\nsurprise=1",
        "id='x'\ndescription='d'\nprotocol='frames'\nruntime={name='x'}",
        "id='x'\ndescription='d'\nprotocol='exec'\nshim='s'\nruntime={name='x'}",
        "id='x'\ndescription='d'\nprotocol='exec'\nruntime={name='x{version}'}",
        "id='../x'\ndescription='d'\nprotocol='exec'\nruntime={name='x'}",
    ] {
        add("cgi", wrong);
        assert!(load().is_err(), "{wrong}");
    }
}

#[test]
fn a_build_is_asked_for_by_what_is_in_the_files() {
    let dir = temp();
    let languages = Machine { files: vec![], prints: "" }.load(&[], dir.path()).unwrap();
    let needed = |id: &str, file: &str, content: &str| {
        let build = languages.by_id(id).unwrap().manifest.build.clone().unwrap();
        build.is_needed(|name| (name == file).then(|| content.as_bytes().to_vec()))
    };
    assert!(needed("python", "requirements.txt", "flask"));
    assert!(!needed("python", "other.txt", "flask"));
    assert!(needed("node", "package.json", r#"{"dependencies":{"a":"1"}}"#));
    assert!(!needed("node", "package.json", r#"{"type":"module"}"#));
}
