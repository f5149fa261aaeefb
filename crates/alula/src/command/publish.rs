//! `alula publish`: an event for a topic.

use std::path::PathBuf;

use alula_model::Name;
use alula_sdk::NewEvent;
use clap::Args;

use super::invoke::input::Input;
use crate::failure::Result;
use crate::session::Session;

/// What `alula publish` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula publish orders '{\"total\": 7}'
  alula publish orders --type order.placed --id order-7 --file order.json
  alula publish orders --cloudevent --file event.json
  date | alula publish ticks")]
pub(crate) struct Arguments {
    /// The topic, which need not exist
    topic: Name,
    /// What the event holds; @FILE reads a file, @- what is piped in
    data: Option<String>,
    /// Read it from a file
    #[arg(long, short, conflicts_with = "data", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its type [default: message]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Its id: publishing it again is harmless
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Events with the same key run one after another in each function
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// It is a CloudEvent in JSON already
    #[arg(long, conflicts_with_all = ["kind", "id", "key", "batch"])]
    cloudevent: bool,
    /// It is a list of CloudEvents in JSON
    #[arg(long, conflicts_with_all = ["kind", "id", "key"])]
    batch: bool,
}

/// Publishes and says who gets it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let Arguments { topic, data, file, kind, id, key, cloudevent, batch } = arguments;
    let (body, guessed) = Input::choose(data, file)?.open().await?;
    let content_type = match (cloudevent, batch) {
        (true, _) => Some("application/cloudevents+json".to_owned()),
        (_, true) => Some("application/cloudevents-batch+json".to_owned()),
        (false, false) => guessed,
    };
    let event = NewEvent { body, content_type, kind, id, ordering_key: key };
    let answer = session.client()?.publish(topic.as_str(), event).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&answer)?);
    }
    for event in &answer.events {
        let told = match (event.repeated, event.calls) {
            (true, _) => "was published before; nothing was done".to_owned(),
            (false, 0) => "is kept; nobody listens".to_owned(),
            (false, 1) => "goes to 1 function".to_owned(),
            (false, calls) => format!("goes to {calls} functions"),
        };
        session.output.line(&format!("{}  {told}", event.id))?;
    }
    Ok(())
}
