//! `alula calls`: where an asynchronous call stands, waiting for it, its result, cancelling it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use alula_model::Timestamp;
use alula_sdk::Client;
use alula_sdk::wire::{AttemptEnd, Call, CallState, FailedAttempt};
use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::human;
use crate::output::{Colour, Tone, printable};
use crate::session::Session;

/// Time of one request that waits: below what proxies in between cut.
const WAIT_EACH: Duration = Duration::from_secs(50);

/// What `alula calls` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  id=$(alula invoke report --async --data @order.json)
  alula calls show $id
  alula calls wait $id --timeout 5m
  alula calls result $id > report.pdf
  alula calls cancel $id

The id of a call is printed by `alula invoke --async`, and stands in the header
X-Alula-Invocation-Id of every answer. `wait` and `result` end with 1 where the call was
given up or cancelled.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell where a call stands, and what became of its attempts
    Show {
        /// The call's id
        id: String,
    },
    /// Wait for the end of a call
    Wait {
        /// The call's id
        id: String,
        /// Give up waiting after this time: 30s, 5m; without it, wait for ever
        #[arg(long, value_name = "DURATION")]
        timeout: Option<String>,
    },
    /// Print what the function answered
    Result {
        /// The call's id
        id: String,
        /// Write it to a file
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Cancel a call that waits, or stop one that runs
    Cancel {
        /// The call's id
        id: String,
    },
    /// Print the key that callbacks, destinations and notices are signed with
    SigningKey,
}

/// Does what is asked.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client()?;
    match arguments.action {
        Action::Show { id } => print(&client.call_state(&id).await?, session),
        Action::Wait { id, timeout } => {
            let timeout =
                timeout.as_deref().map(human::parse_duration).transpose().map_err(Failure::usage)?;
            let call = wait_for_end(&client, &id, timeout).await?;
            print(&call, session)?;
            if call.state == CallState::Done { Ok(()) } else { Err(failure(&call)) }
        }
        Action::Result { id, output } => {
            super::invoke::copy(client.call_result(&id).await?, output.as_deref()).await
        }
        Action::SigningKey => {
            let key = client.signing_key().await?;
            match session.output.is_json() {
                true => Ok(session.output.json(&key)?),
                false => Ok(session.output.line(&key.key)?),
            }
        }
        Action::Cancel { id } => {
            let call = client.cancel(&id).await?;
            if session.output.is_json() {
                return Ok(session.output.json(&call)?);
            }
            session.output.say(&format!("call {id} is {}", call.state.as_str()));
            Ok(())
        }
    }
}

/// Waits until a call has ended; a failure where it has not within `timeout`.
pub(crate) async fn wait_for_end(client: &Client, id: &str, timeout: Option<Duration>) -> Result<Call> {
    let began = Instant::now();
    loop {
        let left = timeout.map_or(WAIT_EACH, |timeout| timeout.saturating_sub(began.elapsed()));
        let call = client.wait_for(id, left.min(WAIT_EACH)).await?;
        if call.state.is_final() {
            return Ok(call);
        }
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            let message = format!("call {id} has not ended: it is {}", call.state.as_str());
            return Err(Failure::failed("not_ended", message).remedy(format!("alula calls wait {id}")));
        }
    }
}

/// Why a call that has ended has no result.
pub(crate) fn failure(call: &Call) -> Failure {
    let why = call.message.as_deref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
    let failure = Failure::failed("call_failed", format!("call {} is {}{why}", call.id, call.state.as_str()));
    match call.state {
        CallState::Dead => failure.remedy(format!("`alula dead show {}` tells every attempt", call.id)),
        _ => failure,
    }
}

fn print(call: &Call, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return Ok(session.output.json(call)?);
    }
    for line in lines(call, session.output.colour) {
        session.output.line(&line)?;
    }
    if call.state == CallState::Done && call.result_bytes.is_some() {
        session.output.tell(Tone::Dim, &format!("`alula calls result {}` prints what it answered", call.id));
    }
    Ok(())
}

fn lines(call: &Call, colour: Colour) -> Vec<String> {
    let line = |label: &str, value: &str| format!("{label:<9} {value}");
    let moment = |ms: i64| human::moment(Timestamp(ms));
    let http = call.http_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let mut lines = vec![
        line("Call", &call.id),
        line("Function", &format!("{}:{} (namespace {})", call.function, call.version, call.namespace)),
        line("State", &format!("{}{http}", colour.paint(tone(call.state), call.state.as_str()))),
        line("Attempts", &call.attempts.to_string()),
    ];
    if let Some(message) = &call.message {
        let code = call.error.as_deref().map(|code| format!(" [{code}]")).unwrap_or_default();
        lines.push(line("Why", &format!("{}{code}", printable(message))));
    }
    for (label, at) in [
        ("Accepted", call.accepted_at_ms),
        ("Runs at", call.available_at_ms),
        ("Ended", call.finished_at_ms),
        ("Kept till", call.kept_until_ms),
    ] {
        lines.extend(at.map(|at| line(label, &moment(at))));
    }
    if let Some(bytes) = call.result_bytes {
        let of_type = call.content_type.as_deref().map(|kind| format!(" of {kind}")).unwrap_or_default();
        lines.push(line("Result", &format!("{}{of_type}", human::bytes(bytes))));
    }
    lines.extend(attempts(&call.failures));
    if call.failures.is_empty() {
        for run in call.runs.iter().filter(|run| run.error.is_some()) {
            let message = printable(run.message.as_deref().unwrap_or_default());
            let code = run.error.as_deref().unwrap_or_default();
            lines.push(format!(
                "  attempt {} at {}: {message} [{code}]",
                run.attempt,
                moment(run.started_at_ms)
            ));
        }
    }
    lines
}

/// Attempts that did not end well, one a line.
pub(crate) fn attempts(failures: &[FailedAttempt]) -> impl Iterator<Item = String> {
    failures.iter().map(|attempt| {
        let code = attempt.error.as_deref().map(|code| format!(" [{code}]")).unwrap_or_default();
        let at = human::moment(Timestamp(attempt.at_ms));
        let message = printable(&attempt.message);
        format!("  attempt {} at {at} {}: {message}{code}", attempt.number, end(attempt.end))
    })
}

const fn end(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Failed => "failed",
        AttemptEnd::Timeout => "timed out",
        AttemptEnd::Throttled => "found no place",
        AttemptEnd::Platform => "was not begun",
        AttemptEnd::Lost => "was lost",
    }
}

const fn tone(state: CallState) -> Tone {
    match state {
        CallState::Done => Tone::Good,
        CallState::Failed | CallState::Dead => Tone::Bad,
        CallState::Cancelled | CallState::HeldBack => Tone::Warn,
        CallState::Waiting | CallState::Running => Tone::Plain,
    }
}
