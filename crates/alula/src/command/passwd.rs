//! `alula passwd`: one's own password.

use alula_sdk::wire::PasswordRequest;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::secret_input;
use crate::session::Session;

/// What `alula passwd` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula passwd anna
  printf '%s\\n' OLD NEW NEW | alula passwd anna

At least 12 characters. All your sessions end.")]
pub(crate) struct Arguments {
    /// What you are called
    name: String,
}

/// Changes it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { name: user } = arguments;
    let password = secret_input::ask("the password that you have")?;
    let new_password = secret_input::ask("the one that you choose")?;
    if secret_input::ask("once more")? != new_password {
        return Err(Failure::usage("the two are not the same; nothing was changed"));
    }
    session.client()?.change_password(&PasswordRequest { user, password, new_password }).await?;
    session.output.say("it is changed; log in with it");
    Ok(())
}
