//! `alula queue`: how much waits in the queue of asynchronous calls, and pausing or draining it.

use alula_sdk::wire::{Flow, QueueFlow, QueueInfo, QueueLane, QueueTotals};
use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Colour, Tone};
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula queue` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  alula queue
  alula queue orders
  alula queue pause orders
  alula queue resume orders
  alula queue drain --all
  alula queue pause --namespace shop

Paused calls are accepted and wait. While something is drained no more are accepted and
those that are there run. A function's name means the function, no name the namespace,
--all everything; the narrowest that is set counts, and `resume` takes back what was set
for the same.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only this function
    name: Option<Target>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let calls wait
    Pause(Scope),
    /// Accept and run calls again
    Resume(Scope),
    /// Accept no more calls and run those that are there
    Drain(Scope),
}

#[derive(Debug, Args)]
struct Scope {
    /// The function; without it, the namespace
    name: Option<Target>,
    /// Every function of every namespace
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        None => show(arguments.name.as_ref(), session).await,
        Some(Action::Pause(scope)) => set(Flow::Paused, &scope, session).await,
        Some(Action::Resume(scope)) => set(Flow::Open, &scope, session).await,
        Some(Action::Drain(scope)) => set(Flow::Draining, &scope, session).await,
    }
}

async fn set(flow: Flow, scope: &Scope, session: &Session) -> Result<()> {
    let (client, function) = match &scope.name {
        Some(target) => (session.client_for(target)?, Some(target.whole()?.to_owned())),
        None => (session.client()?, None),
    };
    let namespace = (!scope.all).then(|| client.namespace().to_owned());
    let set = client.set_flow(&QueueFlow { flow, namespace, function }).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&set)?);
    }
    let words = match set.flow {
        Flow::Open => "accepted and run",
        Flow::Paused => "accepted and wait",
        Flow::Draining => "no longer accepted; those that are there run",
    };
    session.output.say(&format!("asynchronous calls of {} are {words}", scope_words(&set)));
    Ok(())
}

fn scope_words(flow: &QueueFlow) -> String {
    match (&flow.namespace, &flow.function) {
        (Some(namespace), Some(function)) => format!("{function} in the namespace {namespace}"),
        (Some(namespace), None) => format!("the namespace {namespace}"),
        (None, _) => "everything".to_owned(),
    }
}

async fn show(name: Option<&Target>, session: &Session) -> Result<()> {
    let (client, function) = match name {
        Some(target) => (session.client_for(target)?, Some(target.whole()?.to_owned())),
        None => (session.client()?, None),
    };
    // Without a function or a namespace it is the whole queue that is asked for.
    let is_narrow = name.is_some() || session.global.namespace.is_some();
    let info = client.queue(is_narrow.then(|| client.namespace().to_owned()), function).await?;
    if session.output.is_json() {
        session.output.json(&info)?;
    } else {
        for line in lines(&info, session.output.colour) {
            session.output.line(&line)?;
        }
    }
    let imbalance = info.totals.map_or(0, |totals| totals.imbalance);
    if imbalance != 0 {
        let message = format!("{imbalance} accepted calls are not accounted for");
        return Err(Failure::failed("imbalance", message)
            .remedy("this is a defect of the platform: keep its log and data directory, and report it"));
    }
    Ok(())
}

fn lines(info: &QueueInfo, colour: Colour) -> Vec<String> {
    let mut lines: Vec<String> = info.totals.iter().map(totals).collect();
    lines.extend(info.flows.iter().map(|flow| {
        let (tone, words) = match flow.flow {
            Flow::Open => (Tone::Good, "open"),
            Flow::Paused => (Tone::Warn, "paused"),
            Flow::Draining => (Tone::Warn, "draining"),
        };
        format!("{}: {}", scope_words(flow), colour.paint(tone, words))
    }));
    if !info.lanes.is_empty() {
        lines.push(String::new());
        lines.extend(table(&info.lanes).lines(colour));
    }
    lines
}

fn totals(totals: &QueueTotals) -> String {
    let QueueTotals { accepted, done, cancelled, purged, waiting, running, dead, imbalance: _ } = totals;
    format!(
        "{accepted} accepted: {waiting} waiting, {running} running, {done} done, {dead} dead, {cancelled} cancelled, \
         {purged} purged"
    )
}

fn table(lanes: &[QueueLane]) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "FUNCTION",
        "LANE",
        "READY",
        "DELAYED",
        "HELD",
        "RUNNING",
        "DEAD",
        "OLDEST",
        "ENDED/S",
    ]);
    for lane in lanes {
        let dead = if lane.dead > 0 { Tone::Bad } else { Tone::Plain };
        let is_alive = lane.available + lane.delayed + lane.held_back + lane.running > 0;
        table.row([
            lane.namespace.as_str().into(),
            lane.function.as_str().into(),
            lane.class.as_str().into(),
            lane.available.to_string().into(),
            lane.delayed.to_string().into(),
            lane.held_back.to_string().into(),
            lane.running.to_string().into(),
            Cell::toned(dead, lane.dead.to_string()),
            if is_alive { human::millis(lane.oldest_ms) } else { String::new() }.into(),
            format!("{:.1}", lane.ended_per_second).into(),
        ]);
    }
    table
}
