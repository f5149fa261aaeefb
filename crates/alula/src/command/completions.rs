//! `alula completions`: the script that lets a shell complete commands and options.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Result;

/// What `alula completions` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula completions bash > /etc/bash_completion.d/alula
  alula completions zsh > ~/.zfunc/_alula
  alula completions fish > ~/.config/fish/completions/alula.fish")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "alula", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
