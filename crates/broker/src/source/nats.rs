//! Plain NATS: a subscription in a queue group. What comes while nobody listens is lost, as is usual with it.
//!
//! The client's own reconnecting is not used: when the connection ends the session ends, so that there is one way to wait
//! and one place that says whether a trigger is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alula_model::trigger::NatsSource;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::buffer::BUFFER_LEN;
use super::{About, KeptBy, OpenError, Record, Session, Settled, Source, SourceError, check_name};
use crate::BoxFuture;
use crate::address::{Address, AddressError};
use crate::event::{Item, Shape};
use crate::network::Network;
use crate::watch::prefetch;

/// The port of an address without one.
const PORT: u16 = 4222;
/// Longest time for a connection to be made, below what the caller allows for all of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is still there; two answers may be missing.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A server, or several of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    addresses: Vec<Address>,
    name: String,
}

/// A connection, and whether it is still one.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) client: Client,
    ended: watch::Receiver<Option<String>>,
}

impl Servers {
    pub(super) fn read(
        about: &About,
        urls: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, AddressError> {
        let read = |url: &str| Address::read(url.trim(), &["nats", "tls"], env);
        let addresses = urls.split(',').map(read).collect::<Result<_, _>>()?;
        Ok(Self { addresses, name: about.consumer.clone() })
    }

    pub(super) fn failed(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> SourceError {
        let secrets: Vec<_> = self.addresses.iter().flat_map(Address::secrets).collect();
        SourceError::new(what, error, &secrets)
    }

    pub(super) async fn connect(
        &self,
        network: &Network,
        buffer_len: usize,
    ) -> Result<Connected, SourceError> {
        let (end, ended) = watch::channel(None);
        let on_event = move |event: Event| {
            match &event {
                Event::Disconnected | Event::Closed => {
                    drop(end.send(Some("the connection ended".to_owned())))
                }
                Event::LameDuckMode => drop(end.send(Some("the server is about to stop".to_owned()))),
                Event::SlowConsumer(_) => {
                    tracing::warn!("messages of NATS were dropped: more came than was taken")
                }
                _ => {}
            }
            std::future::ready(())
        };
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_EVERY)
            .subscription_capacity(buffer_len)
            .ignore_discovered_servers()
            .max_reconnects(1)
            .event_callback(on_event);
        let known = self.addresses.iter().find_map(|address| Some((address.user()?, address.password())));
        options = match known {
            Some((user, Some(password))) => options.user_and_password(user, password),
            Some((token, None)) => options.token(token),
            None => options,
        };
        if self.addresses.iter().any(Address::is_encrypted) {
            options = options.require_tls(true).tls_client_config((**network.tls()?.config()).clone());
        }
        let mut servers = Vec::new();
        for address in &self.addresses {
            servers.extend(network.places(address, PORT).await?);
        }
        let client = options.connect(servers).await.map_err(|error| self.failed("connecting", &error))?;
        Ok(Connected { client, ended })
    }
}

impl Connected {
    /// Ends when the connection has ended, with the reason.
    pub(super) async fn ended(&mut self) -> SourceError {
        match self.ended.wait_for(Option::is_some).await {
            Ok(reason) => SourceError::said(reason.as_deref().unwrap_or_default()),
            Err(_) => SourceError::said("the connection ended"),
        }
    }
}

/// Headers as an item has them; a name that occurs several times has its values joined by commas.
pub(super) fn headers(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let joined = |values: &[async_nats::HeaderValue]| {
        values.iter().map(async_nats::HeaderValue::as_str).collect::<Vec<_>>().join(",")
    };
    headers
        .into_iter()
        .flat_map(HeaderMap::iter)
        .map(|(name, values)| (name.to_string(), joined(values)))
        .collect()
}

/// Longest name of a subject, a group or a stream in bytes: what fits into a line of the protocol, with room to spare.
const NAME_BYTES_MAX: usize = 1_024;

/// Checks what is stated besides the address.
pub(super) fn check_stated(stated: &NatsSource) -> Result<(), OpenError> {
    let refuse = |field, reason: &str| Err(OpenError::Setting { field, reason: reason.to_owned() });
    let texts = [
        ("subject", Some(&stated.subject)),
        ("group", stated.group.as_ref()),
        ("stream", stated.stream.as_ref()),
    ];
    for (field, text) in texts.into_iter().filter_map(|(field, text)| Some((field, text?))) {
        check_name(field, text, NAME_BYTES_MAX)?;
        if text.contains(char::is_whitespace) {
            return refuse(field, "it has a space, which NATS does not allow");
        }
    }
    if stated.subject.split('.').any(str::is_empty) {
        return refuse("subject", "a part between its dots is empty");
    }
    if stated.stream.is_some() && stated.group.is_some() {
        return refuse("group", "it is for subjects without a stream; a stream's consumer is shared anyway");
    }
    Ok(())
}

/// A subject.
#[derive(Debug)]
pub(super) struct Nats {
    about: About,
    servers: Servers,
    stated: NatsSource,
    /// Records are told apart over all sessions, since they outlive theirs.
    tokens: Arc<AtomicU64>,
}

impl Nats {
    pub(super) fn open(
        about: About,
        stated: &NatsSource,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, OpenError> {
        check_stated(stated)?;
        let servers = Servers::read(&about, &stated.url, env)?;
        Ok(Self { about, servers, stated: stated.clone(), tokens: Arc::default() })
    }
}

impl Source for Nats {
    fn shape(&self) -> Shape {
        Shape::Records
    }

    fn connect<'a>(&'a self, network: &'a Network) -> BoxFuture<'a, Result<Box<dyn Session>, SourceError>> {
        Box::pin(async move {
            let connected = self.servers.connect(network, prefetch(&self.stated.batch) + BUFFER_LEN).await?;
            let group = self.stated.group.clone().unwrap_or_else(|| self.about.consumer.clone());
            let subscribing = connected.client.queue_subscribe(self.stated.subject.clone(), group);
            let messages = subscribing.await.map_err(|error| self.servers.failed("subscribing", &error))?;
            // Only with this the server has it for certain.
            connected.client.flush().await.map_err(|error| self.servers.failed("subscribing", &error))?;
            let (arn, tokens) = (self.about.arn.clone(), Arc::clone(&self.tokens));
            Ok(Box::new(Subscribed { connected, messages, arn, tokens }) as Box<dyn Session>)
        })
    }
}

struct Subscribed {
    connected: Connected,
    messages: Subscriber,
    arn: String,
    tokens: Arc<AtomicU64>,
}

impl Session for Subscribed {
    fn kept_by(&self) -> KeptBy {
        KeptBy::Nobody
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Record, SourceError>> {
        Box::pin(async move {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                error = self.connected.ended() => return Err(error),
            };
            let message = message.ok_or_else(|| SourceError::said("the subscription ended"))?;
            let token = self.tokens.fetch_add(1, Ordering::Relaxed);
            let mut attributes = Map::new();
            attributes.insert("subject".to_owned(), Value::from(message.subject.as_str()));
            if let Some(reply) = &message.reply {
                attributes.insert("reply".to_owned(), Value::from(reply.as_str()));
            }
            let item = Item {
                id: &token.to_string(),
                body: &message.payload,
                kind: "nats",
                arn: &self.arn,
                attributes,
                headers: headers(message.headers.as_ref()),
            };
            let (item, id) = (item.to_json(), token.to_string());
            Ok(Record { token, id, group: String::new(), item })
        })
    }

    fn ended(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(self.connected.ended())
    }

    fn settle<'a>(&'a mut self, _settled: &'a [Settled]) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self.messages.unsubscribe().await) })
    }
}
