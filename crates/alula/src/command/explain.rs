//! `alula explain`: what the pool decided about a function's instances, when and why.

use alula_model::Timestamp;
use alula_sdk::wire::{Explanation, HeldSpan, VersionState};
use clap::Args;

use crate::failure::Result;
use crate::human;
use crate::session::{Session, Target};
use crate::table::Table;

/// What `alula explain` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  alula explain hello
  alula explain hello --json | jq -r '.decisions[].text'")]
pub(crate) struct Arguments {
    /// The function
    name: Target,
}

/// Prints the habits of the function and the decisions, the oldest first.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let client = session.client_for(&arguments.name)?;
    let explanation = client.explain(arguments.name.whole()?).await?;
    if session.output.is_json() {
        return Ok(session.output.json(&explanation)?);
    }
    for line in habits(&explanation, session.now()).into_iter().chain(standing(&explanation)) {
        session.output.line(&line)?;
    }
    if explanation.decisions.is_empty() {
        session.output.say("no decisions since the platform started; a call brings the first one");
        return Ok(());
    }
    session.output.line("")?;
    for line in decisions(&explanation).lines(session.output.colour) {
        session.output.line(&line)?;
    }
    Ok(())
}

/// What is known of the function, in words.
fn habits(explanation: &Explanation, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(last_end_ms) = explanation.last_end_ms {
        lines.push(format!("Last call  {}", human::age(now, Timestamp(last_end_ms))));
    }
    let pauses = match (explanation.remembered, explanation.period_ms) {
        (0, _) => "no pauses between calls seen yet".to_owned(),
        (count, None) => format!("{count} pauses between calls remembered, no period in them"),
        (count, Some(period_ms)) => {
            let period = human::seconds(period_ms / 1_000);
            format!("{count} pauses between calls remembered, called about every {period}")
        }
    };
    lines.push(format!("History    {pauses}"));
    if !explanation.held.is_empty() {
        let spans: Vec<String> = explanation.held.iter().map(span).collect();
        lines.push(format!("Held       {} after a call", spans.join(", then ")));
    }
    lines
}

/// How its versions stand now, and how full the ceilings above them are.
fn standing(explanation: &Explanation) -> Vec<String> {
    let mut lines: Vec<String> = explanation.versions.iter().map(version).collect();
    lines.extend(explanation.ceilings.iter().map(|info| format!("Ceiling    {}", super::top::ceiling(info))));
    for breaker in &explanation.breakers {
        let (state, scope) = (&breaker.state, &breaker.scope);
        lines.push(format!(
            "Breaker    {state} for calls of {scope}, refuses {:.0} %",
            breaker.refused_percent
        ));
        lines.extend(
            breaker.changes.iter().map(|change| format!("           {}", super::breakers::change(change))),
        );
    }
    lines
}

fn version(state: &VersionState) -> String {
    let VersionState { version, instances, starting, waiting, min_instances, max_instances, .. } = state;
    let mut line = format!("Version {version}  {instances} of {max_instances} instances");
    if *min_instances > 0 {
        line.push_str(&format!(", at least {min_instances} are held"));
    }
    if *starting > 0 {
        line.push_str(&format!(", {starting} starting"));
    }
    if *waiting > 0 {
        line.push_str(&format!(", {waiting} calls waiting"));
    }
    if let (Some(pause_ms), Some(code)) = (state.pause_ms, &state.pause_code) {
        line.push_str(&format!("; no start for {:.1} s after {code}", pause_ms as f64 / 1_000.0));
    }
    line
}

fn span(span: &HeldSpan) -> String {
    let until = human::seconds(span.until_s.into());
    match span.from_s {
        0 => format!("until {until}"),
        from_s => format!("from {} to {until}", human::seconds(from_s.into())),
    }
}

fn decisions(explanation: &Explanation) -> Table {
    let mut table = Table::new(&["WHEN", "VERSION", "TIMES", "DECISION"]);
    for decision in &explanation.decisions {
        table.row([
            human::moment(Timestamp(decision.at_ms)).into(),
            decision.version.to_string().into(),
            decision.times.to_string().into(),
            decision.text.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_told_in_words() {
        let explanation = Explanation {
            remembered: 12,
            period_ms: Some(3_600_000),
            last_end_ms: Some(0),
            held: vec![HeldSpan { from_s: 0, until_s: 40 }, HeldSpan { from_s: 3_580, until_s: 3_700 }],
            ..Explanation::default()
        };
        let lines = habits(&explanation, Timestamp(60_000));
        assert_eq!(lines[0], "Last call  1m00s ago");
        assert_eq!(lines[1], "History    12 pauses between calls remembered, called about every 1h00m");
        assert_eq!(lines[2], "Held       until 40s, then from 59m40s to 1h01m after a call");
        assert!(habits(&Explanation::default(), Timestamp(0))[0].contains("no pauses"));
    }

    #[test]
    fn a_version_tells_only_what_is_to_be_told() {
        let quiet = VersionState {
            version: 3,
            instances: 1,
            starting: 0,
            waiting: 0,
            min_instances: 0,
            max_instances: 20,
            pause_ms: None,
            pause_code: None,
        };
        assert_eq!(version(&quiet), "Version 3  1 of 20 instances");
        let failing = VersionState {
            instances: 0,
            waiting: 4,
            pause_ms: Some(1_600),
            pause_code: Some("init_failed".to_owned()),
            ..quiet
        };
        let expected = "Version 3  0 of 20 instances, 4 calls waiting; no start for 1.6 s after init_failed";
        assert_eq!(version(&failing), expected);
    }
}
