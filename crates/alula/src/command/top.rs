//! `alula top`: functions with what they use now, drawn anew while somebody watches.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use alula_sdk::wire::{InstanceInfo, InstanceState};
use clap::Args;
use serde::Serialize;

use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// How often it is drawn anew.
const INTERVAL: Duration = Duration::from_secs(1);

/// Moves the cursor to the upper left corner and clears everything from there.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What `alula top` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it draws anew every second until Ctrl-C; elsewhere, and with --json, it prints once.

Examples:
  alula top
  alula top --once
  alula top --json | jq -r 'select(.busy > 0) | .function'")]
pub(crate) struct Arguments {
    /// Print once, on a terminal too
    #[arg(long)]
    once: bool,
}

/// A version of a function and what its instances use together.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    function: String,
    version: u64,
    instances: u64,
    busy: u64,
    idle: u64,
    in_flight: u64,
    memory_bytes: u64,
    /// CPU time so far.
    cpu_us: u64,
    /// Cores in use since the last look; unknown at the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<f64>,
    calls: u64,
}

/// Functions and versions with their rows.
type Rows = BTreeMap<(String, u64), Row>;

/// Prints or draws.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let output = session.output;
    let is_live = !arguments.once && !output.is_json() && io::stdout().is_terminal();
    let mut before: Option<Vec<InstanceInfo>> = None;
    loop {
        let instances = client.instances(None).await?.instances;
        let rows = rows(&instances, before.as_deref());
        if output.is_json() {
            for row in rows.values() {
                output.json(row)?;
            }
            return Ok(());
        }
        let mut lines = vec![summary(&rows)];
        lines.extend(table(&rows).lines(output.colour));
        let text = lines.join("\n");
        if !is_live {
            return Ok(output.line(&text)?);
        }
        output.line(&format!("{CLEAR}{text}"))?;
        before = Some(instances);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The instances by function and version; `before` is what they were one interval ago.
fn rows(instances: &[InstanceInfo], before: Option<&[InstanceInfo]>) -> Rows {
    let mut rows = Rows::new();
    for instance in instances {
        let key = (instance.function.clone(), instance.version);
        let row = rows.entry(key).or_insert_with(|| Row::new(instance, before.is_some()));
        row.instances += 1;
        match instance.state {
            InstanceState::Busy => row.busy += 1,
            InstanceState::Idle => row.idle += 1,
        }
        row.in_flight += instance.in_flight;
        row.memory_bytes += instance.memory_bytes;
        row.cpu_us += instance.cpu_us;
        row.calls += instance.calls;
        if let (Some(cores), Some(before)) = (&mut row.cores, before) {
            let earlier = before.iter().find(|earlier| earlier.id == instance.id);
            let used_us = instance.cpu_us.saturating_sub(earlier.map_or(0, |earlier| earlier.cpu_us));
            *cores += used_us as f64 / INTERVAL.as_micros() as f64;
        }
    }
    rows
}

impl Row {
    /// A row of nothing, for the version that `instance` runs.
    fn new(instance: &InstanceInfo, has_cores: bool) -> Self {
        Self {
            function: instance.function.clone(),
            version: instance.version,
            instances: 0,
            busy: 0,
            idle: 0,
            in_flight: 0,
            memory_bytes: 0,
            cpu_us: 0,
            cores: has_cores.then_some(0.0),
            calls: 0,
        }
    }
}

fn summary(rows: &Rows) -> String {
    let sum = |of: fn(&Row) -> u64| rows.values().map(of).sum::<u64>();
    let (instances, busy, in_flight) =
        (sum(|row| row.instances), sum(|row| row.busy), sum(|row| row.in_flight));
    let memory = human::bytes(sum(|row| row.memory_bytes));
    format!("{instances} instances, {busy} busy, {in_flight} running calls, {memory}")
}

fn table(rows: &Rows) -> Table {
    let header = ["FUNCTION", "INSTANCES", "BUSY", "IDLE", "RUNNING", "MEMORY", "CORES", "CPU TIME", "CALLS"];
    let mut table = Table::new(&header);
    for row in rows.values() {
        table.row([
            format!("{}:{}", row.function, row.version).into(),
            row.instances.to_string().into(),
            row.busy.to_string().into(),
            row.idle.to_string().into(),
            row.in_flight.to_string().into(),
            human::bytes(row.memory_bytes).into(),
            row.cores.map_or("-".to_owned(), |cores| format!("{cores:.2}")).into(),
            human::micros(row.cpu_us).into(),
            row.calls.to_string().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use crate::output::Colour;

    use super::*;

    fn instance(id: &str, state: InstanceState, cpu_us: u64) -> InstanceInfo {
        InstanceInfo {
            id: id.to_owned(),
            namespace: "default".to_owned(),
            function: "hello".to_owned(),
            version: 2,
            state,
            in_flight: u64::from(state == InstanceState::Busy),
            memory_bytes: 1024 * 1024,
            cpu_us,
            calls: 5,
            idle_ms: 0,
            age_ms: 0,
        }
    }

    #[test]
    fn instances_of_a_version_are_one_line_with_the_cores_since_the_last_look() {
        let before = [instance("a", InstanceState::Busy, 1_000_000)];
        let now =
            [instance("a", InstanceState::Busy, 1_500_000), instance("b", InstanceState::Idle, 250_000)];
        let rows = rows(&now, Some(&before));
        let row = &rows[&("hello".to_owned(), 2)];
        assert_eq!((row.instances, row.busy, row.idle, row.in_flight, row.calls), (2, 1, 1, 1, 10));
        assert_eq!(row.cores, Some(0.75));
        assert_eq!(summary(&rows), "2 instances, 1 busy, 1 running calls, 2.0 MB");
        assert!(table(&rows).lines(Colour::Off)[1].starts_with("hello:2"));
    }
}
