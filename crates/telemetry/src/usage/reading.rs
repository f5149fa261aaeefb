//! Reading what was written: a day's usage, and what objectives need of the past.

use std::collections::BTreeMap;

use alula_model::Name;
use alula_store::{Key, Record, Records, Result, SCAN_LEN_MAX};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::ledger::{Changed, Page};
use super::{Amounts, Whose};
use crate::signals::{Kept, OTHER, Signals};

/// The first segment of the keys.
const USAGE: &str = "usage";
/// Stands where a function belongs to no app; no app can have this name.
const NO_APP: &str = "_";
const HOUR_MS: i64 = 3_600_000;

/// A day's usage of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The UTC day.
    pub day: Date,
    /// Whose.
    pub whose: Whose,
    /// How much.
    pub amounts: Amounts,
}

/// `usage/DAY/NAMESPACE/FUNCTION/APP/WRITER`.
pub(super) fn key(changed: &Changed, writer: &str) -> Key {
    let Changed { day, whose, .. } = changed;
    let app = whose.app.as_ref().map_or(NO_APP, Name::as_str);
    Key::new(&[USAGE, &day.to_string(), whose.namespace.as_str(), whose.function_name(), app, writer])
}

fn whose_of(key: &Key) -> Option<Whose> {
    let mut segments = key.segments().skip(2);
    let (namespace, function, app) = (segments.next()?, segments.next()?, segments.next()?);
    Some(Whose {
        namespace: Name::new(namespace).ok()?,
        app: Name::new(app).ok(),
        function: if function == OTHER { None } else { Some(Name::new(function).ok()?) },
    })
}

async fn all_below(records: &dyn Records, prefix: &Key) -> Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let page = records.scan(prefix, found.last().map(|record| &record.key), SCAN_LEN_MAX).await?;
        let is_last = page.len() < SCAN_LEN_MAX;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// What was used on a day, in all namespaces or in one, ordered by namespace, app and function. What this process has
/// not written yet is not in it.
pub async fn read_day(records: &dyn Records, day: Date, namespace: Option<&Name>) -> Result<Vec<Line>> {
    let day_text = day.to_string();
    let prefix = match namespace {
        Some(namespace) => Key::new(&[USAGE, &day_text, namespace.as_str()]),
        None => Key::new(&[USAGE, &day_text]),
    };
    let mut sums: BTreeMap<Whose, Amounts> = BTreeMap::new();
    for record in all_below(records, &prefix).await? {
        let page = serde_json::from_slice::<Page>(&record.value);
        match (whose_of(&record.key), page) {
            (Some(whose), Ok(page)) => *sums.entry(whose).or_default() += page.amounts,
            _ => tracing::warn!(key = %record.key, "a record of usage cannot be read"),
        }
    }
    Ok(sums.into_iter().map(|(whose, amounts)| Line { day, whose, amounts }).collect())
}

/// Tells the signals what processes other than `writer` have counted for the objective of a function, over `days` up to
/// `today`.
pub async fn recall(
    records: &dyn Records,
    signals: &Signals,
    (namespace, function): (&Name, &Name),
    (today, days): (Date, u32),
    writer: &str,
) -> Result<()> {
    let mut day = today;
    for _ in 0..days {
        let prefix = Key::new(&[USAGE, &day.to_string(), namespace.as_str(), function.as_str()]);
        let begin_ms = day.to_zoned(TimeZone::UTC).map_or(0, |begin| begin.timestamp().as_millisecond());
        let found = all_below(records, &prefix).await?;
        for record in found.iter().filter(|record| record.key.segments().last() != Some(writer)) {
            let Ok(page) = serde_json::from_slice::<Page>(&record.value) else { continue };
            for (hour, (judged, failed, slow)) in page.hours {
                let at_ms = begin_ms + i64::from(hour) * HOUR_MS;
                signals.remember(namespace, function, at_ms, Kept { judged, failed, slow });
            }
        }
        let Ok(before) = day.yesterday() else { break };
        day = before;
    }
    Ok(())
}
