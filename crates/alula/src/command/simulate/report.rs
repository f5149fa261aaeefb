//! The outcome of a simulation as rows: the same for the table and for programs.

use alula_pool::simulate::{Line, PolicyName, Report};
use serde::Serialize;

use crate::output::Tone;
use crate::table::{Cell, Table};

/// One policy and what it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// `fixed-10m`, `hybrid-histogram`, or `alula`.
    policy: String,
    /// For ours: the policy whose memory it may waste.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_memory_of: Option<String>,
    /// For ours: the price of memory, in cold starts avoided for a gigabyte second.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<f32>,
    calls: u64,
    cold_starts: u64,
    cold_share: f64,
    /// For ours: its cold starts over those of the policy that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    cold_starts_ratio: Option<f64>,
    cold_share_p75: f64,
    ahead_starts: u64,
    wasted_gb_s: f64,
    used_gb_s: f64,
    average_gb: f64,
    peak_gb: f64,
}

impl Row {
    /// A row; `other` is the policy that it is compared with.
    pub(super) fn new(line: &Line, other: Option<&Line>) -> Self {
        let outcome = line.outcome;
        let price = match line.policy {
            PolicyName::OursAt { price } => Some(price),
            _ => None,
        };
        let ratio = |other: &Line| outcome.cold_starts as f64 / (other.outcome.cold_starts as f64).max(1.0);
        Self {
            policy: name(line.policy),
            at_memory_of: other.map(|other| name(other.policy)),
            price,
            calls: outcome.calls,
            cold_starts: outcome.cold_starts,
            cold_share: outcome.cold_share(),
            cold_starts_ratio: other.map(ratio),
            cold_share_p75: outcome.cold_share_p75,
            ahead_starts: outcome.ahead_starts,
            wasted_gb_s: outcome.wasted_gb_s,
            used_gb_s: outcome.used_gb_s,
            average_gb: outcome.average_gb,
            peak_gb: outcome.peak_gb,
        }
    }
}

fn name(policy: PolicyName) -> String {
    match policy {
        PolicyName::Ours | PolicyName::OursAt { .. } => "alula".to_owned(),
        PolicyName::Fixed(minutes) => format!("fixed-{minutes}m"),
        PolicyName::Hybrid => "hybrid-histogram".to_owned(),
    }
}

/// Every policy, each other one followed by ours at equal memory.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let mut rows = vec![Row::new(&report.usual, None)];
    for comparison in &report.comparisons {
        rows.push(Row::new(&comparison.other, None));
        rows.push(Row::new(&comparison.ours, Some(&comparison.other)));
    }
    rows
}

/// The rows for people.
pub(super) fn table(rows: &[Row]) -> Table {
    let header = ["POLICY", "COLD", "COLD %", "P75 %", "VERSUS", "AHEAD", "WASTED GB S", "AVG GB", "PEAK GB"];
    let mut table = Table::new(&header);
    for row in rows {
        let policy = match &row.at_memory_of {
            Some(other) => format!("  alula, memory of {other}"),
            None => row.policy.clone(),
        };
        let versus = match row.cold_starts_ratio {
            Some(ratio) if ratio < 1.0 => Cell::toned(Tone::Good, percent(ratio)),
            Some(ratio) => Cell::toned(Tone::Warn, percent(ratio)),
            None => "".into(),
        };
        table.row([
            policy.into(),
            row.cold_starts.to_string().into(),
            format!("{:.3}", row.cold_share * 100.0).into(),
            format!("{:.1}", row.cold_share_p75 * 100.0).into(),
            versus,
            row.ahead_starts.to_string().into(),
            format!("{:.0}", row.wasted_gb_s).into(),
            format!("{:.2}", row.average_gb).into(),
            format!("{:.2}", row.peak_gb).into(),
        ]);
    }
    table
}

/// How many cold starts ours has of the other one's.
fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use alula_pool::simulate::{Comparison, Outcome};

    use crate::output::Colour;

    use super::*;

    #[test]
    fn ours_stands_below_each_other_policy_with_its_share_of_the_cold_starts() {
        let line = |policy, cold_starts| {
            let outcome = Outcome { calls: 100, cold_starts, ..Outcome::default() };
            Line { policy, outcome }
        };
        let comparisons = vec![Comparison {
            other: line(PolicyName::Fixed(10), 40),
            ours: line(PolicyName::OursAt { price: 0.5 }, 10),
        }];
        let usual = line(PolicyName::Ours, 12);
        let rows = rows(&Report { functions: 1, minutes: 1, usual, comparisons });
        let lines = table(&rows).lines(Colour::Off);
        assert!(lines[2].starts_with("fixed-10m"), "{lines:?}");
        assert!(lines[3].contains("memory of fixed-10m") && lines[3].contains("25 %"), "{lines:?}");
        let json = serde_json::to_value(&rows[2]).unwrap();
        assert_eq!(
            (json["policy"].as_str(), json["cold_starts_ratio"].as_f64()),
            (Some("alula"), Some(0.25))
        );
    }
}
