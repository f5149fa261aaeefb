//! A few connections, each shared by many callers.
//!
//! A statement is sent when it is handed in, whether or not those before it are answered, so callers of one connection
//! wait for the server's work but not for each other's round trips. That is right because every statement is a transaction
//! of its own. A connection that is lost is made again by the next caller, who tries three times as long as nothing of theirs
//! was sent; where that fails, callers are refused at once (`outage`), so that they do not queue up for a server that is gone.

use std::collections::HashMap;
use std::future::Future;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::is_lost_race;
use super::outage::Outage;
use crate::{Error, Result};

/// The schema that everything of ours lies in.
pub(super) const SCHEMA: &str = "alula";
/// For a connection to be made, and for its session to be set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses of one caller between attempts to connect.
const CONNECT_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];
/// A caller who has waited for so long makes no further attempt.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// A peer that has not acknowledged what was sent for so long is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without traffic is probed after so long, or firewalls forget it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Beyond the server's own timeout: then it is the network that does not answer.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// Callers that one connection serves at a time; what is behind them waits in line.
const CALLERS_PER_CONNECTION: usize = 64;
/// How often a call is done again that lost a race; each time another one has got through.
const TRIES_MAX: usize = 10;

/// Values for the placeholders of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Makes connections.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    outage: Outage,
    /// Connections live on this runtime, whoever asks for them.
    runtime: Handle,
}

/// How a connection is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// For one statement.
    pub(super) timeout: Duration,
    /// Whether a change waits for the server's disk.
    pub(super) is_synced: bool,
}

impl Connector {
    pub(super) fn new(url: &str) -> Result<Self> {
        let unusable = |detail| Error::Unavailable { detail };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(unusable("the URL of the store does not begin with postgres://".to_owned()));
        }
        let mut config = Config::from_str(url).map_err(|error| {
            // The error does not quote the URL, which holds a password.
            let source = std::error::Error::source(&error).map(ToString::to_string);
            unusable(format!("the URL of the store is wrong: {}", source.unwrap_or_default()))
        })?;
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(TCP_USER_TIMEOUT);
        config.keepalives_idle(KEEPALIVE_IDLE).application_name("alula");
        let tls = tls(config.get_ssl_mode()).map_err(unusable)?;
        Ok(Self { config, tls, outage: Outage::default(), runtime: Handle::current() })
    }

    /// A connection that somebody has to drive.
    pub(super) async fn connect(&self) -> Result<(Client, Driven)> {
        let connecting = self.config.connect(self.tls.clone());
        Ok(timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| no_answer("connecting"))??)
    }

    /// A connection that drives itself until its client is dropped.
    pub(super) async fn connect_and_drive(&self) -> Result<Client> {
        let (client, connection) = self.connect().await?;
        drop(self.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL was lost");
            }
        }));
        Ok(client)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }

    async fn open(&self, session: Session) -> Result<Connection> {
        let client = self.connect_and_drive().await?;
        let millis = session.timeout.as_millis();
        let synced = if session.is_synced { "on" } else { "off" };
        let set_up = format!(
            "SET search_path TO {SCHEMA}; SET statement_timeout TO {millis}; SET synchronous_commit TO {synced}",
        );
        let setting_up = client.batch_execute(&set_up);
        timeout(CONNECT_TIMEOUT, setting_up).await.map_err(|_| no_answer("setting up a session"))??;
        Ok(Connection { client, prepared: Mutex::default() })
    }
}

/// A connection on its own, with or without TLS.
pub(super) type Driven =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// TLS with the certificate authorities of this machine; none are read where it is switched off.
fn tls(mode: SslMode) -> std::result::Result<MakeRustlsConnect, String> {
    let mut roots = rustls::RootCertStore::empty();
    if mode != SslMode::Disable {
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(usable, errors = found.errors.len(), "certificate authorities for PostgreSQL");
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Connections that are set up in the same way.
pub(super) struct Connections {
    connector: Arc<Connector>,
    session: Session,
    slots: Vec<Slot>,
    next: AtomicUsize,
}

/// The place of one connection.
struct Slot {
    state: AsyncMutex<State>,
    callers: Semaphore,
}

enum State {
    Open(Arc<Connection>),
    /// Not made yet, or lost.
    Closed,
}

struct Connection {
    client: Client,
    /// Statements that the server has read and planned.
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

impl Connections {
    /// Connects nowhere yet: the first callers do.
    pub(super) fn new(connector: Arc<Connector>, count: usize, session: Session) -> Self {
        let slot = || Slot {
            state: AsyncMutex::new(State::Closed),
            callers: Semaphore::new(CALLERS_PER_CONNECTION),
        };
        let slots = std::iter::repeat_with(slot).take(count.max(1)).collect();
        Self { connector, session, slots, next: AtomicUsize::new(0) }
    }

    /// Runs one statement, which is a transaction.
    pub(super) async fn query(&self, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let slot = &self.slots[turn];
        let _permit = slot.callers.acquire().await.map_err(|_| no_answer("waiting"))?;
        for _ in 1..TRIES_MAX {
            match self.query_on(slot, sql, values).await? {
                Err(error) if is_lost_race(&error) => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(self.query_on(slot, sql, values).await??)
    }

    /// Runs a statement that answers with one row.
    pub(super) async fn query_one(&self, sql: &'static str, values: Values<'_>) -> Result<Row> {
        let missing = || Error::Damaged { detail: "a statement gave no row".to_owned() };
        self.query(sql, values).await?.pop().ok_or_else(missing)
    }

    /// The inner result is the server's.
    async fn query_on(
        &self,
        slot: &Slot,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<std::result::Result<Vec<Row>, tokio_postgres::Error>> {
        let connection = self.connection(slot).await?;
        let answer = timeout(self.session.timeout + ANSWER_GRACE, connection.query(sql, values)).await;
        if answer.is_err() {
            // The server would have given up by itself: this connection leads nowhere.
            *slot.state.lock().await = State::Closed;
        }
        answer.map_err(|_| no_answer("waiting for an answer"))
    }

    /// The connection of a slot, made where it is missing: at most three tries, since nothing of the caller's was sent.
    async fn connection(&self, slot: &Slot) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        for pause in CONNECT_PAUSES {
            match self.connect(slot).await {
                Err(_) if asked.elapsed() < CONNECT_PATIENCE && !self.connector.outage.is_known() => {
                    sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
        self.connect(slot).await
    }

    async fn connect(&self, slot: &Slot) -> Result<Arc<Connection>> {
        let mut state = slot.state.lock().await;
        if let State::Open(connection) = &*state
            && !connection.client.is_closed()
        {
            return Ok(Arc::clone(connection));
        }
        let outage = &self.connector.outage;
        outage.check(Instant::now(), 2 * CONNECT_TIMEOUT)?;
        match self.connector.open(self.session).await {
            Ok(connection) => {
                outage.is_over();
                let connection = Arc::new(connection);
                *state = State::Open(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                outage.failed(Instant::now(), &error);
                *state = State::Closed;
                Err(error)
            }
        }
    }
}

impl Connection {
    async fn query(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        let statement = match prepared {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await?;
                let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
                prepared.insert(sql, statement.clone());
                statement
            }
        };
        self.client.query(&statement, values).await
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connector: _, session, slots, next: _ } = self;
        f.debug_struct("Connections").field("session", session).field("count", &slots.len()).finish()
    }
}

fn no_answer(doing: &str) -> Error {
    Error::Unavailable { detail: format!("PostgreSQL does not answer while {doing}") }
}
