//! `alula secret`: values that functions get and nobody reads back. A value is never an argument, since everybody on a
//! machine can read the arguments of a program.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use alula_model::Timestamp;
use alula_sdk::wire::{SecretInfo, SecretValue};
use clap::{Args, Subcommand};

use crate::confirm::confirm;
use crate::failure::{Failure, Result};
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// More than any secret may have; what is longer is refused by the platform, and a device without an end must not be read.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// What `alula secret` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula secret set db_password                          # asks, without showing what is typed
  printf %s \"$PASSWORD\" | alula secret set db_password
  alula secret set tls_key --file key.pem --namespace shop
  alula secret list
  alula secret rollback db_password
  alula secret remove db_password --yes
  alula secret rotate-master

A function gets it by `secrets = [\"db_password\"]` in alula.toml, as the variable DB_PASSWORD.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set a secret, or a new version of it; the value comes from standard input, a file, or is asked for
    #[command(visible_alias = "rotate")]
    Set {
        /// What it is called
        name: String,
        /// Read the value from this file
        #[arg(long, short)]
        file: Option<PathBuf>,
    },
    /// List secrets: names, versions, who uses them; never values
    #[command(visible_alias = "ls")]
    List,
    /// List the versions of a secret
    Versions {
        /// Which secret
        name: String,
    },
    /// Put an earlier version into force again
    Rollback {
        /// Which secret
        name: String,
        /// Its number; without it, the one before the one in force
        #[arg(long)]
        to: Option<u64>,
    },
    /// Remove a secret that no function uses
    #[command(visible_alias = "rm")]
    Remove {
        /// Which secret
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make a new master key and encrypt every secret again (administrators)
    RotateMaster,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Set { name, file } => {
            let value = SecretValue { value: value(&name, file.as_deref())? };
            let set = client.set_secret(&name, &value).await?;
            told(&set, &format!("secret {name} is at version {}", set.current), session)
        }
        Action::List => list(&client.secrets().await?.secrets, session),
        Action::Versions { name } => {
            let secrets = client.secrets().await?.secrets;
            let found = secrets.iter().find(|secret| secret.name == name);
            versions(found.ok_or_else(|| Failure::usage(format!("there is no secret {name}")))?, session)
        }
        Action::Rollback { name, to } => {
            let now = client.rollback_secret(&name, to).await?;
            told(&now, &format!("secret {name} is at version {} again", now.current), session)
        }
        Action::Remove { name, yes } => {
            if !yes {
                confirm(&format!("remove secret {name} with all its versions?"), "nothing was removed")?;
            }
            client.remove_secret(&name).await?;
            session.output.say(&format!("secret {name} is removed"));
            Ok(())
        }
        Action::RotateMaster => {
            let rotated = client.rotate_master_key().await?;
            if session.output.is_json() {
                return Ok(session.output.json(&rotated)?);
            }
            let (key, secrets) = (&rotated.key, rotated.secrets);
            session.output.say(&format!("{secrets} secrets are encrypted under the new master key {key}"));
            Ok(())
        }
    }
}

/// The value, without the one line break that editors and `echo` put at the end.
fn value(name: &str, file: Option<&Path>) -> Result<String> {
    let mut text = match file {
        Some(path) => read(std::fs::File::open(path)?)?,
        None if std::io::stdin().is_terminal() => {
            let terminal = console::Term::stderr();
            terminal.write_str(&format!("value of {name}: "))?;
            terminal.read_secure_line()?
        }
        None => read(std::io::stdin().lock())?,
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(Failure::usage("the value is empty; nothing was set")) } else { Ok(text) }
}

fn read(from: impl std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
    let not_text =
        || Failure::usage("the value is not UTF-8 text").remedy("encode it, as Base64 for instance");
    String::from_utf8(bytes).map_err(|_| not_text())
}

fn told(secret: &SecretInfo, words: &str, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(secret)?);
    }
    session.output.say(words);
    Ok(())
}

fn list(secrets: &[SecretInfo], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(secrets.iter().try_for_each(|secret| session.output.json(secret))?);
    }
    if secrets.is_empty() {
        session.output.say("no secrets; `alula secret set NAME` makes one");
        return Ok(());
    }
    let now = session.now();
    let mut table = Table::new(&["NAME", "VERSION", "KEPT", "SET", "BY", "USED BY"]);
    for secret in secrets {
        let current = secret.versions.iter().find(|version| version.number == secret.current);
        let used_by = if secret.used_by.is_empty() { "-".to_owned() } else { secret.used_by.join(", ") };
        table.row([
            secret.name.as_str().into(),
            secret.current.to_string().into(),
            secret.versions.len().to_string().into(),
            current.map_or("-".to_owned(), |version| human::age(now, Timestamp(version.set_at_ms))).into(),
            current.map_or("-", |version| version.set_by.as_str()).into(),
            used_by.into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

fn versions(secret: &SecretInfo, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(secret.versions.iter().try_for_each(|version| session.output.json(version))?);
    }
    let now = session.now();
    let mut table = Table::new(&["VERSION", "IN FORCE", "SET", "BY"]);
    for version in &secret.versions {
        let in_force = if version.number == secret.current { "yes" } else { "" };
        table.row([
            version.number.to_string().into(),
            in_force.into(),
            human::age(now, Timestamp(version.set_at_ms)).into(),
            version.set_by.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}
