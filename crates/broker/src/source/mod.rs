//! The port towards a broker: what one kind must be able to do, and nothing of what is done with its records.
//!
//! A [`Source`] is one trigger's place at its broker; a [`Session`] is one connection to it. A session that fails is over
//! and is followed by another one, so no kind has a way of its own to reconnect. Records that a session brought are settled
//! with the same session; what it did not settle, the broker delivers again where it keeps records at all
//! ([`Session::kept_by`]).

mod amqp;
mod buffer;
#[cfg(test)]
pub(crate) mod fake;
mod jetstream;
#[cfg(feature = "kafka")]
mod kafka;
mod mqtt;
mod nats;
mod postgres;
mod redis;

use std::collections::BTreeMap;
use std::fmt;

use alula_model::trigger;
use alula_trigger::TriggerKey;

use crate::BoxFuture;
use crate::address::AddressError;
use crate::event::Shape;
use crate::network::Network;

/// Why a trigger's broker cannot be watched at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its address cannot be used.
    #[error("url: {0}")]
    Address(#[from] AddressError),
    /// Something else that is stated cannot be meant.
    #[error("{field}: {reason}")]
    Setting {
        /// What.
        field: &'static str,
        /// Why, with what is allowed.
        reason: String,
    },
    /// The kind is none that this program can watch.
    #[error("this program cannot watch {0} brokers")]
    Unsupported(&'static str),
}

/// The place of the trigger `key` at its broker. Nothing is connected yet.
pub(crate) fn open(
    key: &TriggerKey,
    stated: &trigger::Source,
    env: &BTreeMap<String, String>,
) -> Result<Box<dyn Source>, OpenError> {
    let about = About { arn: format!("alula:{}:{key}", stated.kind()), consumer: consumer(key) };
    Ok(match stated {
        trigger::Source::Nats(stated) if stated.stream.is_some() => {
            Box::new(jetstream::JetStream::open(about, stated, env)?)
        }
        trigger::Source::Nats(stated) => Box::new(nats::Nats::open(about, stated, env)?),
        trigger::Source::Mqtt(stated) => Box::new(mqtt::Mqtt::open(about, stated, env)?),
        trigger::Source::Amqp(stated) => Box::new(amqp::Amqp::open(about, stated, env)?),
        trigger::Source::Postgres(stated) => Box::new(postgres::Postgres::open(about, stated, env)?),
        trigger::Source::Redis(stated) => Box::new(redis::Redis::open(about, stated, env)?),
        #[cfg(feature = "kafka")]
        trigger::Source::Kafka(stated) => Box::new(kafka::Kafka::open(about, stated, env)?),
        other => return Err(OpenError::Unsupported(other.kind())),
    })
}

/// Refuses what a broker could not take as a name: nothing at all, too much, or what ends a line.
fn check_name(field: &'static str, text: &str, bytes_max: usize) -> Result<(), OpenError> {
    let refuse = |reason: String| Err(OpenError::Setting { field, reason });
    match text.len() {
        0 => refuse("it is empty".to_owned()),
        length if length > bytes_max => refuse(format!("it has {length} bytes, allowed are {bytes_max}")),
        _ if text.contains(|c: char| c.is_control()) => refuse("it has control characters".to_owned()),
        _ => Ok(()),
    }
}

/// How a trigger is named in events and at its broker.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// In events: `alula:KIND:NAMESPACE/FUNCTION/TRIGGER`.
    pub(crate) arn: String,
    /// At the broker, the same after every start: `alula_NAMESPACE_FUNCTION_TRIGGER`. Names hold no underscore.
    pub(crate) consumer: String,
}

fn consumer(key: &TriggerKey) -> String {
    format!("alula_{}_{}_{}", key.namespace, key.function, key.trigger)
}

/// One trigger's place at its broker.
pub(crate) trait Source: Send + Sync + fmt::Debug {
    /// How an event is put together from items.
    fn shape(&self) -> Shape;

    /// Connects and begins to listen. Whoever calls this bounds its time.
    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>>;
}

/// One connection, listening.
pub(crate) trait Session: Send {
    /// Who has a record until it is settled.
    fn kept_by(&self) -> KeptBy;

    /// The next record. An error ends the session. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>>;

    /// The end of the session, for the times in which no record is asked for. Needed where nothing else that is said to the
    /// broker meanwhile would show it.
    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(std::future::pending())
    }

    /// Tells the broker what became of records of this session. An error ends the session.
    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Tells the broker that these records are still being worked on, where it would give them to others otherwise.
    fn hold<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    /// Records that the broker has for this trigger and has not delivered, where it tells.
    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async { Ok(None) })
    }

    /// Ends the session in good order.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Who has a record until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptBy {
    /// The broker, which delivers it again when the session ends before.
    Broker,
    /// Nobody: once delivered it is only here.
    Nobody,
}

/// What a broker delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the session knows it by.
    pub(crate) token: u64,
    /// What the function calls it where it reports failures (`itemIdentifier`).
    pub(crate) id: String,
    /// Where shapes group their items, what it is grouped by.
    pub(crate) group: String,
    /// It as the function gets it, JSON.
    pub(crate) item: String,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Which record.
    pub(crate) token: u64,
    /// What became of it.
    pub(crate) end: End,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The function took it, or it is kept as a dead letter: the broker may forget it.
    Done,
    /// Nothing: the broker has it again, for whoever comes.
    Returned,
}

/// Why there is no session, or no longer. The text never holds an address or a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SourceError(String);

impl SourceError {
    /// `what` failed because of `reason`, whose words are those of a client; `secrets` are taken out of them.
    pub(crate) fn new(what: &str, reason: &(dyn std::error::Error + 'static), secrets: &[String]) -> Self {
        let mut text = format!("{what}: {reason}");
        let mut source = reason.source();
        while let Some(error) = source {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = error.source();
        }
        Self::said(secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***")))
    }

    /// In the platform's own words.
    pub(crate) fn said(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(ERROR_CHARS_MAX) {
            text.truncate(end);
        }
        Self(text)
    }
}

/// Longest text of an error that is shown, in characters: a sentence or two.
const ERROR_CHARS_MAX: usize = 300;
