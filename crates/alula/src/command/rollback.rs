//! `alula rollback`: lets `latest` name an earlier version; calls that run finish where they began.

use clap::Args;

use crate::failure::Result;
use crate::session::{Session, Target};

/// What `alula rollback` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula rollback hello           to the version before the present one
  alula rollback hello --to 3    to version 3, earlier or later")]
pub(crate) struct Arguments {
    /// The function
    name: Target,
    /// The version to go to
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
}

/// Moves the pointer and prints where it is now.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let function = client.rollback(arguments.name.name.as_str(), arguments.to).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&function)?);
    }
    Ok(session.output.line(&format!("{} version {}  {}", function.name, function.latest, function.url))?)
}
