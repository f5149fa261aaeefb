//! `alula logout`: ends the session that is kept.

use clap::Args;

use crate::failure::Result;
use crate::profile::Profiles;
use crate::session::Session;

/// What `alula logout` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula logout
  alula logout --profile prod")]
pub(crate) struct Arguments {}

/// Ends it, here and on the platform.
pub(crate) async fn run(_arguments: Arguments, session: &Session) -> Result<()> {
    session.client()?.log_out().await?;
    let path = session.environment.profiles_path()?;
    let mut profiles = Profiles::load(&path)?;
    let name = session.global.profile.clone().or_else(|| profiles.current.clone());
    if let Some(profile) = name.and_then(|name| profiles.profiles.get_mut(&name)) {
        profile.token = None;
        profiles.save(&path)?;
    }
    session.output.say("the session has ended");
    Ok(())
}
