//! Tasks of this repository that are programs: `cargo xtask tidy`.
//!
//! Everything here runs on a developer's machine and in CI, never in the product.

use std::path::Path;
use std::process::ExitCode;

mod tidy;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => report(&tidy::check(&root)),
        _ => {
            eprintln!("usage: cargo xtask tidy    checks the house rules and explains what it finds");
            ExitCode::from(2)
        }
    }
}

fn report(findings: &[tidy::Finding]) -> ExitCode {
    for finding in findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
