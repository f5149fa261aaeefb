//! A queue of an AMQP 0.9.1 broker, such as RabbitMQ.
//!
//! The queue is the user's and must exist. The broker never has more than the trigger's hand open at this consumer; what is
//! not acknowledged when the channel ends, it delivers again. What is given back goes to the front of the queue.

mod kit;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::trigger::AmqpSource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Map, Value, json};

use super::{About, End, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::Address;
use crate::event::Shape;
use crate::network::Network;
use crate::watch::prefetch;

/// The port of an address without one; with `amqps` it is [`TLS_PORT`].
const PORT: u16 = 5672;
/// The port of an encrypted address without one.
const TLS_PORT: u16 = 5671;
/// Either side that hears nothing for so long, in seconds, takes the connection for broken.
const HEARTBEAT_S: u16 = 20;
/// Longest name of a queue, in bytes (AMQP 0.9.1, 1.1: `queue-name`, a short string).
const QUEUE_BYTES_MAX: usize = 255;
/// The code of an end in good order (AMQP 0.9.1, 1.2).
const REPLY_SUCCESS: u16 = 200;

/// A queue.
#[derive(Debug)]
pub(super) struct Amqp {
    about: About,
    address: Address,
    stated: AmqpSource,
}

impl Amqp {
    pub(super) fn open(
        about: About,
        stated: &AmqpSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_name("queue", &stated.queue, QUEUE_BYTES_MAX)?;
        let address = Address::read(&stated.url, &["amqp", "amqps"], env)?;
        Ok(Self { about, address, stated: stated.clone() })
    }

    /// The virtual host: `/` where the address names none.
    fn vhost(&self) -> String {
        let path = self.address.path();
        if path.is_empty() { "/".to_owned() } else { path }
    }

    fn uri(&self) -> AMQPUri {
        // What RabbitMQ has for a server of its own machine.
        let guest = || "guest".to_owned();
        let userinfo = AMQPUserInfo {
            username: self.address.user().unwrap_or_else(guest),
            password: self.address.password().unwrap_or_else(guest),
        };
        let authority = AMQPAuthority { userinfo, host: self.address.bare_host().to_owned(), port: PORT };
        let mut uri =
            AMQPUri { scheme: AMQPScheme::AMQP, authority, vhost: self.vhost(), query: Default::default() };
        uri.query.heartbeat = Some(HEARTBEAT_S);
        uri
    }

    async fn connection(&self, network: &Network) -> Result<Connection, SourceError> {
        let port = if self.address.is_encrypted() { TLS_PORT } else { PORT };
        let stream = network.stream(&self.address, port).await?;
        // One connection, made ahead: when it ends the session ends.
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connect = move |_, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let gone = || std::io::Error::other("the connection ended").into();
            std::future::ready(stream.map(kit::wrapped).ok_or_else(gone))
        };
        let named = ConnectionProperties::default().with_connection_name(self.about.consumer.as_str().into());
        let connecting = Connection::connector(self.uri(), kit::runtime(), connect, named);
        connecting.await.map_err(|error| SourceError::new("connecting", &error, &self.address.secrets()))
    }

    async fn consume(&self, connection: &Connection) -> lapin::Result<(Channel, Consumer)> {
        let channel = connection.create_channel().await?;
        let hand = u16::try_from(prefetch(&self.stated.batch)).unwrap_or(u16::MAX);
        channel.basic_qos(hand, BasicQosOptions::default()).await?;
        let (queue, tag) = (self.stated.queue.as_str().into(), self.about.consumer.as_str().into());
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, tag, options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }
}

impl Source for Amqp {
    fn shape(&self) -> Shape {
        Shape::RabbitMq { arn: self.about.arn.clone() }
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let connection = self.connection(network).await?;
            let secrets = self.address.secrets();
            let failed = |error: lapin::Error| SourceError::new("reading the queue", &error, &secrets);
            let (channel, consumer) = self.consume(&connection).await.map_err(failed)?;
            let asking = connection.create_channel().await.map_err(failed)?;
            let queue = self.stated.queue.as_str().into();
            let group = format!("{}::{}", self.stated.queue, self.vhost());
            Ok(Box::new(Consuming { connection, channel, asking, consumer, queue, group, secrets })
                as Box<dyn Session>)
        })
    }
}

struct Consuming {
    connection: Connection,
    channel: Channel,
    /// For the lag: a question that fails ends its channel.
    asking: Channel,
    consumer: Consumer,
    queue: ShortString,
    /// The queue as events name it: `QUEUE::VHOST`.
    group: String,
    secrets: Vec<String>,
}

