//! Topics of an MQTT 5 broker.
//!
//! With QoS 1 the broker keeps a session for the trigger, so that what comes while nobody is connected waits there. Messages
//! are acknowledged in the order in which they came, as the protocol wants it (MQTT 5, 4.6). None can be given back: the
//! broker delivers what is not acknowledged when the session is taken up again. With QoS 0 nobody keeps anything.

mod memory;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::trigger::MqttSource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, RetainForwardRule, SessionMode,
    SubscribeFilterInput, ValidatedTopicFilter,
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::buffer::Buffer;
use super::{About, End, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::Address;
use crate::event::{Item, Shape};
use crate::gather::EVENT_BYTES_MAX;
use crate::network::{Network, Stream};
use crate::watch::prefetch;

/// The port of an address without one; with `mqtts` it is [`TLS_PORT`].
const PORT: u16 = 1883;
/// The port of an encrypted address without one.
const TLS_PORT: u16 = 8883;
/// A broker that hears nothing for so long, in seconds, and half as long again, takes the connection for broken.
const KEEP_ALIVE_S: u16 = 20;
/// How long a broker keeps what comes while nobody is connected, in seconds: a week, so that the session of a trigger that
/// was removed goes by itself.
const SESSION_KEPT_S: u32 = 7 * 24 * 60 * 60;
/// Longest topic, in bytes (MQTT 5, 1.5.4).
const TOPIC_BYTES_MAX: usize = 65_535;
/// A topic that no trigger listens to: what is published there is nobody's.
const NEVER_SUBSCRIBED: &str = "alula/end-of-session";
/// Words to the broker that have not left yet.
const WORDS_LEN: usize = 256;

/// Topics.
#[derive(Debug)]
pub(super) struct Mqtt {
    about: About,
    address: Address,
    stated: MqttSource,
    /// Records are told apart over all sessions, since those of QoS 0 outlive theirs.
    tokens: Arc<AtomicU64>,
}

impl Mqtt {
    pub(super) fn open(
        about: About,
        stated: &MqttSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_name("topic", &stated.topic, TOPIC_BYTES_MAX)?;
        if ValidatedTopicFilter::new(stated.topic.as_str()).is_err() {
            let reason = "it is no filter of MQTT: `#` stands at the end, `+` and `#` alone between slashes";
            return Err(OpenError::Setting { field: "topic", reason: reason.to_owned() });
        }
        let address = Address::read(&stated.url, &["mqtt", "mqtts"], env)?;
        Ok(Self { about, address, stated: stated.clone(), tokens: Arc::default() })
    }

    fn kept_by(&self) -> KeptBy {
        if self.stated.qos == 0 { KeptBy::Nobody } else { KeptBy::Broker }
    }

    /// Of the trigger and its topic: a session also keeps its subscriptions, so another topic needs another one.
    fn client_id(&self) -> String {
        let digest = Sha256::digest(&self.stated.topic);
        format!(
            "{}_{:02x}{:02x}{:02x}{:02x}",
            self.about.consumer, digest[0], digest[1], digest[2], digest[3]
        )
    }

    fn options(&self, stream: Box<dyn Stream>) -> MqttOptions {
        let mut options = MqttOptions::new(self.client_id(), self.address.bare_host());
        // One connection, made ahead: when it ends the session ends.
        let stream = Arc::new(Mutex::new(Some(stream)));
        options.set_socket_connector(move |_, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("the connection ended")))
        });
        options.set_keep_alive(KEEP_ALIVE_S).set_ack_mode(AckMode::Manual);
        // More than fits into an event the broker must not send: nobody could take it.
        options.set_max_packet_size(Some(u32::try_from(EVENT_BYTES_MAX).unwrap_or(u32::MAX)));
        if let Some(user) = self.address.user() {
            match self.address.password() {
                Some(password) => options.set_credentials(user, password),
                None => options.set_username(user),
            };
        }
        match self.kept_by() {
            KeptBy::Nobody => options.set_session_mode(SessionMode::Clean),
            KeptBy::Broker => {
                options.set_session_mode(SessionMode::Persistent);
                options.set_session_expiry_interval(Some(SESSION_KEPT_S));
                options.set_receive_maximum(Some(self.hand_max()));
                options.set_session_store(memory::NothingInFlight)
            }
        };
        options
    }

    /// Messages that are delivered and not acknowledged at the most.
    fn hand_max(&self) -> u16 {
        u16::try_from(prefetch(&self.stated.batch)).unwrap_or(u16::MAX)
    }
}

impl Source for Mqtt {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let port = if self.address.is_encrypted() { TLS_PORT } else { PORT };
            let stream = network.stream(&self.address, port).await?;
            let building = AsyncClient::builder(self.options(stream)).capacity(WORDS_LEN).try_build();
            let secrets = self.address.secrets();
            let (client, words) =
                building.map_err(|error| SourceError::new("connecting", &error, &secrets))?;
            let (buffer, messages) = Buffer::new("mqtt", prefetch(&self.stated.batch));
            let (end, ended) = watch::channel(None);
            let driving = tokio::spawn(drive(words, buffer, end, secrets.clone()));
            let session = Subscribed {
                client,
                messages,
                ended,
                secrets,
                kept_by: self.kept_by(),
                arn: self.about.arn.clone(),
                tokens: Arc::clone(&self.tokens),
                open: VecDeque::new(),
                driving: AbortOnDropHandle::new(driving),
            };
            session.subscribe(&self.stated.topic).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

/// Carries the connection until it ends, and says why it did.
async fn drive(
    mut words: EventLoop,
    mut buffer: Buffer<Publish>,
    end: watch::Sender<Option<SourceError>>,
    secrets: Vec<String>,
) {
    let reason = loop {
        match words.poll().await {
            // Of those that the broker keeps it sends no more than was agreed, which the buffer always has room for.
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Err(reason) = buffer.push(publish) {
                    break reason;
                }
            }
            Ok(Event::Incoming(Packet::Disconnect(disconnect))) => {
                let reason = disconnect.reason_code;
                break SourceError::said(format!("the broker ended the session: {reason:?}"));
            }
            Ok(_) => {}
            Err(error) => break SourceError::new("the connection", &error, &secrets),
        }
    };
    end.send_replace(Some(reason));
}

