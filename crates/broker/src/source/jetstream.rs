//! A stream of NATS JetStream, read by a durable pull consumer that is named after the trigger.
//!
//! The consumer is made where it does not exist, and begins with the first message that the stream has. A message that is
//! not acknowledged within [`ACK_WAIT`] goes to whoever asks next, so the server is told regularly of those that are worked
//! on. The server never has more than the trigger's hand open.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use alula_model::trigger::NatsSource;
use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, Consumer};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};

use super::nats::{Connected, Servers, check_stated, headers};
use super::{About, End, KeptBy, OpenError, Record, Session, Settled, Source, SourceError};
use crate::BoxFuture;
use crate::event::{Item, Shape};
use crate::network::Network;
use crate::watch::{HOLD_EVERY, prefetch};

/// How long the server waits for word of a message.
const ACK_WAIT: Duration = HOLD_EVERY.saturating_mul(3);
/// Messages that one request to the server asks for at the most.
const PULL_LEN: usize = 500;

/// A stream.
#[derive(Debug)]
pub(super) struct JetStream {
    about: About,
    servers: Servers,
    stated: NatsSource,
    stream: String,
}

impl JetStream {
    pub(super) fn open(
        about: About,
        stated: &NatsSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_stated(stated)?;
        let servers = Servers::read(&about, &stated.url, env)?;
        let stream = stated.stream.clone().unwrap_or_default();
        Ok(Self { about, servers, stated: stated.clone(), stream })
    }

    fn config(&self) -> Config {
        Config {
            durable_name: Some(self.about.consumer.clone()),
            description: Some(format!("reads for {}", self.about.arn)),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::try_from(prefetch(&self.stated.batch)).unwrap_or(i64::MAX),
            filter_subject: self.stated.subject.clone(),
            ..Config::default()
        }
    }
}

impl Source for JetStream {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let prefetch = prefetch(&self.stated.batch);
            let connected = self.servers.connect(network, prefetch + PULL_LEN).await?;
            let failed =
                |error: &(dyn std::error::Error + 'static)| self.servers.failed("reading the stream", error);
            let context = async_nats::jetstream::new(connected.client.clone());
            let stream = context.get_stream_no_info(&self.stream).await.map_err(|error| failed(&error))?;
            let consumer = stream.create_consumer(self.config()).await.map_err(|error| failed(&error))?;
            let pull = consumer.stream().max_messages_per_batch(prefetch.min(PULL_LEN)).messages();
            let messages = pull.await.map_err(|error| failed(&error))?;
            let (servers, arn) = (self.servers.clone(), self.about.arn.clone());
            Ok(Box::new(Pulling { servers, connected, consumer, messages, open: HashMap::new(), arn })
                as Box<dyn Session>)
        })
    }
}

struct Pulling {
    servers: Servers,
    connected: Connected,
    consumer: Consumer<Config>,
    messages: Stream,
    /// Messages by their place in the consumer's order.
    open: HashMap<u64, Acker>,
    arn: String,
}

impl Pulling {
    fn record(&mut self, message: Message) -> Result<Record, SourceError> {
        let info =
            message.info().map_err(|_| SourceError::said("the server sent a message without its place"))?;
        let (token, id) = (info.consumer_sequence, info.stream_sequence.to_string());
        let sent_ms = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let attributes = Map::from_iter([
            ("subject".to_owned(), Value::from(message.subject.as_str())),
            ("stream".to_owned(), Value::from(info.stream)),
            ("sequence".to_owned(), Value::from(info.stream_sequence)),
            ("ApproximateReceiveCount".to_owned(), Value::from(info.delivered.to_string())),
            ("SentTimestamp".to_owned(), Value::from(sent_ms.to_string())),
        ]);
        let item = Item {
            id: &id,
            body: &message.payload,
            kind: "nats",
            arn: &self.arn,
            attributes,
            headers: headers(message.headers.as_ref()),
        };
        let item = item.to_json();
        let (_, acker) = message.split();
        self.open.insert(token, acker);
        Ok(Record { token, id, group: String::new(), item })
    }

    async fn tell(&self, token: u64, kind: AckKind) -> Result<(), SourceError> {
        let Some(acker) = self.open.get(&token) else { return Ok(()) };
        acker.ack_with(kind).await.map_err(|error| self.servers.failed("acknowledging", &*error))
    }
}

impl Session for Pulling {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                error = self.connected.ended() => return Err(error),
            };
            let message = message.ok_or_else(|| SourceError::said("the stream ended"))?;
            self.record(message.map_err(|error| self.servers.failed("reading the stream", &error))?)
        })
    }

    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(self.connected.ended())
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            for Settled { token, end } in settled {
                let kind = match end {
                    End::Done => AckKind::Ack,
                    End::Returned => AckKind::Nak(None),
                };
                self.tell(*token, kind).await?;
                self.open.remove(token);
            }
            Ok(())
        })
    }

    fn hold<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            for token in tokens {
                self.tell(*token, AckKind::Progress).await?;
            }
            Ok(())
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let info = self.consumer.get_info().await;
            let info = info.map_err(|error| self.servers.failed("asking for the lag", &error))?;
            Ok(Some(info.num_pending))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // What was said last must have left before the connection is dropped.
        Box::pin(async move { drop(self.connected.client.flush().await) })
    }
}
