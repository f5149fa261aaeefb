//! `alula explain`: what the pool decided about a function's instances, when and why.

use alula_model::Timestamp;
use alula_sdk::wire::{Explanation, HeldSpan};
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
    for line in habits(&explanation, session.now()) {
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
            decisions: Vec::new(),
        };
        let lines = habits(&explanation, Timestamp(60_000));
        assert_eq!(lines[0], "Last call  1m00s ago");
        assert_eq!(lines[1], "History    12 pauses between calls remembered, called about every 1h00m");
        assert_eq!(lines[2], "Held       until 40s, then from 59m40s to 1h01m after a call");
        assert!(habits(&Explanation::default(), Timestamp(0))[0].contains("no pauses"));
    }
}
