//! `alula login`: a session instead of a key.

use alula_model::Timestamp;
use alula_sdk::wire::{LoginAnswer, LoginRequest};
use clap::Args;

use crate::failure::{Failure, Result};
use crate::human;
use crate::profile::Profiles;
use crate::secret_input;
use crate::session::Session;

/// The profile that is made where there is none.
const PROFILE_DEFAULT: &str = "default";

/// What `alula login` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula login anna --url https://alula.example.com
  alula login anna < password.txt

The password is asked for, or read as a line from a pipe. The session is kept in the profile that is
in force (--profile, else the current one, else one named default), which only you can read.")]
pub(crate) struct Arguments {
    /// What you are called
    name: String,
}

/// Logs in.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { name: user } = arguments;
    let password = secret_input::ask(&format!("password of {user}"))?;
    let request = LoginRequest { user, password, cookie: false };
    let begun = session.client()?.log_in(&request).await?;
    keep(&begun, session)
}

/// Keeps a session in a profile.
pub(crate) fn keep(begun: &LoginAnswer, session: &Session) -> Result<()> {
    let token = begun.token.clone().ok_or_else(|| Failure::failed("login", "the platform gave no token"))?;
    let path = session.environment.profiles_path()?;
    let mut profiles = Profiles::load(&path)?;
    let name = session.global.profile.clone().or_else(|| profiles.current.clone());
    let name = name.unwrap_or_else(|| PROFILE_DEFAULT.to_owned());
    let profile = profiles.profiles.entry(name.clone()).or_default();
    session.client()?.url().clone_into(&mut profile.url);
    profile.token = Some(token);
    profiles.current.get_or_insert_with(|| name.clone());
    profiles.save(&path)?;
    let info = &begun.session;
    if session.output.is_json() {
        return Ok(session.output.json(info)?);
    }
    let ends = human::moment(Timestamp(info.ends_at_ms));
    session.output.say(&format!("you are {} in profile {name} until {ends} at the latest", info.user));
    Ok(())
}
