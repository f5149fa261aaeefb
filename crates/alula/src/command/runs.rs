//! `alula runs`: what became of calls; `alula runs show ID` tells where the time of one went.

use alula_model::Timestamp;
use alula_sdk::wire::query::ListRuns;
use alula_sdk::wire::{Run, RunPage, RunStatus, Tier};
use clap::{Args, Subcommand, ValueEnum};

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Colour, Tone, printable};
use crate::session::{Session, Target};
use crate::table::{Cell, Table};

/// Width of the timeline in characters.
const TIMELINE_WIDTH: u64 = 40;

/// What `alula runs` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  alula runs hello
  alula runs hello --status failed --since 1h
  alula runs show 01981e9c-5c5e-7cc1-9f2b-3f6f2a1b7c11")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one call with its attempts and where the time went
    Show {
        /// The call's id, as in X-Alula-Invocation-Id
        id: String,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// The function, and its version after a colon
    name: Option<Target>,
    /// Only with this outcome
    #[arg(long)]
    status: Option<Status>,
    /// Only of this version
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    /// Only from this moment on: 30s, 10m, 2h30m, 1d, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: u32,
    /// Go on behind an earlier page
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Done,
    Failed,
    Timeout,
    Rejected,
    Cancelled,
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Done => Self::Done,
            Status::Failed => Self::Failed,
            Status::Timeout => Self::Timeout,
            Status::Rejected => Self::Rejected,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// Prints a page of runs, or one in full.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action {
        Some(Action::Show { id }) => show(&id, session).await,
        None => list(arguments.filter, session).await,
    }
}

async fn list(filter: Filter, session: &Session) -> Result<()> {
    let client = match &filter.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let page = client.runs(query(filter, session.now())?).await?;
    if session.output.is_json() {
        for run in &page.runs {
            session.output.json(run)?;
        }
    } else {
        for line in table(&page, session.now()).lines(session.output.colour) {
            session.output.line(&line)?;
        }
    }
    if let Some(next) = &page.next {
        session.output.tell(Tone::Dim, &format!("there are more: add --cursor {next}"));
    }
    Ok(())
}

fn query(filter: Filter, now: Timestamp) -> Result<ListRuns> {
    let moment = |text: Option<String>| match text {
        Some(text) => human::parse_moment(&text, now).map(|at| Some(at.as_millis())).map_err(Failure::usage),
        None => Ok(None),
    };
    Ok(ListRuns {
        namespace: None,
        version: filter.version.or(super::logs::version_of(filter.name.as_ref())?),
        function: filter.name.map(|target| target.name.to_string()),
        status: filter.status.map(RunStatus::from),
        since_ms: moment(filter.since)?,
        until_ms: moment(filter.until)?,
        limit: Some(filter.limit),
        cursor: filter.cursor,
    })
}

fn table(page: &RunPage, now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "FUNCTION", "STATUS", "HTTP", "STARTED", "TOOK", "START", "ERROR"]);
    for run in &page.runs {
        table.row([
            run.id.as_str().into(),
            format!("{}:{}", run.function, run.version).into(),
            Cell::toned(tone(run.status), status(run)),
            run.http_status.map(|status| status.to_string()).unwrap_or_default().into(),
            human::age(now, Timestamp(run.started_at_ms)).into(),
            human::micros(run.phases.total_us).into(),
            tier(run).into(),
            run.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

async fn show(id: &str, session: &Session) -> Result<()> {
    let detail = session.client()?.run(id).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&detail)?);
    }
    for attempt in &detail.attempts {
        for line in attempt_lines(attempt, session.output.colour) {
            session.output.line(&line)?;
        }
    }
    session.output.tell(Tone::Dim, &format!("`alula logs --invocation {id}` shows what it logged"));
    Ok(())
}

fn attempt_lines(run: &Run, colour: Colour) -> Vec<String> {
    let line = |label: &str, value: &str| format!("{label:<9} {value}");
    let http = run.http_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let mut lines = vec![
        line("Call", &run.id),
        line("Function", &format!("{}:{} called as {}", run.function, run.version, run.qualifier)),
        line("Attempt", &run.attempt.to_string()),
        line("Status", &format!("{}{http}", colour.paint(tone(run.status), status(run)))),
    ];
    if let Some(error) = &run.error {
        let message = printable(run.message.as_deref().unwrap_or_default());
        lines.push(line("Error", &format!("{message} [{error}]")));
    }
    if let Some(parent) = &run.parent {
        lines.push(line("Called by", parent));
    }
    if let Some(caller) = &run.caller {
        lines.push(line("Caller", &printable(caller)));
    }
    lines.push(line("Started", &human::moment(Timestamp(run.started_at_ms))));
    let instance = match &run.instance {
        Some(instance) => format!("{instance} ({})", tier(run)),
        None => "none was reached".to_owned(),
    };
    lines.push(line("Instance", &instance));
    let (request, response) = (human::bytes(run.request_bytes), human::bytes(run.response_bytes));
    lines.push(line("Bodies", &format!("{request} in, {response} out")));
    lines.extend(timeline(run));
    lines
}

