//! `alula member`: who has which role in a namespace.

use alula_sdk::wire::{Grant, UserInfo};
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// What `alula member` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula member list --namespace shop
  alula member give anna developer --namespace shop
  alula member give bob viewer --namespace shop --app cart
  alula member take anna developer --namespace shop

viewer looks; developer writes functions and brings them into traffic; operator pauses, runs
again and purges; owner may all of it, and gives roles and keys.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List who has a role
    #[command(visible_alias = "ls")]
    List,
    /// Give a person a role
    Give(Change),
    /// Take a role from a person
    Take(Change),
}

#[derive(Debug, Args)]
struct Change {
    /// The person
    user: String,
    /// viewer, developer, operator or owner
    role: String,
    /// Only in this app
    #[arg(long)]
    app: Option<String>,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::List => show(&client.members().await?.users, session),
        Action::Give(Change { user, role, app }) => {
            client.give_role(&user, &role, app.as_deref()).await?;
            session.output.say(&format!("{user} is {role}"));
            Ok(())
        }
        Action::Take(Change { user, role, app }) => {
            client.take_role(&user, &role, app.as_deref()).await?;
            session.output.say(&format!("{user} is {role} no more"));
            Ok(())
        }
    }
}

/// Prints people.
pub(crate) fn show(users: &[UserInfo], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(users.iter().try_for_each(|user| session.output.json(user))?);
    }
    if users.is_empty() {
        session.output.say("nobody");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "EMAIL", "STATE", "ROLES"]);
    for user in users {
        let state = match user.login_paused_ms {
            _ if user.is_disabled => "disabled".to_owned(),
            Some(pause_ms) => format!("may log in again in {}", human::millis(pause_ms)),
            None => String::new(),
        };
        let roles = if user.is_administrator { "administrator".to_owned() } else { in_words(&user.grants) };
        table.row([
            user.name.as_str().into(),
            user.email.as_deref().unwrap_or_default().into(),
            state.into(),
            roles.into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

/// `developer of shop, viewer of bank/loans`.
pub(crate) fn in_words(grants: &[Grant]) -> String {
    let one = |grant: &Grant| match &grant.app {
        Some(app) => format!("{} of {}/{app}", grant.role, grant.namespace),
        None => format!("{} of {}", grant.role, grant.namespace),
    };
    grants.iter().map(one).collect::<Vec<_>>().join(", ")
}
