//! `alula describe`: everything about one function, first of all whether it can be called and if not why.

use alula_model::Timestamp;
use alula_sdk::wire::{FunctionDetail, RecentRuns};
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::output::{Colour, Tone};
use crate::session::{Session, Target};

/// Versions that are shown; `alula versions` shows them all.
const VERSIONS_SHOWN: usize = 5;

/// What `alula describe` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula describe hello
  alula describe hello --json | jq .spec")]
pub(crate) struct Arguments {
    /// The function
    name: Target,
}

/// Prints it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let detail = session.client_for(&arguments.name)?.function(arguments.name.whole()?).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&detail)?);
    }
    for line in lines(&detail, session.now(), session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

fn lines(detail: &FunctionDetail, now: Timestamp, colour: Colour) -> Vec<String> {
    let mut lines = head(detail, now, colour);
    lines.extend(spec(detail));
    lines.push(line("Calls", &calls(&detail.recent)));
    lines.extend(instances(detail, colour));
    lines.push(String::new());
    let shown = &detail.versions[..detail.versions.len().min(VERSIONS_SHOWN)];
    lines.extend(super::versions::table(shown, now).lines(colour));
    if detail.versions.len() > VERSIONS_SHOWN {
        let name = &detail.function.name;
        lines.push(format!("... {} in all, see `alula versions {name}`", detail.versions.len()));
    }
    lines
}

fn head(detail: &FunctionDetail, now: Timestamp, colour: Colour) -> Vec<String> {
    let function = &detail.function;
    let mut lines = vec![line("Name", &format!("{} (namespace {})", function.name, function.namespace))];
    if !function.description.is_empty() {
        lines.push(line("About", &function.description));
    }
    match &detail.not_invocable {
        None if function.invocable => lines.push(line("Callable", &colour.paint(Tone::Good, "yes"))),
        None => lines.push(line("Callable", &colour.paint(Tone::Bad, "no"))),
        Some(reason) => {
            let text = format!("no: {} [{}]", reason.message, reason.code);
            lines.push(line("Callable", &colour.paint(Tone::Bad, &text)));
            if let Some(limit) = &reason.limit {
                lines.push(line("", &format!("change {} (now {})", limit.setting, limit.value)));
            }
            lines.push(line("", &format!("see {}", reason.help)));
        }
    }
    lines.push(line("URL", &function.url));
    lines.extend(function.routes.iter().map(|route| line("Route", route)));
    let updated = human::age(now, Timestamp(function.updated_at_ms));
    lines.push(line("Version", &format!("{} (changed {updated})", function.latest)));
    lines
}

fn spec(detail: &FunctionDetail) -> Vec<String> {
    let spec = &detail.spec;
    let mut lines = vec![line("Runtime", &spec.runtime)];
    lines.extend(spec.handler.iter().map(|handler| line("Handler", handler)));
    if !spec.command.is_empty() {
        lines.push(line("Command", &spec.command.join(" ")));
    }
    let timeout = human::millis(spec.timeout_ms);
    lines.push(line("Limits", &format!("{} MB memory, {timeout} a call", spec.memory_mb)));
    let calls = if spec.concurrency == 1 { "call" } else { "calls" };
    let scale = format!(
        "{} {calls} at once in an instance, {} to {} instances",
        spec.concurrency, spec.min_instances, spec.max_instances
    );
    lines.push(line("Scale", &scale));
    // Values may be secrets: names only.
    let names: Vec<&str> = spec.env.keys().map(String::as_str).collect();
    if !names.is_empty() {
        lines.push(line("Variables", &names.join(" ")));
    }
    lines
}

fn calls(recent: &RecentRuns) -> String {
    if recent.counted == 0 {
        return "none yet".to_owned();
    }
    let time = |us: Option<u64>| us.map_or("-".to_owned(), human::micros);
    format!(
        "of the last {}: {} failed, {} cold, p50 {}, p99 {}",
        recent.counted,
        recent.failed,
        recent.cold,
        time(recent.p50_us),
        time(recent.p99_us)
    )
}

fn instances(detail: &FunctionDetail, colour: Colour) -> Vec<String> {
    if detail.instances.is_empty() {
        return vec![line("Instances", "none; the first call starts one")];
    }
    let table = super::instances::table(&detail.instances);
    std::iter::once(String::new()).chain(table.lines(colour)).collect()
}

fn line(label: &str, value: &str) -> String {
    format!("{label:<10} {value}")
}
