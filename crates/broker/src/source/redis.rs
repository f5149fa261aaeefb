//! A stream of Redis, read by a consumer group.
//!
//! Two connections: `XREADGROUP` blocks the one that it waits on, so acknowledgements have another. Entries that were read
//! and not acknowledged stay with the consumer: they are read first after every connect. Entries of other consumers of the
//! group that nobody has worked on for [`ABANDONED`] are taken over; ours are claimed anew as long as they are worked on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alula_model::trigger::RedisSource;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamInfoGroupsReply, StreamReadReply};
use redis::{AsyncConnectionConfig, IntoConnectionInfo as _, RedisError, Value as Answer};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{About, End, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::Address;
use crate::event::{Item, Shape};
use crate::network::Network;
use crate::watch::{HOLD_EVERY, prefetch};

/// The port of an address without one.
const PORT: u16 = 6379;
/// Longest time for an answer of the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest name of a stream or a group, in bytes. The server would take far longer ones, but nobody names anything so.
const NAME_BYTES_MAX: usize = 1_024;
/// How long one read waits for entries.
const READ_WAIT: Duration = Duration::from_secs(5);
/// How long nobody may have worked on an entry before another consumer takes it over.
const ABANDONED: Duration = HOLD_EVERY.saturating_mul(12);
/// Entries that are read at once at the most.
const READ_LEN: usize = 200;

/// A stream.
#[derive(Debug)]
pub(super) struct Redis {
    about: About,
    address: Address,
    stated: RedisSource,
}

impl Redis {
    pub(super) fn open(
        about: About,
        stated: &RedisSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_name("stream", &stated.stream, NAME_BYTES_MAX)?;
        check_name("group", &stated.group, NAME_BYTES_MAX)?;
        let address = Address::read(&stated.url, &["redis", "rediss"], env)?;
        Ok(Self { about, address, stated: stated.clone() })
    }

    fn reader(&self, connection: Connection) -> Reader {
        Reader {
            connection,
            stream: self.stated.stream.clone(),
            group: self.stated.group.clone(),
            consumer: self.about.consumer.clone(),
            len: prefetch(&self.stated.batch).min(READ_LEN),
            phase: Phase::Own { after: "0".to_owned() },
        }
    }

    async fn connection(
        &self,
        network: &Network,
        answer_timeout: Duration,
    ) -> Result<Connection, SourceError> {
        let stream = network.stream(&self.address, PORT).await?;
        let failed = |error: RedisError| SourceError::new("connecting", &error, &self.address.secrets());
        let info = self.address.url().clone().into_connection_info().map_err(failed)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(answer_timeout));
        let made = MultiplexedConnection::new_with_config(info.redis_settings(), stream, config);
        let (connection, driver) = made.await.map_err(failed)?;
        Ok(Connection { connection, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }

    async fn make_group(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.stated.stream).arg(&self.stated.group).arg("0").arg("MKSTREAM");
        match create.exec_async(connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }
}

impl Source for Redis {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let secrets = self.address.secrets();
            let mut words = self.connection(network, ANSWER_TIMEOUT).await?;
            let failed = |error: RedisError| SourceError::new("making the group", &error, &secrets);
            self.make_group(&mut words.connection).await.map_err(failed)?;
            let reader = self.reader(self.connection(network, READ_WAIT + ANSWER_TIMEOUT).await?);
            let (ask, asked) = mpsc::channel(1);
            let (found, entries) = mpsc::channel(1);
            let reading = AbortOnDropHandle::new(tokio::spawn(reader.run(asked, found)));
            Ok(Box::new(Reading {
                words,
                stated: self.stated.clone(),
                about: self.about.clone(),
                secrets,
                ask,
                is_asked: false,
                entries,
                read: VecDeque::new(),
                open: BTreeMap::new(),
                tokens: 0,
                _reading: reading,
            }) as Box<dyn Session>)
        })
    }
}

/// A connection, and what drives it.
struct Connection {
    connection: MultiplexedConnection,
    _driver: AbortOnDropHandle<()>,
}

/// Reads when it is asked to, on a connection of its own.
struct Reader {
    connection: Connection,
    stream: String,
    group: String,
    consumer: String,
    len: usize,
    phase: Phase,
}

/// What is read next.
enum Phase {
    /// What this consumer had read before and did not acknowledge, behind this entry.
    Own { after: String },
    /// What others have abandoned.
    Abandoned,
    /// What is new.
    New,
}

impl Reader {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<()>,
        found: mpsc::Sender<Result<Vec<StreamId>, RedisError>>,
    ) {
        while asked.recv().await.is_some() {
            let entries = self.read().await;
            let is_over = entries.is_err();
            if found.send(entries).await.is_err() || is_over {
                return;
            }
        }
    }

    /// The next entries, at least one.
    async fn read(&mut self) -> Result<Vec<StreamId>, RedisError> {
        loop {
            let entries = match &self.phase {
                Phase::Own { after } => {
                    let entries = self.read_group(&after.clone(), None).await?;
                    self.phase = match entries.last() {
                        Some(last) => Phase::Own { after: last.id.clone() },
                        None => Phase::Abandoned,
                    };
                    entries
                }
                Phase::Abandoned => {
                    let entries = self.take_over().await?;
                    self.phase = Phase::New;
                    entries
                }
                Phase::New => {
                    let entries = self.read_group(">", Some(READ_WAIT)).await?;
                    // When there is nothing new is the time to look what others have left.
                    if entries.is_empty() {
                        self.phase = Phase::Abandoned;
                    }
                    entries
                }
            };
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    async fn read_group(&mut self, from: &str, wait: Option<Duration>) -> Result<Vec<StreamId>, RedisError> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(self.len);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        read.arg("STREAMS").arg(&self.stream).arg(from);
        let answer: Option<StreamReadReply> = read.query_async(&mut self.connection.connection).await?;
        Ok(answer.into_iter().flat_map(|answer| answer.keys).flat_map(|key| key.ids).collect())
    }

    async fn take_over(&mut self) -> Result<Vec<StreamId>, RedisError> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.consumer);
        claim.arg(u64::try_from(ABANDONED.as_millis()).unwrap_or(u64::MAX)).arg("0-0");
        let claimed: StreamAutoClaimReply =
            claim.arg("COUNT").arg(self.len).query_async(&mut self.connection.connection).await?;
        Ok(claimed.claimed)
    }
}

