//! `alula usage`: what functions used, by day, for bills.

use alula_sdk::wire::UsageLine;
use alula_sdk::wire::query::{Usage, UsageBy};
use clap::{Args, ValueEnum};
use futures_util::TryStreamExt;

use crate::failure::Result;
use crate::human;
use crate::session::{Session, Target};
use crate::table::Table;

/// What `alula usage` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Days are UTC days, from the first of this month where --from is left out. GB-seconds are the
memory that a function states times the time that its calls held their slots.

Examples:
  alula usage
  alula usage hello --from 2026-11-01 --to 2026-11-30
  alula usage --all --by namespace --csv > bill.csv
  alula usage --json | jq -s 'map(.gb_seconds) | add'")]
pub(crate) struct Arguments {
    /// Only this function
    name: Option<Target>,
    /// Only this app
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Every namespace
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The first day
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// What is added up
    #[arg(long, value_enum, default_value_t = By::Function)]
    by: By,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Function,
    App,
    Namespace,
}

impl From<By> for UsageBy {
    fn from(by: By) -> Self {
        match by {
            By::Function => Self::Function,
            By::App => Self::App,
            By::Namespace => Self::Namespace,
        }
    }
}

/// The heading of comma-separated values.
const CSV_HEAD: &str = "day,namespace,app,function,invocations,refused,billed_ms,memory_mb_ms,gb_seconds,request_bytes,\
                        response_bytes";

/// Asks and prints line by line.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = match &arguments.name {
        Some(target) => session.client_for(target)?,
        None => session.client()?,
    };
    let query = Usage {
        namespace: (!arguments.all).then(|| client.namespace().to_owned()),
        app: arguments.app,
        function: arguments.name.as_ref().map(|target| target.whole().map(str::to_owned)).transpose()?,
        from: arguments.from,
        to: arguments.to,
        by: Some(arguments.by.into()),
    };
    let mut lines = std::pin::pin!(client.usage(&query).await?);
    let mut table = Table::new(&[
        "DAY",
        "NAMESPACE",
        "APP",
        "FUNCTION",
        "CALLS",
        "REFUSED",
        "TIME",
        "GB-SECONDS",
        "IN",
        "OUT",
    ]);
    if arguments.csv {
        session.output.line(CSV_HEAD)?;
    }
    while let Some(line) = lines.try_next().await? {
        if session.output.is_json() {
            session.output.json(&line)?;
        } else if arguments.csv {
            session.output.line(&csv(&line))?;
        } else {
            add_row(&mut table, &line);
        }
    }
    if arguments.csv || session.output.is_json() {
        return Ok(());
    }
    Ok(table.print(session.output)?)
}

fn add_row(table: &mut Table, line: &UsageLine) {
    table.row([
        line.day.as_str().into(),
        line.namespace.as_str().into(),
        line.app.as_deref().unwrap_or("-").into(),
        line.function.as_deref().unwrap_or("-").into(),
        line.invocations.to_string().into(),
        line.refused.to_string().into(),
        human::millis(line.billed_ms).into(),
        format!("{:.3}", line.gb_seconds).into(),
        human::bytes(line.request_bytes).into(),
        human::bytes(line.response_bytes).into(),
    ]);
}

/// Names hold neither commas nor quotes, so nothing needs quoting.
fn csv(line: &UsageLine) -> String {
    let UsageLine { day, namespace, invocations, refused, billed_ms, memory_mb_ms, gb_seconds, .. } = line;
    let (app, function) =
        (line.app.as_deref().unwrap_or_default(), line.function.as_deref().unwrap_or_default());
    let (inward, outward) = (line.request_bytes, line.response_bytes);
    format!(
        "{day},{namespace},{app},{function},{invocations},{refused},{billed_ms},{memory_mb_ms},{gb_seconds:.6},{inward},\
         {outward}"
    )
}
