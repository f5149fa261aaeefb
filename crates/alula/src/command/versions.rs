//! `alula versions`: the versions of a function, newest first.

use alula_model::Timestamp;
use alula_sdk::wire::Version;
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula versions` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula versions hello
  alula versions hello --json | jq .version")]
pub(crate) struct Arguments {
    /// The function
    name: Target,
}

/// Prints the versions.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let versions = client.versions(arguments.name.whole()?).await?.versions;
    if session.output.is_json() {
        for version in &versions {
            session.output.json(version)?;
        }
        return Ok(());
    }
    for line in table(&versions, session.now()).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

/// A table of versions.
pub(super) fn table(versions: &[Version], now: Timestamp) -> Table {
    let mut table = Table::new(&["VERSION", "NAMES", "PUBLISHED", "BY", "SIZE", "RUNTIME", "MESSAGE"]);
    for version in versions {
        let latest = version.is_latest.then_some("latest");
        let names: Vec<&str> = latest.into_iter().chain(version.aliases.iter().map(String::as_str)).collect();
        table.row([
            version.version.to_string().into(),
            Cell::toned(Tone::Good, names.join(",")),
            human::age(now, Timestamp(version.published_at_ms)).into(),
            version.published_by.as_str().into(),
            human::bytes(version.package_bytes).into(),
            version.spec.runtime.as_str().into(),
            version.message.as_str().into(),
        ]);
    }
    table
}
