//! Events as functions get them: the shapes that Lambda's event sources have, put together from items.
//!
//! ```text
//! Records   {"Records": [item, ...]}                                         as SQS; NATS, MQTT, Redis, PostgreSQL
//! RabbitMq  {"eventSource": "aws:rmq", "rmqMessagesByQueue": {queue: [...]}}  as Amazon MQ
//! ```
//! Kafka     {"eventSource": "SelfManagedKafka", "records": {topic-p: [...]}}  as a self-managed Apache Kafka
//!
//! An item is made once, when its record comes, and put into an event as it is, however often that is tried. Fields that
//! Lambda's own events do not have are `itemIdentifier`, where theirs has no name for a single record, and
//! `isBase64Encoded` for a content that is no text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::source::Record;

/// How items are put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A list.
    Records,
    /// Lists by queue.
    RabbitMq {
        /// Where the event says it is from.
        arn: String,
    },
    /// Lists by topic and partition.
    #[cfg(feature = "kafka")]
    Kafka {
        /// Where the topics are.
        brokers: String,
    },
}

impl Shape {
    /// The event with these records, JSON. Records of a group keep their order.
    pub(crate) fn event<'a>(&self, records: impl Iterator<Item = &'a Record> + Clone) -> Bytes {
        match self {
            Self::Records => {
                let mut text = "{\"Records\":[".to_owned();
                push_items(&mut text, records);
                text.push_str("]}");
                text.into()
            }
            Self::RabbitMq { arn } => {
                grouped(&[("eventSource", "aws:rmq"), ("eventSourceArn", arn)], "rmqMessagesByQueue", records)
            }
            #[cfg(feature = "kafka")]
            Self::Kafka { brokers } => grouped(
                &[("eventSource", "SelfManagedKafka"), ("bootstrapServers", brokers)],
                "records",
                records,
            ),
        }
    }
}

fn grouped<'a>(
    head: &[(&str, &str)],
    field: &str,
    records: impl Iterator<Item = &'a Record> + Clone,
) -> Bytes {
    let mut text = "{".to_owned();
    for (name, value) in head {
        text.push_str(&format!("{}:{},", quoted(name), quoted(value)));
    }
    text.push_str(&format!("{}:{{", quoted(field)));
    let mut groups: Vec<&str> = records.clone().map(|record| record.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    for (place, group) in groups.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&format!("{}:[", quoted(group)));
        push_items(&mut text, records.clone().filter(|record| record.group == *group));
        text.push(']');
    }
    text.push_str("}}");
    text.into()
}

fn push_items<'a>(text: &mut String, records: impl Iterator<Item = &'a Record>) {
    for (place, record) in records.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&record.item);
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What an item of [`Shape::Records`] is made from.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// Its name in reports of failures.
    pub(crate) id: &'a str,
    /// Its content.
    pub(crate) body: &'a [u8],
    /// `nats`, `mqtt` and so on.
    pub(crate) kind: &'static str,
    /// The trigger that it came by.
    pub(crate) arn: &'a str,
    /// What the broker says of it.
    pub(crate) attributes: Map<String, Value>,
    /// What its sender said of it.
    pub(crate) headers: Vec<(String, String)>,
}

impl Item<'_> {
    /// The item, JSON.
    pub(crate) fn to_json(&self) -> String {
        let (body, is_base64) = text_or_base64(self.body);
        let message_attributes: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!({"stringValue": value, "dataType": "String"})))
            .collect();
        let mut item = json!({
            "messageId": self.id,
            "receiptHandle": self.id,
            "body": body,
            "attributes": self.attributes,
            "messageAttributes": message_attributes,
            "eventSource": format!("alula:{}", self.kind),
            "eventSourceARN": self.arn,
        });
        if is_base64 {
            item["isBase64Encoded"] = Value::from(true);
        }
        item.to_string()
    }
}

/// The text that bytes are, or else their base64; and whether it is the latter.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(bytes), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, group: &str) -> Record {
        Record { token: 0, id: id.to_owned(), group: group.to_owned(), item: format!("{{\"id\":\"{id}\"}}") }
    }

    fn read(shape: &Shape, records: &[Record]) -> Value {
        serde_json::from_slice(&shape.event(records.iter())).unwrap()
    }

    #[test]
    fn items_stand_in_a_list_or_by_group_in_their_order() {
        let records = [record("1", "b\"-0"), record("2", "a-0"), record("3", "b\"-0")];
        let list = read(&Shape::Records, &records);
        assert_eq!(list, json!({"Records": [{"id": "1"}, {"id": "2"}, {"id": "3"}]}));
        let rabbit = read(&Shape::RabbitMq { arn: "x".to_owned() }, &records);
        assert_eq!(
            rabbit,
            json!({"eventSource": "aws:rmq", "eventSourceArn": "x", "rmqMessagesByQueue":
                   {"a-0": [{"id": "2"}], "b\"-0": [{"id": "1"}, {"id": "3"}]}})
        );
    }

    #[test]
    fn a_content_that_is_no_text_is_base64() {
        let item = |body: &[u8]| {
            let item = Item {
                id: "7",
                body,
                kind: "nats",
                arn: "arn",
                attributes: Map::new(),
                headers: vec![("k".to_owned(), "v\n".to_owned())],
            };
            serde_json::from_str::<Value>(&item.to_json()).unwrap()
        };
        let text = item("gr\u{fc}n\u{1}".as_bytes());
        assert_eq!((&text["body"], &text["isBase64Encoded"]), (&json!("gr\u{fc}n\u{1}"), &Value::Null));
        assert_eq!(text["messageAttributes"]["k"]["stringValue"], "v\n");
        let binary = item(b"\xff\x00");
        assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    }
}
