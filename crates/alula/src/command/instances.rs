//! `alula instances`: what runs now, one instance a line.

use alula_sdk::wire::{InstanceInfo, InstanceState, Tier};
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// What `alula instances` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula instances
  alula instances hello
  alula instances --json | jq -r 'select(.state == \"busy\") | .id'")]
pub(crate) struct Arguments {
    /// Only of this function, and of its version after a colon
    name: Option<Target>,
}

/// Prints the instances, ordered by function.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = match &arguments.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let version = super::logs::version_of(arguments.name.as_ref())?;
    let function = arguments.name.map(|target| target.name.to_string());
    let mut instances = client.instances(function).await?.instances;
    instances.retain(|instance| version.is_none_or(|version| instance.version == version));
    if session.output.is_json() {
        for instance in &instances {
            session.output.json(instance)?;
        }
        return Ok(());
    }
    if instances.is_empty() {
        session.output.say("no instances; a call starts one");
        return Ok(());
    }
    for line in table(&instances).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

/// A table of instances.
pub(super) fn table(instances: &[InstanceInfo]) -> Table {
    let header =
        ["INSTANCE", "FUNCTION", "STATE", "FROM", "RUNNING", "CALLS", "MEMORY", "CPU", "IDLE", "AGE"];
    let mut table = Table::new(&header);
    for instance in instances {
        let state = match instance.state {
            InstanceState::Idle => Cell::toned(Tone::Dim, "idle"),
            InstanceState::Busy => Cell::toned(Tone::Good, "busy"),
            InstanceState::Zygote => Cell::toned(Tone::Dim, "zygote"),
        };
        table.row([
            instance.id.as_str().into(),
            format!("{}:{}", instance.function, instance.version).into(),
            state,
            instance.tier.map_or("-", tier).into(),
            instance.in_flight.to_string().into(),
            instance.calls.to_string().into(),
            human::bytes(instance.memory_bytes).into(),
            human::micros(instance.cpu_us).into(),
            human::seconds(instance.idle_ms / 1_000).into(),
            human::seconds(instance.age_ms / 1_000).into(),
        ]);
    }
    table
}

/// What an instance was made from, in a word.
pub(super) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Warm => "warm",
        Tier::Zygote => "zygote",
        Tier::Stem => "stem",
        Tier::Cold => "cold",
    }
}

#[cfg(test)]
mod tests {
    use crate::output::Colour;

    use super::*;

    #[test]
    fn a_line_says_what_runs_and_in_which_version() {
        let instance = InstanceInfo {
            id: "i-1".to_owned(),
            namespace: "default".to_owned(),
            function: "hello".to_owned(),
            version: 3,
            tier: Some(Tier::Stem),
            state: InstanceState::Busy,
            in_flight: 2,
            memory_bytes: 1024,
            cpu_us: 1_500,
            calls: 9,
            idle_ms: 0,
            age_ms: 61_000,
        };
        let lines = table(&[instance]).lines(Colour::Off);
        assert_eq!(lines.len(), 2);
        for part in ["i-1", "hello:3", "busy", "2", "9", "1.0 KB", "1.5 ms", "1m01s"] {
            assert!(lines[1].contains(part), "{part} is not in {:?}", lines[1]);
        }
    }
}
