//! How the AMQP client runs: on our runtime, and over connections that are made here.
//!
//! The client would make connections itself, and encrypt them with its own idea of whom to trust; its interface for runtimes
//! is where one can be handed in.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_compat::Compat;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::AsyncTcpStream;

use crate::network::Stream;

/// Our runtime, as the client sees it.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Ready>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Ready(Tokio::current())))
}

/// A connection as the client takes it: whether it is encrypted is none of its business.
pub(super) fn wrapped(stream: Box<dyn Stream>) -> AsyncTcpStream<Compat<Box<dyn Stream>>> {
    AsyncTcpStream::Plain(Compat::new(stream))
}

/// Tokio, but for connections, which are there already.
#[derive(Debug, Clone)]
pub(super) struct Ready(Tokio);

impl Reactor for Ready {
    type TcpStream = Compat<Box<dyn Stream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(made_ahead())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl futures_util::Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(made_ahead()))
    }
}

fn made_ahead() -> io::Error {
    io::Error::other("connections are made ahead")
}
