//! Inside the sandbox: the hidden modes of the platform's binary.

mod call_meta;
mod compile;
mod frames_out;
mod inbox;
mod meter;
mod outgoing;
mod serve;
mod session;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// The first argument that makes the binary a script host whose standard input is its control link; the second is its memory in bytes.
pub const HOST_MODE: &str = "script-host";
/// The first argument that makes the binary compile the script in its working directory to standard output; the
/// second is the handler.
pub const COMPILE_MODE: &str = "script-compile";

/// Runs the mode that `arguments` (without the program) ask for; `None` where they ask for neither.
#[must_use]
pub fn main(arguments: &[OsString]) -> Option<ExitCode> {
    let [mode, argument] = arguments else { return None };
    let argument = argument.to_str()?;
    match mode.to_str()? {
        HOST_MODE => Some(serve::run(argument.parse().ok()?)),
        COMPILE_MODE => Some(compile::run(argument)),
        _ => None,
    }
}
