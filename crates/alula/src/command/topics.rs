//! `alula topics`: who listens to what, and handing events out once more.

use alula_model::{Name, Timestamp};
use alula_sdk::wire::ReplayRequest;
use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::Tone;
use crate::session::Session;
use crate::table::{Cell, Table};

/// What `alula topics` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula topics
  alula topics replay orders --since 2h
  alula topics replay orders --since 2026-05-01T00:00:00Z --function audit")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the topics and who listens to them
    List,
    /// Hand events that are kept to the functions that listen, once more
    Replay {
        /// The topic
        topic: Name,
        /// From when on: a duration back from now, such as 2h, or an RFC 3339 time
        #[arg(long, value_name = "TIME")]
        since: String,
        /// Up to when [default: now]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Only to this function
        #[arg(long, value_name = "NAME")]
        function: Option<Name>,
    },
}

/// Does what is asked; without an action it lists.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    match arguments.action.unwrap_or(Action::List) {
        Action::List => list(session).await,
        Action::Replay { topic, since, until, function } => {
            let moment = |text: &str| human::parse_moment(text, session.now()).map_err(Failure::usage);
            let request = ReplayRequest {
                since_ms: moment(&since)?.as_millis(),
                until_ms: until.as_deref().map(moment).transpose()?.map(Timestamp::as_millis),
                function: function.map(|name| name.to_string()),
            };
            let done = session.client()?.replay(topic.as_str(), &request).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&done)?);
            }
            let text =
                format!("{} events of {topic} are handed out again in {} calls", done.events, done.calls);
            Ok(session.output.line(&text)?)
        }
    }
}

async fn list(session: &Session) -> Result<()> {
    let list = session.client()?.topics().await?;
    if session.output.is_json() {
        return Ok(session.output.json(&list)?);
    }
    let mut table = Table::new(&["TOPIC", "FUNCTION", "TRIGGER", "FILTER"]);
    for topic in &list.topics {
        if topic.subscriptions.is_empty() {
            let nobody = Cell::toned(Tone::Dim, "nobody listens");
            table.row([topic.name.clone().into(), nobody, "".into(), "".into()]);
        }
        for subscription in &topic.subscriptions {
            let filter = subscription.filter.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
            let filter = if subscription.enabled { filter } else { "switched off".to_owned() };
            table.row([
                topic.name.clone().into(),
                subscription.function.clone().into(),
                subscription.trigger.clone().into(),
                filter.into(),
            ]);
        }
    }
    for line in table.lines(session.output.colour) {
        session.output.line(&line)?;
    }
    let kept = human::millis(list.event_keep_ms);
    session.output.say(&format!("events are kept for {kept} to be replayed"));
    Ok(())
}
