//! Alarms as Prometheus Alertmanager takes them: `POST /api/v2/alerts`, as its OpenAPI document (`api/v2/openapi.yaml`) says.
//!
//! An alert is told by its labels; everything else may change. One that fires has its end in the future and is sent again
//! well before, so that it ends by itself where nobody sends it any more; one that is over has its end in the past.

use alula_model::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::alarm::{Alarm, State};
use crate::plan::ALERTMANAGER_EVERY_MS;

/// An alert ends by itself when it was not sent again this many times.
const ENDS_AFTER_SENDS: i64 = 4;

/// Where alerts are posted to.
pub(crate) fn address(base: &str) -> String {
    format!("{}/api/v2/alerts", base.trim_end_matches('/'))
}

/// The body for these alarms.
pub(crate) fn alerts<'a>(alarms: impl Iterator<Item = &'a Alarm>, node: &str, now: Timestamp) -> Value {
    alarms.map(|alarm| alert(alarm, node, now)).collect()
}

/// The body that shows whether it is reached: an alert that is over in a minute.
pub(crate) fn test(node: &str, now: Timestamp) -> Value {
    let labels = json!({ "alertname": "alula-test", "node": node, "severity": "info" });
    let annotations = json!({ "summary": "a test: nothing is wrong" });
    let (starts, ends) = (moment(now), moment(now.plus_millis(60_000)));
    json!([{ "labels": labels, "annotations": annotations, "startsAt": starts, "endsAt": ends }])
}

fn alert(alarm: &Alarm, node: &str, now: Timestamp) -> Value {
    let every = i64::try_from(ALERTMANAGER_EVERY_MS).unwrap_or(i64::MAX);
    let ends = match alarm.state {
        State::Resolved => alarm.resolved_at.unwrap_or(now),
        State::Firing | State::Pending => now.plus_millis(every * ENDS_AFTER_SENDS),
    };
    let summary = format!("{}: {} is {:.2}, {}", alarm.subject, alarm.signal, alarm.value, alarm.bound);
    json!({
        "labels": labels(alarm, node),
        "annotations": { "summary": summary, "description": alarm.detail, "advice": alarm.advice, "id": alarm.id },
        "startsAt": moment(alarm.raised_at.unwrap_or(alarm.since)),
        "endsAt": moment(ends),
    })
}

/// A label without a value is none.
fn labels(alarm: &Alarm, node: &str) -> Map<String, Value> {
    let subject = &alarm.subject;
    let name = |name: &Option<alula_model::Name>| name.as_ref().map(ToString::to_string);
    let labels = [
        ("alertname", Some(alarm.rule.to_string())),
        ("severity", Some(alarm.severity.to_string())),
        ("node", Some(node.to_owned())),
        ("namespace", name(&subject.namespace)),
        ("app", name(&subject.app)),
        ("function", name(&subject.function)),
        ("part", subject.part.clone()),
    ];
    labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?)))).collect()
}

fn moment(at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.to_zoned(TimeZone::UTC).timestamp().to_string()
}
