//! `alula list`: the functions of a namespace, one a line.

use alula_model::Timestamp;
use alula_sdk::Client;
use alula_sdk::wire::FunctionSummary;
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::Session;
use crate::table::{Cell, Table};

/// What `alula list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula list
  alula list --namespace shop
  alula list --json | jq -r .name")]
pub(crate) struct Arguments {}

/// Prints the functions in the order of their names.
pub(crate) async fn run(_arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let functions = all(&client).await?;
    if session.output.is_json() {
        for function in &functions {
            session.output.json(function)?;
        }
        return Ok(());
    }
    if functions.is_empty() {
        session.output.say(&format!(
            "no functions in the namespace {}; `alula deploy PATH` makes one",
            client.namespace()
        ));
        return Ok(());
    }
    for line in table(&functions, session.now()).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

/// The functions of all pages.
async fn all(client: &Client) -> Result<Vec<FunctionSummary>> {
    let mut functions = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.functions(None, cursor).await?;
        let is_last = page.next.is_none() || page.functions.is_empty();
        functions.extend(page.functions);
        if is_last {
            return Ok(functions);
        }
        cursor = page.next;
    }
}

fn table(functions: &[FunctionSummary], now: Timestamp) -> Table {
    let mut table = Table::new(&["NAME", "RUNTIME", "VERSION", "READY", "INSTANCES", "UPDATED", "URL"]);
    for function in functions {
        let ready =
            if function.invocable { Cell::toned(Tone::Good, "yes") } else { Cell::toned(Tone::Bad, "no") };
        table.row([
            function.name.as_str().into(),
            function.runtime.as_str().into(),
            function.latest.to_string().into(),
            ready,
            function.instances.to_string().into(),
            human::age(now, Timestamp(function.updated_at_ms)).into(),
            function.url.as_str().into(),
        ]);
    }
    table
}
