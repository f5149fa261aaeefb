//! `alula audit`: who changed what, newest first; whether the record is whole; all of it.

use alula_model::Timestamp;
use alula_sdk::wire::AuditReport;
use clap::{Args, Subcommand};

use crate::failure::{Exit, Failure, Result};
use crate::human;
use crate::session::{Session, Target};
use crate::table::Table;

/// What `alula audit` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula audit
  alula audit hello --limit 5
  alula audit verify
  alula audit export > audit.ndjson")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only about this function
    name: Option<Target>,
    /// How many entries
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that no entry was changed, left out or put in
    Verify,
    /// Print every entry as JSON, one a line, newest first
    Export,
}

/// Prints entries, or does what is asked with all of them.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Some(Action::Verify) => return verify(session).await,
        Some(Action::Export) => return export(session).await,
        None => {}
    }
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
    let mut table = Table::new(&["WHEN", "WHO", "FROM", "ACTION", "SUBJECT", "DETAIL"]);
    for entry in &entries {
        table.row([
            human::moment(Timestamp(entry.at_ms)).into(),
            entry.actor.as_str().into(),
            entry.from.as_deref().unwrap_or_default().into(),
            entry.action.as_str().into(),
            entry.subject.as_str().into(),
            entry.detail.as_str().into(),
        ]);
    }
    Ok(table.print(session.output)?)
}

async fn verify(session: &Session) -> Result<()> {
    let report = session.client()?.verify_audit().await?;
    if session.output.is_json() {
        session.output.json(&report)?;
    } else if let (Some(head), true) = (&report.head, report.is_whole) {
        let AuditReport { entries, first, last, .. } = report;
        session.output.line(&format!("{entries} entries, {first} to {last}, whole; the newest is {head}"))?;
    } else if report.is_whole {
        session.output.line("no entries")?;
    }
    match report.fault {
        Some(fault) => {
            Err(Failure::new(Exit::Failed, "audit_broken", format!("the audit record is broken: {fault}")))
        }
        None => Ok(()),
    }
}

async fn export(session: &Session) -> Result<()> {
    let client = session.client()?;
    let mut before = None;
    loop {
        let entries = client.audit_before(before).await?.entries;
        let Some(oldest) = entries.last() else { return Ok(()) };
        before = Some(oldest.number);
        entries.iter().try_for_each(|entry| session.output.json(entry))?;
    }
}
