//! `alula access`: who may call functions of a namespace that do not say so themselves.

use std::path::PathBuf;
use std::time::Duration;

use alula_sdk::wire::{AccessInfo, NewAccess, RotateRequest};
use clap::{Args, Subcommand};

use crate::confirm::confirm;
use crate::failure::{Failure, Result};
use crate::human;
use crate::session::Session;

/// What `alula access` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula access show --namespace shop
  alula access set namespace signed-url --namespace shop
  alula access set --file access.json --namespace shop
  alula access reset --namespace shop
  alula access rotate-url-key --keep-old 1d --namespace shop

Ways in: public, namespace (a key or session that may call functions there), inside (nobody from
outside), signed-url, key:NAME, key:NAMESPACE/NAME, user:NAME, function:NAMESPACE/NAME.
What a function says itself, with `access` in alula.toml, comes before this.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is in force
    Show,
    /// Say who may call
    Set {
        /// Ways in
        #[arg(required_unless_present = "file")]
        ways: Vec<String>,
        /// A JSON file with `allow` and `jwt` instead, as in alula.toml
        #[arg(long, value_name = "FILE", conflicts_with = "ways")]
        file: Option<PathBuf>,
    },
    /// Let the installation's default hold again
    Reset,
    /// Sign addresses with another key
    RotateUrlKey {
        /// How long what was signed before is good
        #[arg(long, value_name = "DURATION", value_parser = human::parse_duration, default_value = "0s")]
        keep_old: Duration,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Show => show(&client.access().await?, session),
        Action::Set { ways, file } => {
            let default = match file {
                Some(file) => read(&file)?,
                None => serde_json::json!(ways),
            };
            show(&client.set_access(&NewAccess { default: Some(default) }).await?, session)
        }
        Action::Reset => show(&client.set_access(&NewAccess::default()).await?, session),
        Action::RotateUrlKey { keep_old, yes } => {
            let keep_old_s = keep_old.as_secs();
            if !yes && keep_old_s == 0 {
                confirm("end every address that was signed before?", "nothing was changed")?;
            }
            client.rotate_url_key(&RotateRequest { keep_old_s }).await?;
            session.output.say("addresses are signed with another key from now on");
            Ok(())
        }
    }
}

fn read(file: &std::path::Path) -> Result<serde_json::Value> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

fn show(access: &AccessInfo, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(access)?);
    }
    let by = if access.default.is_some() { "the namespace says so" } else { "the installation's default" };
    Ok(session.output.line(&format!("{}  ({by})", access.in_force))?)
}
