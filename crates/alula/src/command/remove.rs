//! `alula remove`: removes functions with their versions, after asking.

use clap::Args;

use crate::confirm::confirm;
use crate::failure::Result;
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
        confirm(&format!("remove {} with all versions?", names.join(", ")), "nothing was removed")?;
    }
    for target in &arguments.names {
        session.client_for(target)?.remove_function(target.name.as_str()).await?;
        session.output.say(&format!("{} is removed", target.name));
    }
    Ok(())
}
