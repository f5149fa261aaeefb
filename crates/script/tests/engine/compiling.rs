//! What compiling refuses, and where.

use alula_script::Artifact;

use crate::world::{artifact, try_files};

#[test]
fn errors_have_a_file_and_a_line() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("main.ts", "const a: number = ;")], "main.ts:1:19: "),
        (&[("main.ts", "let x = 1;\nlet x = 2;\nexport default x")], "main.ts:"),
        (&[("main.js", "export default () => {\n  return 1 +\n}")], "main.js:3:"),
        (
            &[("main.ts", "\nimport fs from 'node:fs';\nfs.x; export {}")],
            "main.ts:2:1: \"node:fs\" cannot be imported",
        ),
        (&[("main.ts", "export * from './gone'")], "main.ts:1:1: the package has no file gone"),
        (&[("main.ts", "import '../../etc/passwd'")], "main.ts:1:1: \"../../etc/passwd\" is outside"),
        (
            &[("main.ts", "import d from './d.json'; d; export {}"), ("d.json", "1); evil(")],
            "d.json: the file is not JSON",
        ),
        (&[], "main: the code has no such file"),
    ];
    for (files, expected) in cases {
        let error = try_files(files).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error:?} should start with {expected:?}");
    }
}

#[test]
fn bytes_and_deep_nesting_are_refused_or_compiled_but_never_run() {
    let error =
        alula_script::compile("main", &|path| (path == "main.js").then(|| vec![0xff, 0xfe])).unwrap_err();
    assert_eq!(error.to_string(), "main.js: the file is not UTF-8 text");
}

#[test]
fn a_script_without_a_handler_is_refused() {
    let compiled =
        |source: &str| try_files(&[("main.ts", source), ("other.ts", "export function fetch() {}")]);
    for source in
        ["", "export const x = 1, y = 2", "export type handler = string", "export { x as y }; const x = 1"]
    {
        let error = compiled(source).unwrap_err().to_string();
        assert!(
            error.starts_with("main.ts: the module exports no handler: neither fetch(request)"),
            "{error}"
        );
    }
    let error = compiled("export const x = 1, y = 2").unwrap_err().to_string();
    assert!(error.ends_with("exported are: x, y"), "{error}");
    for source in [
        "export default 1",
        "export function fetch() {}",
        "export const handler = () => 1",
        "const run = 1; export { run as handler }",
        "export { fetch } from './other'",
        "export * from './other'",
    ] {
        assert!(compiled(source).is_ok(), "{source}");
    }
    let named = |source: &'static str| {
        alula_script::compile("main.run", &|path| (path == "main.ts").then(|| source.into()))
    };
    assert!(named("export function run() {}").is_ok());
    let error = named("export function fetch() {}").unwrap_err().to_string();
    assert_eq!(
        error,
        "main.ts: the module does not export run, which the handler names; exported are: fetch"
    );
}

#[test]
fn an_artifact_survives_being_kept() {
    let made = artifact("export default () => new Response('x')");
    let kept = Artifact::from_bytes(made.as_bytes().clone()).unwrap();
    assert_eq!(kept.as_bytes(), made.as_bytes());
}
