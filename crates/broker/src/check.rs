//! What a deploy is asked: can the brokers of this spec be watched?
//!
//! Whether a broker is there is not asked: it may come later, and the trigger's state shows it.

use std::collections::BTreeMap;

use alula_model::trigger::Trigger;
use alula_model::{Name, SpecError};
use alula_trigger::TriggerKey;

use crate::source;

/// Checks the triggers of one function that watch brokers, and names the first that is wrong.
pub fn check(triggers: &[Trigger], env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    let brokers = triggers.iter().filter(|trigger| trigger.source.batching().is_some());
    brokers.into_iter().try_for_each(|trigger| {
        let refuse =
            |reason: String| SpecError { field: "triggers", reason: format!("{}: {reason}", trigger.name) };
        let name = Name::new("check").map_err(|error| refuse(error.to_string()))?;
        let key = TriggerKey { namespace: name.clone(), function: name, trigger: trigger.name.clone() };
        source::open(&key, &trigger.source, env).map(drop).map_err(|error| refuse(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let trigger: Trigger = serde_json::from_str(text).unwrap();
        let env = BTreeMap::from([("PASSWORD".to_owned(), "s3cret".to_owned())]);
        check(&[trigger], &env).err().map_or_else(String::new, |error| error.reason)
    }

    #[test]
    fn what_can_be_meant_passes_whether_or_not_anybody_is_there() {
        for text in [
            r#"{"name": "n", "kind": "nats", "url": "nats://a:${PASSWORD}@h,nats://h2:1", "subject": "a.*.>"}"#,
            r#"{"name": "n", "kind": "mqtt", "url": "mqtts://h", "topic": "a/+/#"}"#,
            r#"{"name": "n", "kind": "amqp", "url": "amqp://a:${PASSWORD}@h/shop", "queue": "q"}"#,
            r#"{"name": "n", "kind": "redis", "url": "redis://:${PASSWORD}@h/1", "stream": "s"}"#,
            r#"{"name": "n", "kind": "postgres", "url": "postgres://a:${PASSWORD}@h/db", "channel": "c"}"#,
        ] {
            assert_eq!(refusal(text), "", "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (text, expected) in [
            (
                r#"{"name": "n", "kind": "nats", "url": "nats://h", "subject": "a b"}"#,
                "n: subject: it has a space",
            ),
            (r#"{"name": "n", "kind": "nats", "url": "nats://h", "subject": "a..b"}"#, "n: subject: a part"),
            (
                r#"{"name": "n", "kind": "nats", "url": "redis://h", "subject": "a"}"#,
                "n: url: the address begins",
            ),
            (
                r#"{"name": "n", "kind": "nats", "url": "nats://h", "subject": "a", "stream": "S", "group": "g"}"#,
                "n: group: it is for subjects without a stream",
            ),
            (
                r#"{"name": "n", "kind": "mqtt", "url": "mqtt://h", "topic": "a/#/b"}"#,
                "n: topic: it is no filter",
            ),
            (
                r#"{"name": "n", "kind": "mqtt", "url": "mqtt://u:pw@h", "topic": "a"}"#,
                "n: url: the address holds",
            ),
            (
                r#"{"name": "n", "kind": "amqp", "url": "amqp://${NO}@h", "queue": "q"}"#,
                "n: url: ${NO} is not in",
            ),
            (r#"{"name": "n", "kind": "amqp", "url": "amqp://h", "queue": ""}"#, "n: queue: it is empty"),
            (r#"{"name": "n", "kind": "redis", "url": "redis://", "stream": "s"}"#, "n: url: "),
            (
                r#"{"name": "n", "kind": "redis", "url": "redis://h", "stream": "a\nb"}"#,
                "n: stream: it has control",
            ),
            (
                r#"{"name": "n", "kind": "postgres", "url": "postgres://h/d?sslmode=no", "channel": "c"}"#,
                "n: url: it cannot be read",
            ),
        ] {
            let reason = refusal(text);
            assert!(reason.starts_with(expected), "{text}: {reason}");
        }
    }
}
