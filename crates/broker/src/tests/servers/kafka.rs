//! Kafka: the real broker, and for faults of a cluster the one that the client library simulates.

mod real;
mod simulated;

use std::time::Duration;

use alula_model::trigger::{self, Batching, KafkaSource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

use super::open;
use crate::source::Source;
use crate::watch::HOLD_EVERY;

/// Two looks after the cluster: in a shorter outage the client library waits, and nothing is wrong.
const OUTAGE: Duration = Duration::from_secs(2 * HOLD_EVERY.as_secs());

/// The place of a trigger that watches `topic`, in a group of its own.
fn place(brokers: &str, topic: &str, batch: Batching) -> Box<dyn Source> {
    let stated =
        KafkaSource { brokers: brokers.to_owned(), topic: topic.to_owned(), group: topic.to_owned(), batch };
    open(topic, &trigger::Source::Kafka(stated))
}

async fn publish(brokers: &str, topic: &str, bodies: &[String]) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    for body in bodies {
        let record = FutureRecord::to(topic).key("k").payload(body);
        producer.send(record, Duration::from_secs(60)).await.unwrap();
    }
}

/// What was published, out of an item.
fn text(item: &Value) -> String {
    String::from_utf8(STANDARD.decode(item["value"].as_str().unwrap()).unwrap()).unwrap()
}
