//! What guests do inside their own process, where no frame tells of it: programs in `guests/` that use a guest's code.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

#[test]
fn a_python_guest_takes_a_signal_in_the_midst_of_another() {
    says_ok("python3", "python_signals.py", "python");
}

/// Runs a program of `guests/` over the code of one language.
fn says_ok(interpreter: &str, program: &str, language: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guest = here.join("../../guest").join(language);
    let mut command = Command::new(interpreter);
    let done = command.arg(here.join("tests/guests").join(program)).arg(guest).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(out.trim(), "ok", "{program} failed: {err}");
}
