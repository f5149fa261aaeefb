//! A topic of Kafka, read by a consumer group.
//!
//! The group's progress in a partition is the first record that has not come to its end, so a record that is tried again
//! holds back what is committed of its partition and nothing else. Progress is committed once a second and when the session
//! ends in good order; whatever ends otherwise, what was done in the last second comes again. The client library blocks for
//! some of its words, which are then said on threads of their own.

mod client;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alula_model::trigger::KafkaSource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp};
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::{ClientConfig, Offset};
use serde_json::{Value, json};

use self::client::{Client, Consumer};
use self::progress::Progress;
use super::{About, End, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::Address;
use crate::event::Shape;
use crate::gather::EVENT_BYTES_MAX;
use crate::network::Network;

/// The port of a broker without one.
const PORT: u16 = 9092;
/// Longest name of a topic (Kafka's own limit), and of a group here.
const NAME_BYTES_MAX: usize = 249;
/// Longest time for a word of the cluster, below what the caller allows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How often progress is committed, in milliseconds.
const COMMIT_EVERY_MS: &str = "1000";
/// A member of the group that is silent for so long is out of it, in milliseconds.
const SESSION_TIMEOUT_MS: &str = "20000";
/// How long no record may be asked for before the library leaves the group, in milliseconds: the longest that it takes, since
/// records wait at the broker for as long as calls take, and whether this process lives it tells by itself.
const POLL_INTERVAL_MS: &str = "86400000";
/// Bytes of records that the library fetches ahead at the most, in kilobytes.
const AHEAD_KB: &str = "16384";

/// A topic.
#[derive(Debug)]
pub(super) struct Kafka {
    about: About,
    brokers: Vec<Address>,
    stated: KafkaSource,
}

impl Kafka {
    pub(super) fn open(
        about: About,
        stated: &KafkaSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_name("topic", &stated.topic, NAME_BYTES_MAX)?;
        check_name("group", &stated.group, NAME_BYTES_MAX)?;
        let read = |broker: &str| {
            let read = Address::read(&format!("kafka://{}", broker.trim()), &["kafka"], env);
            read.map_err(|error| OpenError::Setting { field: "brokers", reason: error.to_string() })
        };
        let brokers = stated.brokers.split(',').map(read).collect::<Result<_, _>>()?;
        Ok(Self { about, brokers, stated: stated.clone() })
    }

    async fn config(&self, network: &Network) -> Result<ClientConfig, SourceError> {
        let mut places = Vec::new();
        for broker in &self.brokers {
            places.extend(network.places(broker, PORT).await?);
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", places.join(",")).set("group.id", &self.stated.group);
        config.set("client.id", &self.about.consumer).set("auto.offset.reset", "earliest");
        config.set("enable.auto.offset.store", "false").set("auto.commit.interval.ms", COMMIT_EVERY_MS);
        config.set("session.timeout.ms", SESSION_TIMEOUT_MS).set("max.poll.interval.ms", POLL_INTERVAL_MS);
        config.set("queued.max.messages.kbytes", AHEAD_KB);
        config.set("fetch.message.max.bytes", EVENT_BYTES_MAX.to_string());
        Ok(config)
    }
}

/// Where the brokers of a cluster are, by its own word.
type Places = Vec<(String, u16)>;

/// A client that has asked the cluster what it is, if the topic is there, and has not yet joined the group.
fn ask(config: &ClientConfig, topic: &str) -> Result<(Consumer, Places), SourceError> {
    let failed = |error: KafkaError| SourceError::new("connecting", &error, &[]);
    let consumer: Consumer = config.create_with_context(Client::default()).map_err(failed)?;
    let known = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT).map_err(failed)?;
    let is_there = known.topics().iter().any(|known| known.name() == topic && !known.partitions().is_empty());
    match is_there {
        true => Ok((consumer, places(&known))),
        false => Err(SourceError::said(format!("there is no topic {topic}"))),
    }
}

fn places(known: &Metadata) -> Places {
    let place =
        |broker: &MetadataBroker| (broker.host().to_owned(), u16::try_from(broker.port()).unwrap_or(0));
    known.brokers().iter().map(place).collect()
}

/// Holds the cluster's own word of where its brokers are against the policy: the library connects to them by itself.
async fn check(network: &Network, places: &Places) -> Result<(), SourceError> {
    for (host, port) in places {
        network.allows(host, *port).await?;
    }
    Ok(())
}

impl Source for Kafka {
    fn shape(&self) -> Shape {
        Shape::Kafka { brokers: self.stated.brokers.clone() }
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let (config, topic) = (self.config(network).await?, self.stated.topic.clone());
            let (consumer, places) = blocking(move || ask(&config, &topic)).await??;
            let (member, topic) = (Member(Some(Arc::new(consumer))), self.stated.topic.clone());
            check(network, &places).await?;
            let joined = member.consumer().subscribe(&[&topic]);
            joined.map_err(|error| SourceError::new("joining the group", &error, &[]))?;
            let (network, progress) = (network.clone(), Progress::default());
            Ok(Box::new(Reading { member, topic, network, progress }) as Box<dyn Session>)
        })
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(word: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    let said = tokio::task::spawn_blocking(word).await;
    said.map_err(|_| SourceError::said("the client of Kafka failed"))
}

/// A member of the group. To leave it blocks, so it is left on a thread of its own, however the session ends.
struct Member(Option<Arc<Consumer>>);

impl Member {
    #[expect(clippy::expect_used, reason = "it is taken only when this is dropped")]
    fn consumer(&self) -> Arc<Consumer> {
        Arc::clone(self.0.as_ref().expect("a member has its consumer"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let consumer = self.0.take();
        tokio::task::spawn_blocking(move || drop(consumer));
    }
}

struct Reading {
    member: Member,
    topic: String,
    network: Network,
    progress: Progress,
}

impl Reading {
    fn record(&mut self, message: &BorrowedMessage<'_>) -> Record {
        let (partition, offset) = (message.partition(), message.offset());
        let token = self.progress.begin(partition, offset);
        let id = format!("{partition}-{offset}");
        let (timestamp, kind) = match message.timestamp() {
            Timestamp::NotAvailable => (None, "NO_TIMESTAMP_TYPE"),
            Timestamp::CreateTime(at) => (Some(at), "CREATE_TIME"),
            Timestamp::LogAppendTime(at) => (Some(at), "LOG_APPEND_TIME"),
        };
        let item = json!({
            "itemIdentifier": id,
            "topic": message.topic(),
            "partition": partition,
            "offset": offset,
            "timestamp": timestamp,
            "timestampType": kind,
            "key": message.key().map(|key| STANDARD.encode(key)),
            "value": message.payload().map(|value| STANDARD.encode(value)),
            "headers": headers(message),
        });
        Record { token, id, group: format!("{}-{partition}", message.topic()), item: item.to_string() }
    }
}

/// Headers as Lambda's events have them: a list of objects with one name each, and the value's bytes as numbers.
fn headers(message: &BorrowedMessage<'_>) -> Vec<Value> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| json!({header.key: header.value.unwrap_or_default()})).collect()
}

/// Whether the library goes on by itself after this: a cluster has several brokers, and one of them may be gone.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{BrokerTransportFailure, OperationTimedOut, Resolve};
    matches!(error.rdkafka_error_code(), Some(BrokerTransportFailure | OperationTimedOut | Resolve))
}

impl Session for Reading {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            let consumer = self.member.consumer();
            loop {
                let received = tokio::select! {
                    received = consumer.recv() => received,
                    () = consumer.context().lost() => {
                        return Err(SourceError::said("no broker of the cluster can be reached"));
                    }
                };
                match received {
                    Ok(message) => return Ok(self.record(&message)),
                    Err(error) if passes(&error) => tracing::debug!(%error, "a broker of Kafka is gone"),
                    Err(error) => return Err(SourceError::new("reading the topic", &error, &[])),
                }
            }
        })
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let consumer = self.member.consumer();
            for Settled { token, .. } in settled.iter().filter(|settled| settled.end == End::Done) {
                let Some((partition, offset)) = self.progress.end(*token) else { continue };
                match consumer.store_offset(&self.topic, partition, offset) {
                    // It belongs to another member of the group by now, who gets the record again.
                    Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => {}
                    stored => {
                        stored.map_err(|error| SourceError::new("keeping the progress", &error, &[]))?
                    }
                }
            }
            Ok(())
        })
    }

    fn hold<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), SourceError>> {
        // The library needs nothing to keep records, but speaks of a lost cluster only while records are asked for.
        Box::pin(async move {
            let (consumer, topic) = (self.member.consumer(), self.topic.clone());
            let asked =
                blocking(move || consumer.fetch_metadata(Some(&topic), ANSWER_TIMEOUT / 4).map(drop)).await?;
            asked.map_err(|error| SourceError::new("asking after the cluster", &error, &[]))
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let (consumer, topic) = (self.member.consumer(), self.topic.clone());
            match blocking(move || lag(&consumer, &topic)).await? {
                Ok((lag, places)) => check(&self.network, &places).await.map(|()| Some(lag)),
                Err(error) => {
                    tracing::debug!(%error, "Kafka does not tell the lag");
                    Ok(None)
                }
            }
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        // The progress is committed when the group is left.
        let consumer = self.member.0.take();
        Box::pin(async move { drop(blocking(move || drop(consumer)).await) })
    }
}

/// Records behind the position in all partitions that this member has, and where the brokers are by now.
fn lag(consumer: &Consumer, topic: &str) -> KafkaResult<(u64, Places)> {
    let mut lag = 0;
    for partition in consumer.position()?.elements() {
        let (low, high) =
            consumer.fetch_watermarks(partition.topic(), partition.partition(), ANSWER_TIMEOUT / 4)?;
        let position = match partition.offset() {
            Offset::Offset(offset) => offset,
            _ => low,
        };
        lag += u64::try_from(high - position).unwrap_or(0);
    }
    Ok((lag, places(&consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?)))
}
