//! The page about brokers: what it shows must be so.

use std::collections::BTreeMap;

use alula_model::trigger::Trigger;
use serde_json::Value;

const PAGE: &str = include_str!("../../../../docs/brokers.md");

/// What stands between two lines with three backticks, for a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The event that is shown for a kind.
pub(super) fn event(kind: &str) -> Value {
    let section = PAGE.split(&format!("\n## `{kind}`\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    serde_json::from_str(blocks(section, "json")[0]).unwrap()
}

/// The documented event and a real one have the same keys with values of the same types, but for what senders and names
/// decide.
pub(super) fn same_shape(path: &str, documented: &Value, real: &Value) {
    match (documented, real) {
        (Value::Object(documented), Value::Object(real)) => {
            let is_open = ["messageAttributes", "headers"].iter().any(|end| path.ends_with(end));
            if path.ends_with("rmqMessagesByQueue") || path == "kafka.records" {
                return same_shape(path, documented.values().next().unwrap(), real.values().next().unwrap());
            }
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert!(is_open || keys(documented) == keys(real), "{path}: {documented:?} and {real:?}");
            for (name, value) in documented.iter().filter(|_| !is_open) {
                same_shape(&format!("{path}.{name}"), value, &real[name]);
            }
        }
        (Value::Array(documented), Value::Array(real)) => {
            real.iter().for_each(|real| same_shape(path, &documented[0], real));
        }
        _ if path.contains("basicProperties") => {}
        _ => {
            let same = std::mem::discriminant(documented) == std::mem::discriminant(real);
            assert!(same, "{path}: {documented} and {real}");
        }
    }
}

#[test]
fn every_statement_on_the_page_can_be_deployed() {
    let mut kinds = Vec::new();
    let passwords = ["NATS_PASSWORD", "MQTT_PASSWORD", "AMQP_PASSWORD", "REDIS_PASSWORD", "PG_PASSWORD"];
    let env: BTreeMap<_, _> = passwords.map(|name| (name.to_owned(), "s3cret".to_owned())).into();
    for block in blocks(PAGE, "toml") {
        let manifest: toml::Table = block.parse().unwrap();
        for trigger in manifest["triggers"].as_array().unwrap() {
            let trigger: Trigger = trigger.clone().try_into().unwrap();
            kinds.push(trigger.source.kind());
            alula_model::trigger::validate(std::slice::from_ref(&trigger)).unwrap();
            match crate::check(std::slice::from_ref(&trigger), &env) {
                Err(error) if trigger.source.kind() == "kafka" && !cfg!(feature = "kafka") => {
                    assert_eq!(error.reason, "doors-log: this program cannot watch kafka brokers");
                }
                checked => checked.unwrap(),
            }
        }
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["amqp", "kafka", "mqtt", "nats", "postgres", "redis"]);
}
