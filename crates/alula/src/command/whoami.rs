//! `alula whoami`: whose token is used, and what it may.

use clap::Args;

use crate::command::member::in_words;
use crate::failure::Result;
use crate::session::Session;

/// What `alula whoami` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula whoami
  alula whoami --json")]
pub(crate) struct Arguments {}

/// Tells it.
pub(crate) async fn run(_arguments: Arguments, session: &Session) -> Result<()> {
    let who = session.client()?.whoami().await?;
    if session.output.is_json() {
        return Ok(session.output.json(&who)?);
    }
    let may = match (who.is_administrator, who.grants.as_slice()) {
        (true, _) => "administrator of the platform".to_owned(),
        (false, []) => "no role anywhere".to_owned(),
        (false, grants) => in_words(grants),
    };
    Ok(session.output.line(&format!("{}: {may}", who.name))?)
}
