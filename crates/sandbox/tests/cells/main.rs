//! Real cells on this machine: what they do, and what programs in them try in vain.
//!
//! The spawner must be forked before there is a thread, so this test has its own `main`: it forks, then runs the
//! tests of the modules one after the other. Arguments select tests by part of their name, as libtest does. The
//! same binary is also the platform that is killed, and the one without privilege.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::exit,
    reason = "a test program may panic, print and end"
)]

mod attacks_on_files;
mod attacks_on_limits;
mod attacks_on_network;
mod attacks_on_rights;
mod crashes;
mod harness;
mod instances;
mod programs;
mod room;
mod stems;
mod unprivileged;
mod zygotes;

use harness::Test;

fn tests() -> Vec<Test> {
    [
        programs::tests(),
        instances::tests(),
        stems::tests(),
        zygotes::tests(),
        attacks_on_files::tests(),
        attacks_on_network::tests(),
        attacks_on_rights::tests(),
        attacks_on_limits::tests(),
        crashes::tests(),
        unprivileged::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(crashes::PLATFORM) => crashes::be_platform(&arguments[1]),
        Some(crashes::DOCTOR) => crashes::be_doctor(&arguments[1]),
        Some(unprivileged::PLATFORM) => unprivileged::be_platform(),
        _ => harness::run(tests(), &arguments),
    }
}
