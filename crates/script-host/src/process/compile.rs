//! Compiles one script and ends. In a process of its own, because the source is not trusted either.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Largest source file: a light script is not that long.
const SOURCE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The exit status for source that cannot be compiled; the reason is on standard error.
const REFUSED: u8 = 2;

/// Reads the script below the working directory, writes the artifact to standard output.
pub(super) fn run(handler: &str) -> ExitCode {
    let written = alula_script::compile(handler, &read)
        .map_err(|error| error.to_string())
        .and_then(|made| std::io::stdout().write_all(made.as_bytes()).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Nobody is left to be told where this fails.
            let _ = writeln!(std::io::stderr(), "{reason}");
            REFUSED.into()
        }
    }
}

fn read(path: &str) -> Option<Vec<u8>> {
    // What a link leads to is not part of the package's content, by which the result is kept.
    let folder = std::env::current_dir().ok()?.canonicalize().ok()?;
    let path = folder.join(Path::new(path));
    let file = File::open(&path).ok().filter(|_| path.canonicalize().is_ok_and(|real| real == path))?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    file.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= SOURCE_BYTES_MAX).then_some(content)
}
