//! What is said about alarms, in the form that each kind of address takes.

use alula_model::Timestamp;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::alarm::Alarm;
use crate::alertmanager;
use crate::plan::{Address, Parcel};
use crate::ports::Message;

/// Alarms that one message for people lists; the rest is counted.
const LISTED_MAX: usize = 20;
/// Alarms that one message for programs holds.
const HELD_MAX: usize = 1_000;

/// The message for a parcel; `node` is what the node is called.
pub(crate) fn written(parcel: &Parcel, node: &str, now: Timestamp) -> Message {
    let Parcel { receiver, firing, resolved, .. } = parcel;
    let (url, body) = match &receiver.address {
        Address::Mail(address) => {
            let body = json!({ "subject": subject_of(parcel), "text": text_of(parcel, node) });
            (format!("mailto:{address}"), body)
        }
        Address::Slack(url) => {
            (url.clone(), json!({ "text": format!("*{}*\n{}", subject_of(parcel), text_of(parcel, node)) }))
        }
        Address::Webhook(url) => {
            let list = |alarms: &[Alarm]| alarms.iter().take(HELD_MAX).map(about).collect::<Vec<_>>();
            let body = json!({
                "event": "alarm", "node": node, "rule": parcel.rule, "status": status(parcel),
                "firing": list(firing), "resolved": list(resolved),
                "subject": subject_of(parcel), "text": text_of(parcel, node),
            });
            (url.clone(), body)
        }
        Address::Alertmanager(base) => {
            let body = alertmanager::alerts(firing.iter().chain(resolved).take(HELD_MAX), node, now);
            (alertmanager::address(base), body)
        }
    };
    let digest =
        alula_store::digest_of(format!("{node} {url} {} {:?}", now.as_millis(), parcel.rule).as_bytes());
    let id = format!("alarm-{}", &digest.to_string()[..32]);
    Message { url, body: Bytes::from(body.to_string()), trust: receiver.trust, id }
}

/// The message that shows whether a receiver is reached.
pub(crate) fn test(address: &Address, node: &str, now: Timestamp) -> (String, Value) {
    let (subject, text) =
        ("[test] this is a test", format!("A test of the alarms of {node}: nothing is wrong."));
    match address {
        Address::Mail(address) => (format!("mailto:{address}"), json!({ "subject": subject, "text": text })),
        Address::Slack(url) => (url.clone(), json!({ "text": format!("*{subject}*\n{text}") })),
        Address::Webhook(url) => (
            url.clone(),
            json!({
                "event": "alarm", "node": node, "rule": "test", "status": "test", "firing": [], "resolved": [],
                "subject": subject, "text": text,
            }),
        ),
        Address::Alertmanager(base) => (alertmanager::address(base), alertmanager::test(node, now)),
    }
}

fn status(parcel: &Parcel) -> &'static str {
    if parcel.firing.is_empty() { "resolved" } else { "firing" }
}

fn subject_of(parcel: &Parcel) -> String {
    let meant = if parcel.firing.is_empty() { &parcel.resolved } else { &parcel.firing };
    let rule = parcel.rule.as_ref().map(ToString::to_string).unwrap_or_default();
    let about = match meant.as_slice() {
        [one] => one.subject.to_string(),
        many => format!("{} of them", many.len()),
    };
    format!("[{}] {rule}: {about}", status(parcel))
}

fn text_of(parcel: &Parcel, node: &str) -> String {
    let mut lines = Vec::new();
    for (word, alarms) in [("firing", &parcel.firing), ("resolved", &parcel.resolved)] {
        lines.extend(alarms.iter().take(LISTED_MAX).map(|alarm| line_of(word, alarm)));
        if alarms.len() > LISTED_MAX {
            lines.push(format!("... and {} more that are {word}", alarms.len() - LISTED_MAX));
        }
    }
    let advice = parcel.firing.first().map(|alarm| alarm.advice.as_str()).filter(|advice| !advice.is_empty());
    lines.extend(advice.map(|advice| format!("What to do: {advice}")));
    lines.push(format!(
        "From the node {node}. `alula alarm list` shows all, `alula alarm ack ID` ends the repeats."
    ));
    lines.join("\n")
}

fn line_of(word: &str, alarm: &Alarm) -> String {
    let Alarm { id, severity, subject, signal, value, bound, detail, .. } = alarm;
    let detail = if detail.is_empty() { String::new() } else { format!("; {detail}") };
    format!("{word} {severity} {id}: {subject}: {signal} is {value:.2}, {bound}{detail}")
}

fn about(alarm: &Alarm) -> Value {
    let Alarm { id, rule, severity, subject, signal, value, bound, detail, advice, .. } = alarm;
    json!({
        "id": id, "rule": rule, "severity": severity, "namespace": subject.namespace, "app": subject.app,
        "function": subject.function, "part": subject.part, "signal": signal, "value": value, "bound": bound,
        "detail": detail, "advice": advice, "since_ms": alarm.since, "raised_ms": alarm.raised_at,
        "resolved_ms": alarm.resolved_at,
    })
}
