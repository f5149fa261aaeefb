//! `alula top`: functions with what they use now, drawn anew while somebody watches.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use alula_sdk::wire::{CeilingInfo, InstanceInfo, InstanceState};
use clap::{Args, ValueEnum};
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
  alula top --once --sort memory
  alula top --json | jq -r 'select(.busy > 0) | .function'")]
pub(crate) struct Arguments {
    /// Print once, on a terminal too
    #[arg(long)]
    once: bool,
    /// What the table is ordered by, the most first
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
}

/// What the table is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// CPU in use; CPU time so far before that is known
    Cpu,
    /// Memory
    Memory,
    /// Running calls
    Running,
    /// Calls so far
    Calls,
    /// Name, from A on
    Name,
}

/// A version of a function and what its instances use together.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    function: String,
    version: u64,
    instances: u64,
    busy: u64,
    idle: u64,
    /// Processes that instances are forked from; not among the instances.
    zygotes: u64,
    in_flight: u64,
    memory_bytes: u64,
    /// CPU time so far.
    cpu_us: u64,
    /// Cores in use since the last look; unknown at the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<f64>,
    calls: u64,
    /// Instances by what they were made from.
    from: BTreeMap<&'static str, u64>,
}

/// Prints or draws.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    let output = session.output;
    let is_live = !arguments.once && !output.is_json() && io::stdout().is_terminal();
    let mut before: Option<Vec<InstanceInfo>> = None;
    loop {
        let list = client.instances(None).await?;
        let instances = list.instances;
        let mut rows = rows(&instances, before.as_deref());
        sort(&mut rows, arguments.sort);
        if output.is_json() {
            for row in &rows {
                output.json(row)?;
            }
            return Ok(());
        }
        let mut lines = vec![summary(&rows)];
        lines.extend(list.ceilings.iter().map(|info| format!("  {}", ceiling(info))));
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
fn rows(instances: &[InstanceInfo], before: Option<&[InstanceInfo]>) -> Vec<Row> {
    let mut rows: BTreeMap<(String, u64), Row> = BTreeMap::new();
    for instance in instances {
        let key = (instance.function.clone(), instance.version);
        let row = rows.entry(key).or_insert_with(|| Row::new(instance, before.is_some()));
        match instance.state {
            InstanceState::Busy => row.busy += 1,
            InstanceState::Idle => row.idle += 1,
            InstanceState::Zygote => row.zygotes += 1,
        }
        row.instances = row.busy + row.idle;
        row.in_flight += instance.in_flight;
        row.memory_bytes += instance.memory_bytes;
        row.cpu_us += instance.cpu_us;
        row.calls += instance.calls;
        if let (Some(cores), Some(before)) = (&mut row.cores, before) {
            let earlier = before.iter().find(|earlier| earlier.id == instance.id);
            let used_us = instance.cpu_us.saturating_sub(earlier.map_or(0, |earlier| earlier.cpu_us));
            *cores += used_us as f64 / INTERVAL.as_micros() as f64;
        }
        if instance.state == InstanceState::Zygote {
            continue;
        }
        *row.from.entry(instance.tier.map_or("-", super::instances::tier)).or_default() += 1;
    }
    rows.into_values().collect()
}

/// Orders rows that are in the order of their names.
fn sort(rows: &mut [Row], by: Sort) {
    let most_first = |of: fn(&Row) -> f64| move |one: &Row, other: &Row| of(other).total_cmp(&of(one));
    match by {
        Sort::Cpu => rows.sort_by(most_first(|row| row.cores.unwrap_or(row.cpu_us as f64))),
        Sort::Memory => rows.sort_by(most_first(|row| row.memory_bytes as f64)),
        Sort::Running => rows.sort_by(most_first(|row| row.in_flight as f64)),
        Sort::Calls => rows.sort_by(most_first(|row| row.calls as f64)),
        Sort::Name => {}
    }
}

/// What some instances take of what they may take.
pub(super) fn ceiling(info: &CeilingInfo) -> String {
    let of = |max: Option<String>| max.map(|max| format!(" of {max}")).unwrap_or_default();
    format!(
        "{}: {}{} instances, {}{}",
        info.scope,
        info.instances,
        of(info.instances_max.map(|max| max.to_string())),
        human::bytes(info.memory_bytes),
        of(info.memory_bytes_max.map(human::bytes)),
    )
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
            zygotes: 0,
            in_flight: 0,
            memory_bytes: 0,
            cpu_us: 0,
            cores: has_cores.then_some(0.0),
            calls: 0,
            from: BTreeMap::new(),
        }
    }
}

