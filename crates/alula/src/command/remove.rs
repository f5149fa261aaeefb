//! `alula remove`: removes functions with their versions, after asking.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::failure::{Exit, Failure, Result};
use crate::session::{Session, Target};

/// What `alula remove` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula remove hello
  alula remove hello goodbye --yes")]
pub(crate) struct Arguments {
    /// The functions
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Target>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Removes them one by one.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let names = arguments.names.iter().map(Target::whole).collect::<Result<Vec<&str>>>()?;
    if !arguments.yes {
        confirm(&format!("remove {} with all versions?", names.join(", ")))?;
    }
    for target in &arguments.names {
        session.client_for(target)?.remove_function(target.name.as_str()).await?;
        session.output.say(&format!("{} is removed", target.name));
    }
    Ok(())
}

fn confirm(question: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("removing needs a yes").remedy("add --yes"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "declined", "nothing was removed")),
    }
}