/// The phases one below the other, each where it was on the way from begin to end.
fn timeline(run: &Run) -> Vec<String> {
    let phases = run.phases;
    let steps = [
        ("queue", phases.queue_us),
        ("start", phases.start_us),
        ("init", phases.init_us),
        ("run", phases.run_us),
    ];
    let total = phases.total_us.max(1);
    let column = |us: u64| (us.saturating_mul(TIMELINE_WIDTH) / total).min(TIMELINE_WIDTH);
    let mut passed = 0_u64;
    let mut lines = Vec::new();
    for (name, took) in steps {
        let (from, to) = (column(passed), column(passed.saturating_add(took)));
        passed = passed.saturating_add(took);
        let mark = if took == 0 { 0 } else { (to - from).max(1) };
        let from = from.min(TIMELINE_WIDTH - mark);
        let repeat = |text: &str, count: u64| text.repeat(usize::try_from(count).unwrap_or_default());
        let rest = TIMELINE_WIDTH - from - mark;
        let bar = format!("{}{}{}", repeat(" ", from), repeat("#", mark), repeat(" ", rest));
        lines.push(format!("  {name:<7} {:>8}  |{bar}|", human::micros(took)));
    }
    lines.push(format!("  total   {:>8}", human::micros(phases.total_us)));
    lines
}

const fn status(run: &Run) -> &'static str {
    match run.status {
        RunStatus::Done => "done",
        RunStatus::Failed => "failed",
        RunStatus::Timeout => "timeout",
        RunStatus::Rejected => "rejected",
        RunStatus::Cancelled => "cancelled",
    }
}

const fn tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Done => Tone::Good,
        RunStatus::Failed | RunStatus::Timeout => Tone::Bad,
        RunStatus::Rejected | RunStatus::Cancelled => Tone::Warn,
    }
}

/// How the instance came to be; nothing where a call was turned away before it had one.
const fn tier(run: &Run) -> &'static str {
    match (run.tier, &run.instance) {
        (Tier::Cold, _) => "cold",
        (Tier::Stem, _) => "stem",
        (Tier::Zygote, _) => "zygote",
        (Tier::Warm, Some(_)) => "warm",
        (Tier::Warm, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use alula_sdk::wire::{Phases, TriggerKind};

    use super::*;

    fn run(phases: Phases) -> Run {
        Run {
            degraded: None,
            id: "r1".to_owned(),
            namespace: "default".to_owned(),
            function: "hello".to_owned(),
            version: 2,
            qualifier: "latest".to_owned(),
            trigger: TriggerKind::Http,
            attempt: 1,
            status: RunStatus::Done,
            http_status: Some(200),
            error: None,
            message: None,
            started_at_ms: 0,
            phases,
            tier: Tier::Cold,
            instance: Some("i1".to_owned()),
            request_bytes: 1,
            response_bytes: 2,
            parent: None,
            caller: None,
        }
    }

    #[test]
    fn phases_stand_where_they_were() {
        let phases =
            Phases { queue_us: 0, start_us: 10_000, init_us: 10_000, run_us: 20_000, total_us: 40_000 };
        let lines = timeline(&run(phases));
        let bar = |line: &str| line.split('|').nth(1).unwrap().to_owned();
        assert_eq!(bar(&lines[0]), " ".repeat(40));
        assert_eq!(bar(&lines[1]), format!("{}{}", "#".repeat(10), " ".repeat(30)));
        assert_eq!(bar(&lines[3]), format!("{}{}", " ".repeat(20), "#".repeat(20)));
    }

    #[test]
    fn impossible_phases_do_not_break_the_timeline() {
        for phases in [
            Phases::default(),
            Phases { queue_us: u64::MAX, start_us: u64::MAX, init_us: 1, run_us: 1, total_us: 0 },
            Phases { run_us: 1, total_us: u64::MAX, ..Phases::default() },
        ] {
            for line in &timeline(&run(phases))[..4] {
                assert_eq!(line.split('|').nth(1).unwrap().len(), 40, "{line}");
            }
        }
    }
}
