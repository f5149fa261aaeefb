//! `alula audit`: who changed what, newest first.

use alula_model::Timestamp;
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::session::{Session, Target};
use crate::table::Table;

/// What `alula audit` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula audit
  alula audit hello --limit 5")]
pub(crate) struct Arguments {
    /// Only about this function
    name: Option<Target>,
    /// How many entries
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
}

/// Prints the entries.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = match &arguments.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let function = arguments.name.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?;
    let entries = client.audit(function, Some(arguments.limit)).await?.entries;
    if session.output.is_json() {
        for entry in &entries {
            session.output.json(entry)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["WHEN", "WHO", "ACTION", "SUBJECT", "DETAIL"]);
    for entry in &entries {
        table.row([
            human::moment(Timestamp(entry.at_ms)).into(),
            entry.actor.as_str().into(),
            entry.action.as_str().into(),
            entry.subject.as_str().into(),
            entry.detail.as_str().into(),
        ]);
    }
    for line in table.lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}
