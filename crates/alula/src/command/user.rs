//! `alula user`: the people of a platform.

use alula_sdk::wire::NewUser;
use clap::{Args, Subcommand};

use crate::command::member;
use crate::confirm::confirm;
use crate::failure::Result;
use crate::session::Session;

/// What `alula user` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula user create anna --email anna@example.com
  alula user password anna
  alula member give anna developer --namespace shop
  alula key create laptop --user anna
  alula user disable anna")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a person known
    Create {
        /// What they are called
        name: String,
        /// Where they are written to
        #[arg(long)]
        email: Option<String>,
        /// They administer the platform
        #[arg(long)]
        administrator: bool,
    },
    /// List everybody
    #[command(visible_alias = "ls")]
    List,
    /// Refuse a person's keys until they are enabled again
    Disable {
        /// What they are called
        name: String,
    },
    /// Take a person's keys again
    Enable {
        /// What they are called
        name: String,
    },
    /// Make a password for a person: shown once, good for nothing but its own change
    Password {
        /// What they are called
        name: String,
        /// Take their password away instead
        #[arg(long)]
        remove: bool,
    },
    /// Forget a person and their keys
    #[command(visible_alias = "rm")]
    Remove {
        /// What they are called
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let said = match arguments.action {
        Action::List => return member::show(&client.users().await?.users, session),
        Action::Create { name, email, administrator } => {
            let made = client.create_user(&name, &NewUser { email, is_administrator: administrator }).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&made)?);
            }
            format!("{name} is known; `alula key create KEY --user {name}` makes a key for them")
        }
        Action::Disable { name } => {
            client.disable_user(&name).await?;
            format!("the keys of {name} are refused")
        }
        Action::Enable { name } => {
            client.enable_user(&name).await?;
            format!("the keys of {name} are taken")
        }
        Action::Password { name, remove: false } => {
            let made = client.reset_password(&name).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&made)?);
            }
            session.output.line(&made.password)?;
            format!("{name} changes it with `alula passwd {name}`, and then logs in; it is not shown again")
        }
        Action::Password { name, remove: true } => {
            client.remove_password(&name).await?;
            format!("{name} has no password")
        }
        Action::Remove { name, yes } => {
            if !yes {
                confirm(&format!("forget {name} and their keys?"), "nothing was removed")?;
            }
            client.remove_user(&name).await?;
            format!("{name} is forgotten")
        }
    };
    session.output.say(&said);
    Ok(())
}
