//! `alula alias`: movable names for versions.

use alula_model::Name;
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::session::{Session, Target};
use crate::table::Table;

/// What `alula alias` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula alias set hello live 3    calls of hello:live reach version 3 from now on
  alula alias list hello
  alula alias remove hello live")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Point an alias to a version, and make it where it is new
    Set {
        /// The function
        name: Target,
        /// The alias
        alias: Name,
        /// The version's number
        version: u64,
    },
    /// List the aliases of a function
    List {
        /// The function
        name: Target,
    },
    /// Remove an alias
    Remove {
        /// The function
        name: Target,
        /// The alias
        alias: Name,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Action::Set { name, alias, version } => {
            session.client_for(&name)?.set_alias(name.whole()?, alias.as_str(), version).await?;
            session.output.say(&format!("{}:{alias} is version {version}", name.name));
        }
        Action::Remove { name, alias } => {
            session.client_for(&name)?.remove_alias(name.whole()?, alias.as_str()).await?;
            session.output.say(&format!("{}:{alias} is gone", name.name));
        }
        Action::List { name } => list(&name, session).await?,
    }
    Ok(())
}

async fn list(target: &Target, session: &Session) -> Result<()> {
    let detail = session.client_for(target)?.function(target.whole()?).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&detail.function.aliases)?);
    }
    let mut table = Table::new(&["ALIAS", "VERSION"]);
    for (alias, version) in &detail.function.aliases {
        table.row([alias.as_str().into(), version.to_string().into()]);
    }
    for line in table.lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}
