//! Rules about Rust sources: openings, lengths, forbidden calls.

use std::path::Path;

use super::Finding;

/// Lines of the part of a file that is not tests. Beyond this a file is two rooms.
const FILE_LINES_MAX: usize = 500;
/// Lines of one function.
const FUNCTION_LINES_MAX: usize = 70;
/// What may hold `unsafe`: the sandbox, and the module that loads scripts which this platform compiled itself.
const UNSAFE_PLACES: &[&str] =
    &["crates/sandbox", "crates/script/src/loader.rs", "crates/wasm/src/loader.rs"];
/// What may be called only in the assembly and in the binary, with what to do instead. Split so that this table does
/// not find itself.
const ASSEMBLY_ONLY: &[(&str, &str)] = &[
    (concat!("SystemTime", "::now"), "take a `Clock`: the wall clock is read in one place"),
    (concat!("std::time::Instant", "::now"), "use tokio's Instant, which tests can pause"),
    (concat!("env::", "var("), "take a parameter: the environment is read by the assembly"),
    (concat!("unbounded_", "channel"), "give the channel a named limit"),
];
/// What opens unsafe code; split like the table above.
const UNSAFE: &[&str] = &[concat!("unsafe", " {"), concat!("unsafe", " fn "), concat!("unsafe", " impl ")];
const ASSEMBLY: &[&str] = &["crates/node", "crates/alula", "xtask"];

pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !is_production(path) {
        return findings;
    }
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    if !text.starts_with("//!") && !text.starts_with("#![doc") {
        let advice = "open the module with `//!`: what it is, why it exists, what it does not do";
        findings.push(Finding::new(path, Some(1), advice));
    }
    let lines = production.lines().count();
    if lines > FILE_LINES_MAX {
        let advice = format!("{lines} lines, at most {FILE_LINES_MAX}: find the second noun in it");
        findings.push(Finding::new(path, None, advice));
    }
    findings.extend(long_functions(path, production));
    findings.extend(forbidden(path, production));
    findings
}

/// Whether the file is part of what is shipped. Tests stand in `tests` folders, `tests.rs` and `..._tests.rs`.
fn is_production(path: &Path) -> bool {
    let has_folder = |name: &str| path.components().any(|part| part.as_os_str() == name);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    has_folder("src") && !has_folder("tests") && stem != "tests" && !stem.ends_with("_tests")
}

fn forbidden(path: &Path, production: &str) -> Vec<Finding> {
    let in_any = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    let mut findings = Vec::new();
    for (index, line) in production.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        if !in_any(UNSAFE_PLACES) && UNSAFE.iter().any(|opening| code.contains(opening)) {
            findings.push(Finding::new(
                path,
                Some(index + 1),
                "unsafe code lives in crates/sandbox and in the loaders of compiled code",
            ));
        }
        for (call, instead) in ASSEMBLY_ONLY.iter().filter(|_| !in_any(ASSEMBLY)) {
            if code.contains(call) {
                findings.push(Finding::new(path, Some(index + 1), format!("{call}: {instead}")));
            }
        }
    }
    findings
}

/// Finds functions by rustfmt's layout: a line with `fn ` that opens a block, up to the line with `}` at its indent.
fn long_functions(path: &Path, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let is_function = words.starts_with("fn ") || words.contains(" fn ") && !words.starts_with("//");
        // A body on one line is no long one.
        if !is_function || line.ends_with('}') || !has_body(&lines[start..]) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            let advice =
                format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}: name its steps");
            findings.push(Finding::new(path, Some(start + 1), advice));
        }
    }
    findings
}

/// Whether what begins with the first of `lines` is more than a declaration, which a semicolon ends before any brace.
fn has_body(lines: &[&str]) -> bool {
    let end = lines.iter().find(|line| line.ends_with(['{', '}', ';']));
    end.is_some_and(|line| !line.ends_with(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_kind_of_breach() {
        let check = |text: &str| super::check(Path::new("crates/model/src/x.rs"), text).len();
        assert_eq!(check("//! Fine.\nfn f() {}\n"), 0);
        assert_eq!(check("fn f() {}\n"), 1, "no opening");
        let methods = "    fn f(\n        &self,\n    );\n".repeat(40);
        assert_eq!(check(&format!("//! Many.\ntrait T {{\n{methods}}}\n")), 0, "declarations have no length");
        assert_eq!(check(&format!("//! Long.\n{}", "// line\n".repeat(FILE_LINES_MAX))), 1);
        assert_eq!(
            check(&format!("//! Long.\nfn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX))),
            1
        );
        assert_eq!(check(concat!("//! Unsafe.\nfn f() {\n    unsafe", " { g() }\n}\n")), 1);
        assert_eq!(check(concat!("//! Clock.\nfn f() {\n    SystemTime", "::now();\n}\n")), 1);
    }
}
