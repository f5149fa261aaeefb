//! `alula namespace`: the tenants of a platform.

use alula_sdk::wire::NewNamespace;
use clap::{Args, Subcommand};

use crate::confirm::confirm;
use crate::failure::Result;
use crate::session::Session;
use crate::table::Table;

/// What `alula namespace` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula namespace create shop --description \"the web shop\"
  alula namespace list
  alula namespace remove shop")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a namespace known
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the namespaces that you have a role in
    #[command(visible_alias = "ls")]
    List,
    /// Forget a namespace without functions, its keys and everybody's roles in it
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Create { name, description } => {
            let made = client.create_namespace(&name, &NewNamespace { description }).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&made)?);
            }
            session.output.say(&format!("namespace {name} is known"));
            Ok(())
        }
        Action::List => list(&client, session).await,
        Action::Remove { name, yes } => {
            if !yes {
                confirm(&format!("forget namespace {name}, its keys and roles?"), "nothing was removed")?;
            }
            client.remove_namespace(&name).await?;
            session.output.say(&format!("namespace {name} is forgotten"));
            Ok(())
        }
    }
}

async fn list(client: &alula_sdk::Client, session: &Session) -> Result<()> {
    let namespaces = client.namespaces().await?.namespaces;
    if session.output.is_json() {
        return Ok(namespaces.iter().try_for_each(|namespace| session.output.json(namespace))?);
    }
    if namespaces.is_empty() {
        session.output.say("no namespaces that you have a role in");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "FUNCTIONS", "DESCRIPTION"]);
    for namespace in namespaces {
        table.row([
            namespace.name.into(),
            namespace.functions.to_string().into(),
            namespace.description.into(),
        ]);
    }
    Ok(table.print(session.output)?)
}
