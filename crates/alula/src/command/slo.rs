//! `alula slo`: what is promised of functions, what is left of their error budgets, how fast it goes.

use alula_sdk::wire::{BurnRate, ObjectiveInfo};
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula slo` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
A burn rate of 1 uses the error budget up exactly with the end of its window. Each column
shows the rate over a long and a short span; where both are above their limit, it is marked.

Examples:
  alula slo
  alula slo hello
  alula slo --json | jq -r '.objectives[] | select(.budget_left_percent < 0) | .function'")]
pub(crate) struct Arguments {
    /// The function; without it, every function of the namespace that has objectives
    name: Option<Target>,
}

/// Asks and prints.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = match &arguments.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let function = arguments.name.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?;
    let list = client.objectives(function).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&list)?);
    }
    if list.objectives.is_empty() {
        session.output.say("no objectives: a function states them in the table slo of its alula.toml");
        return Ok(());
    }
    let first = list.objectives.first().map(|objective| objective.burn_rates.as_slice()).unwrap_or_default();
    let spans: Vec<String> = first.iter().map(spans).collect();
    let mut titles = vec!["FUNCTION", "OBJECTIVE", "DAYS", "CALLS", "BAD", "REACHED", "BUDGET LEFT"];
    titles.extend(spans.iter().map(String::as_str));
    let mut table = Table::new(&titles);
    for objective in &list.objectives {
        table.row(row(objective));
    }
    Ok(table.print(session.output)?)
}

fn spans(burn: &BurnRate) -> String {
    let span = |minutes: u32| match minutes {
        minutes if minutes < 60 => format!("{minutes}m"),
        minutes => format!("{}h", minutes / 60),
    };
    format!("{}/{}", span(burn.long_minutes), span(burn.short_minutes))
}

fn row(info: &ObjectiveInfo) -> [Cell; 11] {
    let promise = match info.latency_ms {
        Some(ms) => format!("{} % in {}", info.target_percent, human::millis(ms)),
        None => format!("{} % {}", info.target_percent, info.objective),
    };
    let left = info.budget_left_percent;
    let tone = if left <= 0.0 { Tone::Bad } else { Tone::Good };
    let mut burns = info.burn_rates.iter().map(|burn| {
        let (tone, mark) = if burn.too_fast { (Tone::Bad, " !") } else { (Tone::Plain, "") };
        Cell::toned(tone, format!("{:.1}/{:.1}{mark}", burn.long, burn.short))
    });
    let mut burn = || burns.next().unwrap_or_else(|| "".into());
    [
        info.function.as_str().into(),
        promise.into(),
        info.window_days.to_string().into(),
        info.calls.to_string().into(),
        info.bad.to_string().into(),
        info.reached_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.3} %")).into(),
        Cell::toned(tone, format!("{left:.1} %")),
        burn(),
        burn(),
        burn(),
        burn(),
    ]
}
