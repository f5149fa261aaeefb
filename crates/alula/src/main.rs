//! `alula`: the one binary. It is the platform (`alula up`) and the command line that talks to one.
//!
//! What is read from the process - arguments, environment, streams - is read here and in `session`, and passed in.
//! `cli` lists the commands, `command` has one module for each. Everything a command can fail with is a `Failure`,
//! printed once, here. Deliberately absent: what the platform does (`alula-node`) and how it is spoken to
//! (`alula-sdk`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod cli;
mod command;
mod confirm;
mod failure;
mod human;
mod output;
mod package;
mod platform;
mod profile;
mod progress;
mod publish;
mod secret_input;
mod session;
mod table;
mod templates;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Task};
use failure::{BROKEN_PIPE, Failure, Result};
use session::{Environment, Session};

/// Built without huge pages (the feature `no_thp`): what is allocated before `alula up` can switch them off would take
/// two megabytes at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What the platform starts in a sandbox is this binary too, and must not wait for a command line.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = alula_script_host::main(&arguments) {
        return code;
    }
    let Cli { command, global } = Cli::parse();
    let output = global.output(std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let session = Session { global, environment: environment(), output };
    let outcome = match command {
        Command::Up(arguments) => return command::up::run(arguments, &session),
        Command::Doctor(arguments) => {
            let machine = command::doctor::look_at_machine(&session);
            block_on(command::doctor::run(arguments, &session, machine))
        }
        Command::WasmCompile => return command::wasm_compile::run(),
        Command::Task(task) => run(task, &session),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.code == BROKEN_PIPE => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

fn run(task: Task, session: &Session) -> Result<()> {
    block_on(task.run(session))
}

/// Runs a command on this thread alone.
fn block_on<F: Future<Output = Result<()>>>(command: F) -> Result<()> {
    // Fails only where a provider was installed before, which is then used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed("runtime", format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread may still wait for standard input; it must not hold up the end.
    runtime.shutdown_background();
    outcome
}

fn environment() -> Environment {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // What is not text can be neither a setting nor a variable of a build.
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    Environment {
        variables: std::env::vars_os().filter_map(text).collect(),
        config_file: path("ALULA_CONFIG"),
        home: path("HOME"),
        xdg_config_home: path("XDG_CONFIG_HOME"),
        data_dir: path("ALULA_DATA_DIR"),
    }
}