struct Reading {
    /// For everything but reading.
    words: Connection,
    stated: RedisSource,
    about: About,
    secrets: Vec<String>,
    ask: mpsc::Sender<()>,
    is_asked: bool,
    entries: mpsc::Receiver<Result<Vec<StreamId>, RedisError>>,
    /// Entries that were read and not handed out.
    read: VecDeque<StreamId>,
    /// Entries that were handed out.
    open: BTreeMap<u64, String>,
    tokens: u64,
    _reading: AbortOnDropHandle<()>,
}

impl Reading {
    fn failed(&self, what: &str, error: &RedisError) -> SourceError {
        SourceError::new(what, error, &self.secrets)
    }

    fn record(&mut self, entry: StreamId) -> Record {
        self.tokens += 1;
        let (fields, is_text) = fields(&entry);
        let body = fields.to_string();
        let sent_ms = entry.id.split('-').next().unwrap_or_default();
        let mut attributes = Map::from_iter([
            ("stream".to_owned(), Value::from(self.stated.stream.as_str())),
            ("SentTimestamp".to_owned(), Value::from(sent_ms)),
        ]);
        if !is_text {
            attributes.insert("fields".to_owned(), Value::from("base64"));
        }
        let item = Item {
            id: &entry.id,
            body: body.as_bytes(),
            kind: "redis",
            arn: &self.about.arn,
            attributes,
            headers: Vec::new(),
        };
        let item = item.to_json();
        self.open.insert(self.tokens, entry.id.clone());
        Record { token: self.tokens, id: entry.id, group: String::new(), item }
    }

    async fn acknowledge(&mut self, ids: &[String]) -> Result<(), SourceError> {
        let mut ack = redis::cmd("XACK");
        ack.arg(&self.stated.stream).arg(&self.stated.group).arg(ids);
        ack.exec_async(&mut self.words.connection).await.map_err(|error| self.failed("acknowledging", &error))
    }
}

/// The fields of an entry as a JSON object, and whether they are all text; where one is not, all values are base64.
fn fields(entry: &StreamId) -> (Value, bool) {
    use base64::Engine as _;
    let bytes = |value: &Answer| -> Vec<u8> { redis::from_redis_value(value.clone()).unwrap_or_default() };
    let values: Vec<_> = entry.map.iter().map(|(name, value)| (name.clone(), bytes(value))).collect();
    let is_text = values.iter().all(|(_, value)| std::str::from_utf8(value).is_ok());
    let encode = |value: Vec<u8>| match is_text {
        true => String::from_utf8(value).unwrap_or_default(),
        false => base64::engine::general_purpose::STANDARD.encode(value),
    };
    let object: Map<_, _> =
        values.into_iter().map(|(name, value)| (name, Value::from(encode(value)))).collect();
    (Value::Object(object), is_text)
}

impl Session for Reading {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Broker
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            loop {
                while let Some(entry) = self.read.pop_front() {
                    if !entry.map.is_empty() {
                        return Ok(self.record(entry));
                    }
                    // It was deleted after it had been read: there is nothing to deliver.
                    self.acknowledge(&[entry.id]).await?;
                }
                if !self.is_asked {
                    self.is_asked = self.ask.try_send(()).is_ok();
                }
                let found = self.entries.recv().await;
                self.is_asked = false;
                let found = found.ok_or_else(|| SourceError::said("the connection ended"))?;
                self.read.extend(found.map_err(|error| self.failed("reading the stream", &error))?);
            }
        })
    }

    fn settle<'a>(&'a mut self, settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            // What is returned stays with the consumer and is read again.
            let ids: Vec<String> = settled
                .iter()
                .filter_map(|Settled { token, end }| self.open.remove(token).filter(|_| *end == End::Done))
                .collect();
            if ids.is_empty() { Ok(()) } else { self.acknowledge(&ids).await }
        })
    }

    fn hold<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let ids: Vec<&String> = tokens
                .iter()
                .filter_map(|token| self.open.get(token))
                .chain(self.read.iter().map(|entry| &entry.id))
                .collect();
            if ids.is_empty() {
                return Ok(());
            }
            let mut claim = redis::cmd("XCLAIM");
            claim.arg(&self.stated.stream).arg(&self.stated.group).arg(&self.about.consumer).arg(0).arg(&ids);
            let claimed = claim.arg("JUSTID").exec_async(&mut self.words.connection).await;
            claimed.map_err(|error| self.failed("holding entries", &error))
        })
    }

    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let mut info = redis::cmd("XINFO");
            info.arg("GROUPS").arg(&self.stated.stream);
            let groups: Result<StreamInfoGroupsReply, _> = info.query_async(&mut self.words.connection).await;
            let groups = groups.map_err(|error| self.failed("asking for the lag", &error))?;
            let ours = groups.groups.into_iter().find(|group| group.name == self.stated.group);
            Ok(ours.and_then(|group| group.lag).map(|lag| lag as u64))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
