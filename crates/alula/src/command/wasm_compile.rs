//! `alula wasm-compile`: the hidden mode in which the platform compiles a component, inside a sandbox.
//!
//! It has no options and reads nothing of the environment; what is wrong goes to the standard error as plain lines,
//! since another process reads them.

use std::io::Write;
use std::process::ExitCode;

/// Compiles what comes in.
pub(crate) fn run() -> ExitCode {
    match alula_wasm::compile_stream(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nobody to tell, the status is all there is.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
