//! A connection to the outside that counts what passes, keeps to the bandwidth of its namespace, and ends when it is not
//! permitted any more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alula_model::NetworkCeilings;
use alula_runtime::Behalf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::account::Place;
use super::gate::EgressGate;

/// What a connection was permitted as.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) gate: EgressGate,
    pub(super) by: Behalf,
    pub(super) host: String,
    pub(super) address: SocketAddr,
    pub(super) place: Place,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Metered {
    stream: TcpStream,
    ticket: Ticket,
    ceilings: watch::Receiver<Arc<NetworkCeilings>>,
    /// Nothing passes until then.
    pause: Option<Pin<Box<Sleep>>>,
    is_revoked: bool,
}

impl Metered {
    pub(super) fn new(stream: TcpStream, ticket: Ticket) -> Self {
        let ceilings = ticket.gate.ceilings_changed();
        Self { stream, ticket, ceilings, pause: None, is_revoked: false }
    }

    /// Waits until other ceilings are in force that do not permit it any more. It is then of no use.
    pub(super) fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let mut ceilings = self.ceilings.clone();
        let (gate, by) = (self.ticket.gate.clone(), self.ticket.by.clone());
        let (host, address) = (self.ticket.host.clone(), self.ticket.address);
        async move {
            loop {
                if ceilings.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if !gate.still_permits(&by, &host, address) {
                    return;
                }
            }
        }
    }

    /// Ready when bytes may pass.
    fn poll_pass(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ceilings.has_changed().unwrap_or(false) {
            self.ceilings.mark_unchanged();
            let Ticket { gate, by, host, address, .. } = &self.ticket;
            self.is_revoked |= !gate.still_permits(by, host, *address);
        }
        if self.is_revoked {
            let reason = "the network policy does not permit this connection any more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(Ok(()))
    }

    fn pause_for(&mut self, pause: Option<Duration>) {
        self.pause = pause.map(|pause| Box::pin(sleep(pause)));
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_pass(context))?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let pause = self.ticket.place.received(buffer.filled().len() - before);
        self.pause_for(pause);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pass(context))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let pause = self.ticket.place.sent(written);
        self.pause_for(pause);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
