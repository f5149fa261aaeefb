//! `alula key`: keys for programs and people. A key is shown once.

use std::time::Duration;

use alula_model::Timestamp;
use alula_sdk::wire::{Grant, KeyInfo, NewKey, NewKeyRequest, RotateRequest};
use clap::{Args, Subcommand};

use crate::command::member::in_words;
use crate::confirm::confirm;
use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// What `alula key` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula key create ci --role developer --namespace shop --expires 90d
  alula key create laptop --user anna
  alula key list --namespace shop
  alula key rotate 56789abcdef0 --keep-old 1d
  alula key revoke 56789abcdef0

The key goes to stdout, once: `ALULA_TOKEN=$(alula key create ci --role developer)`.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, for the namespace or for a person
    Create {
        /// What it is called
        name: String,
        /// What it may: viewer, developer, operator or owner; may be given several times
        #[arg(long, required_unless_present = "user")]
        role: Vec<String>,
        /// Only in this app
        #[arg(long, requires = "role")]
        app: Option<String>,
        /// For this person; without a role it may what they may
        #[arg(long)]
        user: Option<String>,
        /// When it ends, from now
        #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
        expires: Option<Duration>,
    },
    /// List keys, without their secrets
    #[command(visible_alias = "ls")]
    List {
        /// Of this person
        #[arg(long)]
        user: Option<String>,
    },
    /// Give a key another secret
    Rotate {
        /// Its id
        id: String,
        /// For how long the old secret is still taken
        #[arg(long, value_name = "DURATION", value_parser = human::parse_duration, default_value = "0s")]
        keep_old: Duration,
    },
    /// Take a key back
    #[command(visible_alias = "rm")]
    Revoke {
        /// Its id
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Create { name, role, app, user, expires } => {
            let namespace = client.namespace().to_owned();
            let grant = |role: String| Grant { namespace: namespace.clone(), app: app.clone(), role };
            let grants = role.into_iter().map(grant).collect();
            let expires_in_s = expires.map(|after| after.as_secs());
            made(&client.create_key(&NewKeyRequest { name, user, grants, expires_in_s }).await?, session)
        }
        Action::List { user } => show(&client.keys(user.as_deref()).await?.keys, session),
        Action::Rotate { id, keep_old } => {
            made(&client.rotate_key(&id, &RotateRequest { keep_old_s: keep_old.as_secs() }).await?, session)
        }
        Action::Revoke { id, yes } => {
            if !yes {
                confirm(&format!("take key {id} back?"), "nothing was taken back")?;
            }
            client.revoke_key(&id).await?;
            session.output.say(&format!("key {id} is taken back"));
            Ok(())
        }
    }
}

fn made(made: &NewKey, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(made)?);
    }
    session.output.line(&made.key)?;
    session.output.say(&format!("key {} ({}); it is not shown again", made.info.name, made.info.id));
    Ok(())
}

fn show(keys: &[KeyInfo], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(keys.iter().try_for_each(|key| session.output.json(key))?);
    }
    if keys.is_empty() {
        session.output.say("no keys; `alula key create NAME --role ROLE` makes one");
        return Ok(());
    }
    let now = session.now();
    let ago = |at: Option<i64>| at.map_or("never".to_owned(), |at| human::age(now, Timestamp(at)));
    let mut table = Table::new(&["ID", "NAME", "MAY", "USED", "ENDS", "BY"]);
    for key in keys {
        let may = if key.grants.is_empty() { "what its owner may".to_owned() } else { in_words(&key.grants) };
        let ends = key.expires_at_ms.map_or("never".to_owned(), |at| human::moment(Timestamp(at)));
        table.row([
            key.id.as_str().into(),
            key.name.as_str().into(),
            may.into(),
            ago(key.last_used_at_ms).into(),
            ends.into(),
            key.created_by.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}
