//! `LISTEN` of PostgreSQL: a notification is a record. What comes while nobody listens is lost, as is usual with it.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::trigger::PostgresSource;
use futures_util::{StreamExt as _, stream};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::buffer::Buffer;
use super::{About, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::Address;
use crate::event::{Item, Shape};
use crate::network::{Network, Plain};
use crate::watch::prefetch;

/// The port of an address without one.
const PORT: u16 = 5432;
/// Longest name of a channel, in bytes: that of an identifier.
const CHANNEL_BYTES_MAX: usize = 63;

/// A channel.
#[derive(Debug)]
pub(super) struct Postgres {
    about: About,
    address: Address,
    config: Config,
    stated: PostgresSource,
    /// Records are told apart over all sessions, since they outlive theirs.
    tokens: Arc<AtomicU64>,
}

impl Postgres {
    pub(super) fn open(
        about: About,
        stated: &PostgresSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_name("channel", &stated.channel, CHANNEL_BYTES_MAX)?;
        let address = Address::read(&stated.url, &["postgres", "postgresql"], env)?;
        let mut config = Config::from_str(address.secret_text()).map_err(|error| {
            // The error itself does not quote the address.
            let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            OpenError::Setting { field: "url", reason: format!("it cannot be read: {reason}") }
        })?;
        config.application_name(&about.consumer);
        Ok(Self { about, address, config, stated: stated.clone(), tokens: Arc::default() })
    }

    /// Connects and listens.
    async fn listen<T>(
        &self,
        stream: Plain,
        tls: T,
    ) -> Result<(Client, Listening), Box<dyn std::error::Error + Send + Sync>>
    where
        T: TlsConnect<Plain, Stream: Send + 'static>,
    {
        let (client, connection) = self.config.connect_raw(stream, tls).await?;
        let (buffer, notifications) = Buffer::new("postgres", prefetch(&self.stated.batch));
        let (end, ended) = watch::channel(None);
        let driving = tokio::spawn(drive(connection, buffer, end, self.address.secrets()));
        let driving = AbortOnDropHandle::new(driving);
        let channel = self.stated.channel.replace('"', "\"\"");
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
        Ok((client, Listening { notifications, ended, _driving: driving }))
    }

    async fn session(&self, network: &Network) -> Result<(Client, Listening), SourceError> {
        let stream = network.plain(&self.address, PORT).await?;
        let listening = match self.config.get_ssl_mode() {
            SslMode::Disable => self.listen(stream, NoTls).await,
            _ => {
                let trusted: ClientConfig = (**network.tls()?.config()).clone();
                let mut tls = MakeRustlsConnect::new(trusted);
                let tls = MakeTlsConnect::<Plain>::make_tls_connect(&mut tls, self.address.bare_host());
                let tls = tls.map_err(|_| SourceError::said("the host of the address is not a name"))?;
                self.listen(stream, tls).await
            }
        };
        listening.map_err(|error| SourceError::new("connecting", &*error, &self.address.secrets()))
    }
}

impl Source for Postgres {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let (client, listening) = self.session(network).await?;
            let (arn, tokens) = (self.about.arn.clone(), Arc::clone(&self.tokens));
            let secrets = self.address.secrets();
            Ok(Box::new(Notified { client, listening, arn, tokens, secrets }) as Box<dyn Session>)
        })
    }
}

/// Carries the connection until it ends, and says why it did.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    mut buffer: Buffer<Notification>,
    end: watch::Sender<Option<SourceError>>,
    secrets: Vec<String>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
    let reason = loop {
        match messages.next().await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Err(reason) = buffer.push(notification) {
                    break reason;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break SourceError::new("the connection", &error, &secrets),
            None => break SourceError::said("the connection ended"),
        }
    };
    end.send_replace(Some(reason));
}

struct Listening {
    notifications: mpsc::Receiver<Notification>,
    ended: watch::Receiver<Option<SourceError>>,
    _driving: AbortOnDropHandle<()>,
}

impl Listening {
    async fn end(&mut self) -> SourceError {
        let reason = self.ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| SourceError::said("the connection ended"))
    }
}

struct Notified {
    client: Client,
    listening: Listening,
    arn: String,
    tokens: Arc<AtomicU64>,
    secrets: Vec<String>,
}

impl Notified {
    fn record(&self, notification: &Notification) -> Record {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let id = token.to_string();
        let item = Item {
            id: &id,
            body: notification.payload().as_bytes(),
            kind: "postgres",
            arn: &self.arn,
            attributes: Map::from_iter([
                ("channel".to_owned(), Value::from(notification.channel())),
                ("processId".to_owned(), Value::from(notification.process_id())),
            ]),
            headers: Vec::new(),
        };
        let item = item.to_json();
        Record { token, id, group: String::new(), item }
    }
}

impl Session for Notified {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Nobody
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            match self.listening.notifications.recv().await {
                Some(notification) => Ok(self.record(&notification)),
                None => Err(self.listening.end().await),
            }
        })
    }

    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(self.listening.end())
    }

    fn settle<'a>(&'a mut self, _settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    /// The server does not tell; the question shows whether it is still there.
    fn lag(&mut self) -> BoxFuture<'_, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let asked = self.client.batch_execute("").await;
            asked.map(|()| None).map_err(|error| SourceError::new("asking the server", &error, &self.secrets))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