impl Consuming {
    fn failed(&self, what: &str, error: &lapin::Error) -> SourceError {
        SourceError::new(what, error, &self.secrets)
    }

    fn record(&self, delivery: &Delivery) -> Record {
        let id = delivery.delivery_tag.to_string();
        let item = json!({
            "itemIdentifier": id,
            "basicProperties": properties(&delivery.properties, delivery.data.len()),
            "redelivered": delivery.redelivered,
            "data": STANDARD.encode(&delivery.data),
        });
        Record { token: delivery.delivery_tag, id, group: self.group.clone(), item: item.to_string() }
    }
}

impl Session for Consuming {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            match self.consumer.next().await {
                Some(Ok(delivery)) => Ok(self.record(&delivery)),
                Some(Err(error)) => Err(self.failed("reading the queue", &error)),
                None => Err(SourceError::said("the broker ended the consumer: the queue is gone")),
            }
        })
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            for Settled { token, end } in settled {
                let told = match end {
                    End::Done => self.channel.basic_ack(*token, BasicAckOptions::default()).await,
                    End::Returned => {
                        let back = BasicNackOptions { multiple: false, requeue: true };
                        self.channel.basic_nack(*token, back).await
                    }
                };
                told.map_err(|error| self.failed("acknowledging", &error))?;
            }
            Ok(())
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = self.asking.queue_declare(self.queue.clone(), look, FieldTable::default()).await;
            let queue = queue.map_err(|error| self.failed("asking for the lag", &error))?;
            Ok(Some(queue.message_count().into()))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self.connection.close(REPLY_SUCCESS, "OK".into()).await) })
    }
}

/// What the sender said of a message, as Amazon MQ's events have it.
fn properties(said: &BasicProperties, body_bytes: usize) -> Value {
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    let headers = said.headers().as_ref().map(table);
    json!({
        "contentType": text(said.content_type()),
        "contentEncoding": text(said.content_encoding()),
        "headers": headers.unwrap_or_default(),
        "deliveryMode": said.delivery_mode(),
        "priority": said.priority(),
        "correlationId": text(said.correlation_id()),
        "replyTo": text(said.reply_to()),
        "expiration": text(said.expiration()),
        "messageId": text(said.message_id()),
        "timestamp": said.timestamp().map(moment),
        "type": text(said.kind()),
        "userId": text(said.user_id()),
        "appId": text(said.app_id()),
        "clusterId": text(said.cluster_id()),
        "bodySize": body_bytes,
    })
}

fn table(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), field(value))).collect()
}

/// A header: texts as their bytes, as Amazon MQ's events have them; numbers and the like as they are.
fn field(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => json!({"scale": value.scale, "value": value.value}),
        AMQPValue::ShortString(text) => json!({"bytes": text.as_str().as_bytes()}),
        AMQPValue::LongString(text) => json!({"bytes": text.as_bytes()}),
        AMQPValue::ByteArray(bytes) => json!({"bytes": bytes.as_slice()}),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(field).collect(),
        AMQPValue::FieldTable(values) => Value::Object(table(values)),
        AMQPValue::Void => Value::Null,
    }
}

/// Seconds since the Unix epoch as Amazon MQ's events have them: `Jan 1, 1970, 12:33:41 AM`, in UTC.
fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.map_or_else(String::new, |moment| moment.strftime("%b %-d, %Y, %-I:%M:%S %p").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_those_of_amazon_mq() {
        let mut headers = FieldTable::default();
        headers.insert("trace".into(), AMQPValue::LongString("a1".into()));
        headers.insert("retries".into(), AMQPValue::LongInt(10));
        let said = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_headers(headers)
            .with_timestamp(2_021);
        let seen = properties(&said, 80);
        assert_eq!(seen["headers"], json!({"trace": {"bytes": [97, 49]}, "retries": 10}));
        assert_eq!(seen["timestamp"], "Jan 1, 1970, 12:33:41 AM");
        assert_eq!((&seen["contentType"], &seen["replyTo"]), (&json!("text/plain"), &Value::Null));
        assert_eq!(seen["bodySize"], 80);
    }

    #[test]
    fn an_address_names_a_virtual_host() {
        let vhost = |url: &str| {
            let about = About { arn: String::new(), consumer: String::new() };
            let stated = AmqpSource { url: url.to_owned(), queue: "q".to_owned(), batch: Default::default() };
            Amqp::open(about, &stated, &BTreeMap::new()).unwrap().vhost()
        };
        assert_eq!(
            [vhost("amqp://h"), vhost("amqp://h/"), vhost("amqp://h/%2F"), vhost("amqp://h/shop")],
            ["/", "/", "/", "shop"]
        );
    }
}
