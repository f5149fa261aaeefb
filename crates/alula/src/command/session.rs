//! `alula session`: who is logged in, from where.

use alula_model::Timestamp;
use alula_sdk::wire::SessionInfo;
use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::human;
use crate::session::Session;
use crate::table::Table;

/// What `alula session` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula session list
  alula session list --user anna
  alula session end 56789abcdef0")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List your sessions
    #[command(visible_alias = "ls")]
    List {
        /// Those of another person
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// End a session
    End {
        /// Its id
        id: String,
    },
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::List { user } => show(&client.sessions(user.as_deref()).await?.sessions, session),
        Action::End { id } => {
            client.end_session(&id).await?;
            session.output.say(&format!("session {id} has ended"));
            Ok(())
        }
    }
}

fn show(sessions: &[SessionInfo], session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(sessions.iter().try_for_each(|info| session.output.json(info))?);
    }
    let mut table = Table::new(&["ID", "USER", "BY", "FROM", "BEGUN", "LAST USED", "ENDS"]);
    let moment = |ms: i64| human::moment(Timestamp(ms));
    for info in sessions {
        table.row([
            info.id.as_str().into(),
            info.user.as_str().into(),
            info.way.as_str().into(),
            info.from.as_deref().unwrap_or_default().into(),
            moment(info.created_at_ms).into(),
            info.last_used_at_ms.map(moment).unwrap_or_else(|| "not yet".to_owned()).into(),
            moment(info.ends_at_ms).into(),
        ]);
    }
    Ok(table.print(session.output)?)
}
