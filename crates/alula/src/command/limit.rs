//! `alula limit`: how many requests the node, tenants, functions and callers may make.

use alula_sdk::wire::{LimitSetting, RequestLimit, SetLimit};
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::session::Session;
use crate::table::Table;

/// What `alula limit` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula limit list
  alula limit set namespace/shop --requests-per-second 500 --in-flight 200
  alula limit set callers --requests-per-second 20 --burst 50
  alula limit set namespace/shop --instances-max 50 --memory-mb-max 8192
  alula limit unset namespace/shop

Whose: node, namespaces (each), apps (each), callers (each), api (each who asks the control API),
namespace/NAME, app/NAMESPACE/NAME, function/NAMESPACE/NAME, caller/NAME. What is set stands in for
what the configuration says, all of it: what is left out is not limited. It is in force when the
command returns, and within a second on other nodes. Owners state limits of functions in alula.toml.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the limits that are in force
    #[command(visible_alias = "ls")]
    List(List),
    /// Set a limit
    Set(Set),
    /// Go back to what the configuration says
    Unset {
        /// Whose
        target: String,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Only those of the namespace that --namespace names
    #[arg(long)]
    here: bool,
}

#[derive(Debug, Args)]
struct Set {
    /// Whose
    target: String,
    #[command(flatten)]
    amount: Amount,
    /// Instances; of the node, namespaces and apps
    #[arg(long)]
    instances_max: Option<u32>,
    /// Memory of the instances in megabytes; of the node, namespaces and apps
    #[arg(long)]
    memory_mb_max: Option<u64>,
}

/// How many requests.
#[derive(Debug, Args)]
pub(super) struct Amount {
    /// Requests in a second, on average
    #[arg(long)]
    requests_per_second: Option<u32>,
    /// Requests that may come at once after a quiet time; those of one second without it
    #[arg(long, requires = "requests_per_second")]
    burst: Option<u32>,
    /// Requests in flight at once
    #[arg(long)]
    in_flight: Option<u32>,
}

impl Amount {
    pub(super) fn limit(self) -> RequestLimit {
        let Self { requests_per_second, burst, in_flight } = self;
        RequestLimit { requests_per_second, burst, in_flight }
    }
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::List(List { here }) => {
            let namespace = here.then(|| client.namespace());
            show(&client.limits(namespace).await?.limits, session)
        }
        Action::Set(Set { target, amount, instances_max, memory_mb_max }) => {
            let set = SetLimit { target, limit: amount.limit(), instances_max, memory_mb_max };
            let set = client.set_limit(&set).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&set)?);
            }
            session.output.say(&format!("{}: {}", set.target, all_in_words(&set)));
            Ok(())
        }
        Action::Unset { target } => {
            client.unset_limit(&target).await?;
            session.output.say(&format!("{target}: as the configuration says"));
            Ok(())
        }
    }
}

fn show(limits: &[LimitSetting], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(limits.iter().try_for_each(|limit| session.output.json(limit))?);
    }
    let mut table = Table::new(&["WHOSE", "LIMIT", "SET BY"]);
    for limit in limits {
        let by = if limit.is_set { "alula limit set" } else { "configuration" };
        table.row([limit.target.as_str().into(), all_in_words(limit).into(), by.into()]);
    }
    Ok(table.print(session.output)?)
}

fn all_in_words(setting: &LimitSetting) -> String {
    let instances = setting.instances_max.map(|max| format!("{max} instances"));
    let memory = setting.memory_mb_max.map(|max| format!("{max} MB of instances"));
    let requests = (setting.limit != RequestLimit::default()).then(|| in_words(&setting.limit));
    let parts: Vec<_> = [requests, instances, memory].into_iter().flatten().collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// `50 requests a second (100 at once), 10 in flight`.
pub(super) fn in_words(limit: &RequestLimit) -> String {
    let burst = limit.burst.map(|burst| format!(" ({burst} at once)")).unwrap_or_default();
    let rate = limit.requests_per_second.map(|rate| format!("{rate} requests a second{burst}"));
    let in_flight = limit.in_flight.map(|most| format!("{most} in flight"));
    [rate, in_flight].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
