//! `alula stats`: how many calls succeed, by whose fault the others failed, how long they take.

use alula_sdk::wire::query::StatsQuery;
use alula_sdk::wire::{Stats, StatsOf, WindowStats};
use clap::{Args, ValueEnum};

use crate::failure::Result;
use crate::human;
use crate::output::Tone;
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// Below this percentage of success something is wrong.
const SUCCESS_BAD: f64 = 99.0;
/// Below this one it may be.
const SUCCESS_DOUBTFUL: f64 = 99.9;

/// What `alula stats` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Success is the share of calls that failed by nobody's fault but perhaps their callers'. With
a function's name, and with --node, all windows are shown; otherwise one of them.

Examples:
  alula stats
  alula stats hello
  alula stats --app shop --window 1h
  alula stats --node
  alula stats --json | jq -r '.stats[] | select(.windows[0].platform_faults > 0) | .function'")]
pub(crate) struct Arguments {
    /// The function; without it, the namespace with its apps and functions
    #[arg(conflicts_with_all = ["app", "node"])]
    name: Option<Target>,
    /// An app and its functions
    #[arg(long, value_name = "NAME", conflicts_with = "node")]
    app: Option<String>,
    /// All namespaces of the node together
    #[arg(long)]
    node: bool,
    /// The span up to now
    #[arg(long, value_enum)]
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Window {
    #[value(name = "1m")]
    Minute,
    #[value(name = "5m")]
    FiveMinutes,
    #[value(name = "1h")]
    Hour,
    #[value(name = "24h")]
    Day,
}

impl Window {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::Day => "24h",
        }
    }
}

/// Asks and prints.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { name, app, node, window } = arguments;
    let client = match &name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let function = name.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?;
    let usual = (function.is_none() && !node && !session.output.is_json()).then_some(Window::FiveMinutes);
    let window = window.or(usual).map(|window| window.as_str().to_owned());
    let mut list = match node {
        true => client.node_stats().await?,
        false => client.stats(StatsQuery { namespace: None, app, function, window: window.clone() }).await?,
    };
    for stats in &mut list.stats {
        stats.windows.retain(|stats| window.as_ref().is_none_or(|window| *window == stats.window));
    }
    if session.output.is_json() {
        return Ok(session.output.json(&list)?);
    }
    if list.stats.is_empty() {
        session.output.say("no call has ended within that time");
        return Ok(());
    }
    Ok(table(&list.stats).print(session.output)?)
}

fn table(list: &[Stats]) -> Table {
    let mut table = Table::new(&[
        "OF", "WINDOW", "CALLS", "PER S", "SUCCESS", "FUNCTION", "PLATFORM", "429", "CALLER", "P50", "P90",
        "P99",
    ]);
    for stats in list {
        for window in &stats.windows {
            table.row(row(&subject(stats), window));
        }
    }
    table
}

fn subject(stats: &Stats) -> String {
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    match stats.of {
        StatsOf::Node => "node".to_owned(),
        StatsOf::Namespace => format!("namespace {}", text(&stats.namespace)),
        StatsOf::App => format!("app {}", text(&stats.app)),
        StatsOf::Function => text(&stats.function),
    }
}

fn row(subject: &str, stats: &WindowStats) -> [Cell; 12] {
    let tone = match stats.success_percent {
        Some(percent) if percent < SUCCESS_BAD => Tone::Bad,
        Some(percent) if percent < SUCCESS_DOUBTFUL => Tone::Warn,
        Some(_) => Tone::Good,
        None => Tone::Plain,
    };
    let success = stats.success_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2} %"));
    let micros = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), human::micros);
    [
        subject.into(),
        stats.window.as_str().into(),
        stats.calls.to_string().into(),
        format!("{:.1}", stats.calls_per_second).into(),
        Cell::toned(tone, success),
        stats.function_faults.to_string().into(),
        stats.platform_faults.to_string().into(),
        stats.throttled.to_string().into(),
        stats.caller_faults.to_string().into(),
        micros(stats.p50_us).into(),
        micros(stats.p90_us).into(),
        micros(stats.p99_us).into(),
    ]
}
