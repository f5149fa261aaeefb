//! Script hosts as processes, without a sandbox: this binary is the platform in one mode and the host in another.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it did"
)]

mod cases;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = alula_script_host::main(&arguments) {
        return code;
    }
    let filter = arguments.iter().filter_map(|a| a.to_str()).find(|a| !a.starts_with('-')).unwrap_or("");
    if arguments.iter().any(|argument| argument == "--list") {
        cases::ALL.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    for (name, case) in cases::ALL.iter().filter(|(name, _)| name.contains(filter)) {
        case();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}
