//! `alula sign-url`: an address that whoever has it may call once more and again, until it ends.

use std::time::Duration;

use alula_model::Qualifier;
use alula_sdk::wire::NewSignedUrl;
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::session::{Session, Target};

/// What `alula sign-url` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula sign-url report --expires 1h
  alula sign-url report:live --path '/today?format=pdf' --expires 10m
  curl \"$(alula sign-url upload --method POST --expires 5m)\" --data-binary @photo.jpg

Method, path and query are covered by the signature; headers and body are not. The function must
let signed addresses in: access = \"signed-url\" in its alula.toml.")]
pub(crate) struct Arguments {
    /// The function, and a version or alias after a colon
    function: Target,
    /// The method that the address is for
    #[arg(long, default_value = "GET")]
    method: String,
    /// Path and query as the function sees them
    #[arg(long, default_value = "/")]
    path: String,
    /// How long it is good: 30s, 10m, 1h, 7d at the most
    #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
    expires: Duration,
}

/// Prints the address.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { function, method, path, expires } = arguments;
    let qualifier = (function.qualifier != Qualifier::Latest).then(|| function.qualifier.to_string());
    let new = NewSignedUrl { method, path, qualifier, expires_in_s: expires.as_secs() };
    let signed = session.client_for(&function)?.sign_url(function.name.as_str(), &new).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&signed)?);
    }
    Ok(session.output.line(&signed.url)?)
}