fn summary(rows: &[Row]) -> String {
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let (instances, busy, in_flight) =
        (sum(|row| row.instances), sum(|row| row.busy), sum(|row| row.in_flight));
    let memory = human::bytes(sum(|row| row.memory_bytes));
    format!("{instances} instances, {busy} busy, {in_flight} running calls, {memory}")
}

fn table(rows: &[Row]) -> Table {
    let header = [
        "FUNCTION",
        "INSTANCES",
        "BUSY",
        "IDLE",
        "ZYGOTES",
        "RUNNING",
        "MEMORY",
        "CORES",
        "CPU TIME",
        "CALLS",
        "FROM",
    ];
    let mut table = Table::new(&header);
    for row in rows {
        table.row([
            format!("{}:{}", row.function, row.version).into(),
            row.instances.to_string().into(),
            row.busy.to_string().into(),
            row.idle.to_string().into(),
            row.zygotes.to_string().into(),
            row.in_flight.to_string().into(),
            human::bytes(row.memory_bytes).into(),
            row.cores.map_or("-".to_owned(), |cores| format!("{cores:.2}")).into(),
            human::micros(row.cpu_us).into(),
            row.calls.to_string().into(),
            row.from
                .iter()
                .map(|(from, count)| format!("{count} {from}"))
                .collect::<Vec<_>>()
                .join(", ")
                .into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use alula_sdk::wire::Tier;

    use crate::output::Colour;

    use super::*;

    fn instance(id: &str, state: InstanceState, cpu_us: u64) -> InstanceInfo {
        InstanceInfo {
            id: id.to_owned(),
            namespace: "default".to_owned(),
            function: "hello".to_owned(),
            version: 2,
            tier: Some(Tier::Stem),
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
        let now = [
            instance("a", InstanceState::Busy, 1_500_000),
            instance("b", InstanceState::Idle, 250_000),
            instance("c", InstanceState::Zygote, 0),
        ];
        let rows = rows(&now, Some(&before));
        let row = &rows[0];
        assert_eq!((row.instances, row.busy, row.idle, row.zygotes), (2, 1, 1, 1));
        assert_eq!((row.in_flight, row.calls), (1, 15));
        assert_eq!(row.cores, Some(0.75));
        assert_eq!(summary(&rows), "2 instances, 1 busy, 1 running calls, 3.0 MB");
        let line = &table(&rows).lines(Colour::Off)[1];
        assert!(line.starts_with("hello:2") && line.ends_with("2 stem"), "{line}");
    }

    #[test]
    fn rows_are_ordered_by_what_was_asked_for_and_equals_by_name() {
        let of = |function: &str, cpu_us, memory_bytes| InstanceInfo {
            function: function.to_owned(),
            memory_bytes,
            ..instance(function, InstanceState::Idle, cpu_us)
        };
        let instances = [of("c", 5, 1), of("a", 1, 1), of("b", 5, 9)];
        let ordered = |by| {
            let mut rows = rows(&instances, None);
            sort(&mut rows, by);
            rows.into_iter().map(|row| row.function).collect::<String>()
        };
        assert_eq!([Sort::Cpu, Sort::Memory, Sort::Name].map(ordered), ["bca", "bac", "abc"]);
    }

    #[test]
    fn a_ceiling_is_told_only_where_there_is_one() {
        let info = CeilingInfo {
            scope: "namespace shop".to_owned(),
            instances: 3,
            instances_max: Some(10),
            memory_bytes: 1024 * 1024,
            memory_bytes_max: None,
        };
        assert_eq!(ceiling(&info), "namespace shop: 3 of 10 instances, 1.0 MB");
    }
}
