//! The way to a broker: by the policy that holds for what the platform does in the name of functions, and encrypted where
//! the address says so.
//!
//! An address is the word of whoever owns a function, so it must not lead where functions may not go. Clients that take a
//! connection get one to an address that was checked. Those that make their own get checked addresses; encrypted they go by
//! the name, which the broker's certificate then has to prove.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};

use alula_model::Name;
use alula_runtime::{Behalf, Connection, Egress, EgressError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::source::SourceError;

/// What brokers are reached through. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    /// Keeps to the policy.
    pub egress: Arc<dyn Egress>,
    /// Knows whom to trust; `None` where the machine has no root certificates.
    pub tls: Option<TlsConnector>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("egress", &self.egress).finish_non_exhaustive()
    }
}

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> Stream for T {}

/// A connection as it is, as a type of its own: clients that are generic over connections want one.
#[derive(Debug)]
pub(crate) struct Plain(Box<dyn Connection>);

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Network {
    /// The same for functions of a namespace, whose ceiling holds for what they name.
    pub(crate) fn of(&self, namespace: &Name) -> Self {
        let egress = self.egress.on_behalf(Behalf::namespace(namespace));
        Self { egress: egress.unwrap_or_else(|| Arc::clone(&self.egress)), tls: self.tls.clone() }
    }

    /// A connection to the broker, encrypted where its address says so.
    pub(crate) async fn stream(
        &self,
        address: &Address,
        default_port: u16,
    ) -> Result<Box<dyn Stream>, SourceError> {
        let stream = self.plain(address, default_port).await?;
        if !address.is_encrypted() {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(address.bare_host().to_owned());
        let name = name.map_err(|_| SourceError::said("the host of the address is not a name"))?;
        let connecting = self.tls()?.connect(name, stream).await;
        Ok(Box::new(connecting.map_err(|error| SourceError::new("encrypting", &error, &[]))?))
    }

    /// A connection to the broker as it is, whatever its address says of encryption.
    pub(crate) async fn plain(&self, address: &Address, default_port: u16) -> Result<Plain, SourceError> {
        let (host, port) = (address.bare_host(), address.port(default_port));
        self.egress.connect(host, port).await.map(Plain).map_err(|error| failed(&error, host))
    }

    /// `HOST:PORT` of the broker for clients that connect by themselves, the best first.
    pub(crate) async fn places(
        &self,
        address: &Address,
        default_port: u16,
    ) -> Result<Vec<String>, SourceError> {
        let (host, port) = (address.bare_host(), address.port(default_port));
        let checked = self.egress.resolve(host, port).await.map_err(|error| failed(&error, host))?;
        Ok(match address.is_encrypted() {
            true => vec![format!("{}:{port}", address.host())],
            false => checked.iter().map(ToString::to_string).collect(),
        })
    }

    /// Whether a client may connect to a place that it was told of by the broker itself.
    #[cfg(feature = "kafka")]
    pub(crate) async fn allows(&self, host: &str, port: u16) -> Result<(), SourceError> {
        self.egress.resolve(host, port).await.map(drop).map_err(|error| failed(&error, host))
    }

    /// What encrypts connections.
    pub(crate) fn tls(&self) -> Result<&TlsConnector, SourceError> {
        let nobody =
            || SourceError::said("this machine has no root certificates, so no broker can be trusted");
        self.tls.as_ref().ok_or_else(nobody)
    }
}

fn failed(error: &EgressError, host: &str) -> SourceError {
    match error {
        EgressError::Refused(rule) => SourceError::said(format!(
            "the rule {rule} of the network policy forbids {host}; an operator allows it with broker.allow"
        )),
        EgressError::Limit { .. } => SourceError::said(error.to_string()),
        EgressError::Unreachable(reason) => {
            SourceError::new(&format!("{host} cannot be reached"), reason, &[])
        }
    }
}