struct Subscribed {
    client: AsyncClient,
    messages: mpsc::Receiver<Publish>,
    ended: watch::Receiver<Option<SourceError>>,
    secrets: Vec<String>,
    kept_by: KeptBy,
    arn: String,
    tokens: Arc<AtomicU64>,
    /// Messages in their order, with what became of them.
    open: VecDeque<Delivered>,
    driving: AbortOnDropHandle<()>,
}

/// A message that was delivered and is not acknowledged.
struct Delivered {
    token: u64,
    publish: Publish,
    end: Option<End>,
}

impl Subscribed {
    async fn subscribe(&self, topic: &str) -> Result<(), SourceError> {
        let qos = match self.kept_by {
            KeptBy::Nobody => QoS::AtMostOnce,
            KeptBy::Broker => QoS::AtLeastOnce,
        };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            // Where the connection has ended, that is the reason and this only follows from it.
            let reason = self.ended.borrow().clone();
            reason.unwrap_or_else(|| SourceError::new("subscribing", error, &self.secrets))
        };
        // Messages that the broker retains come once for a session, and not again with every connection.
        let rule = RetainForwardRule::OnNewSubscribe;
        let filter = SubscribeFilterInput::new(topic, qos).retain_forward_rule(rule);
        let asked = self.client.subscribe_many_tracked([filter]).await.map_err(|error| failed(&error))?;
        let mut ended = self.ended.clone();
        tokio::select! {
            subscribed = asked.wait_completion_async() => subscribed.map_err(|error| failed(&error)),
            reason = end(&mut ended) => Err(reason),
        }
    }

    fn record(&mut self, publish: Publish) -> Record {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let id = token.to_string();
        let item = Item {
            id: &id,
            body: &publish.payload,
            kind: "mqtt",
            arn: &self.arn,
            attributes: attributes(&publish),
            headers: publish.properties.iter().flat_map(|said| said.user_properties.clone()).collect(),
        };
        let item = item.to_json();
        if publish.qos != QoS::AtMostOnce {
            // What lies here must not hold the content.
            let publish = Publish { payload: bytes::Bytes::new(), properties: None, ..publish };
            self.open.push_back(Delivered { token, publish, end: None });
        }
        Record { token, id, group: String::new(), item }
    }
}

/// Why the connection ended, when it has.
async fn end(ended: &mut watch::Receiver<Option<SourceError>>) -> SourceError {
    let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    reason.unwrap_or_else(|| SourceError::said("the connection ended"))
}

fn attributes(publish: &Publish) -> Map<String, Value> {
    let topic = String::from_utf8_lossy(&publish.topic);
    let mut attributes = Map::from_iter([
        ("topic".to_owned(), Value::from(topic)),
        ("qos".to_owned(), Value::from(publish.qos as u8)),
        ("retain".to_owned(), Value::from(publish.retain)),
        ("duplicate".to_owned(), Value::from(publish.dup)),
    ]);
    if let Some(said) = &publish.properties {
        let correlation = said.correlation_data.as_ref().map(|data| STANDARD.encode(data));
        let texts = [
            ("contentType", said.content_type.clone()),
            ("responseTopic", said.response_topic.clone()),
            ("correlationData", correlation),
        ];
        let known = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))));
        attributes.extend(known);
    }
    attributes
}

impl Session for Subscribed {
    fn kept_by(&self) -> KeptBy {
        self.kept_by
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            match self.messages.recv().await {
                Some(publish) => Ok(self.record(publish)),
                None => Err(end(&mut self.ended).await),
            }
        })
    }

    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(end(&mut self.ended))
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            for Settled { token, end } in settled {
                if let Ok(place) = self.open.binary_search_by_key(token, |delivered| delivered.token) {
                    self.open[place].end = Some(*end);
                }
            }
            while self.open.front().is_some_and(|delivered| delivered.end == Some(End::Done)) {
                let Some(Delivered { publish, .. }) = self.open.pop_front() else { break };
                let acknowledged = self.client.ack(&publish).await;
                acknowledged.map_err(|error| SourceError::new("acknowledging", &error, &self.secrets))?;
            }
            Ok(())
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A broker may forget what it has not read when the session is taken up by another connection. What it
            // answers to this shows that it has read every acknowledgement before.
            if let Ok(asked) = self.client.unsubscribe_tracked(NEVER_SUBSCRIBED).await {
                drop(asked.wait_async().await);
            }
            if self.client.disconnect().await.is_ok() {
                drop((&mut self.driving).await);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_topic_is_another_session() {
        let id = |topic: &str| {
            let about = About { arn: String::new(), consumer: "alula_a_b_c".to_owned() };
            let stated = MqttSource {
                url: "mqtt://h".to_owned(),
                topic: topic.to_owned(),
                qos: 1,
                batch: alula_model::trigger::Batching::default(),
            };
            Mqtt::open(about, &stated, &BTreeMap::new()).unwrap().client_id()
        };
        assert_eq!(id("a/#"), id("a/#"));
        assert_ne!(id("a/#"), id("b/#"));
        assert!(id("a/#").starts_with("alula_a_b_c_"));
    }
}
