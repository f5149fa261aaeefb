//! Which program runs a function that brings its own: the spec's `command`, or the file that is meant by default.
//!
//! Decided from the unpacked code alone, so a deploy is refused for what could only fail at the first call. A
//! relative program is under the code's folder; a bare name that is not
//! there is looked up among the programs that a build installed, and in `PATH`. A script whose executable bit was
//! lost in an archive is run by the interpreter of its first line.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alula_model::SpecError;

use super::cells::CODE_DIR;
use super::environment::PATH;
use crate::VersionPlan;
use crate::language::Language;

/// Bytes of a file that are looked at to find out what it is; the kernel looks at 256 as well.
const MAGIC_BYTES: u64 = 256;
/// Files of a package's top folder that are looked at for a program.
const FILES_MAX: usize = 1_000;

/// The program and its arguments as they stand inside the cell: the spec's command, or the language's. `defaults`
/// are the file names that are tried in this order where neither has one; a folder with one executable file needs
/// no name at all.
pub(super) fn resolve(
    plan: &VersionPlan,
    language: &Language,
    defaults: &[&str],
) -> Result<Vec<String>, SpecError> {
    let own = &plan.spec.command;
    let command = if own.is_empty() { language.command() } else { own.clone() };
    match command.split_first() {
        Some((program, arguments)) => {
            let mut argv = locate(plan, language, program)?;
            argv.extend(arguments.iter().cloned());
            Ok(argv)
        }
        None => in_code(plan, &default_program(plan, defaults)?),
    }
}

fn locate(plan: &VersionPlan, language: &Language, program: &str) -> Result<Vec<String>, SpecError> {
    let relative = program.strip_prefix("./").unwrap_or(program);
    let relative = relative.strip_prefix(CODE_DIR).map_or(relative, |rest| rest.trim_start_matches('/'));
    if relative.is_empty() || relative.split('/').any(|part| part == "..") {
        return Err(refused(format!("{program:?} is not a program")));
    }
    if !relative.starts_with('/') && plan.code.join(relative).is_file() {
        return in_code(plan, relative);
    }
    let installed = language.manifest.programs.iter().map(|folder| format!("{folder}/{relative}"));
    let mut installed = installed.filter(|file| !relative.contains('/') && plan.code.join(file).is_file());
    if let Some(file) = installed.next() {
        return in_code(plan, &file);
    }
    let found = if relative.starts_with('/') {
        is_executable(Path::new(relative))
    } else {
        !relative.contains('/')
            && PATH.split(':').any(|folder| is_executable(&Path::new(folder).join(relative)))
    };
    if found {
        return Ok(vec![program.to_owned()]);
    }
    Err(refused(format!("{program:?} is neither in the package nor installed on this machine")))
}

fn default_program(plan: &VersionPlan, defaults: &[&str]) -> Result<String, SpecError> {
    if let Some(name) = defaults.iter().find(|name| plan.code.join(name).is_file()) {
        return Ok((*name).to_owned());
    }
    let entries =
        fs::read_dir(&plan.code).map_err(|error| refused(format!("cannot read the package: {error}")))?;
    let files: Vec<_> = entries.flatten().take(FILES_MAX).filter(|entry| entry.path().is_file()).collect();
    let executable: Vec<_> = files.iter().filter(|entry| is_executable(&entry.path())).collect();
    let only = match (executable.as_slice(), files.as_slice()) {
        ([only], _) => only,
        ([], [only]) => only,
        _ => {
            let names = defaults.join(", ");
            return Err(refused(format!(
                "not set, and the package has neither {names} nor exactly one executable"
            )));
        }
    };
    only.file_name().into_string().map_err(|_| refused("the program's file name is not UTF-8".to_owned()))
}

/// How the file `relative` of the package is run.
fn in_code(plan: &VersionPlan, relative: &str) -> Result<Vec<String>, SpecError> {
    let file = plan.code.join(relative);
    let inside = format!("{CODE_DIR}/{relative}");
    if is_executable(&file) {
        return Ok(vec![inside]);
    }
    let interpreter = shebang(&first_bytes(&file)).or_else(|| {
        let is_shell = file.extension().is_some_and(|extension| extension == "sh");
        is_shell.then(|| vec!["/bin/sh".to_owned()])
    });
    match interpreter {
        Some(mut argv) => {
            argv.push(inside);
            Ok(argv)
        }
        None => Err(refused(format!("{relative} is neither executable nor a script with a #! line"))),
    }
}

/// The interpreter and its one argument, as the kernel reads them from a script's first line.
fn shebang(start: &[u8]) -> Option<Vec<String>> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim();
    if !interpreter.starts_with('/') {
        return None;
    }
    let words = [interpreter, argument];
    Some(words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect())
}

fn first_bytes(file: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    // A file that cannot be read is not a script; the caller says so.
    let _ = fs::File::open(file).and_then(|file| file.take(MAGIC_BYTES).read_to_end(&mut start));
    start
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn refused(reason: String) -> SpecError {
    SpecError { field: "command", reason }
}
