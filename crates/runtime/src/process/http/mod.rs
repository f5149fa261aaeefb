//! Any HTTP server on `$PORT`, inside a cell of its own.
//!
//! The server is started with the function's command and is ready when its port takes a connection. Requests and
//! answers stream through connections that this module keeps; a `101` hands the raw connection to the caller.
//!
//! A caller that goes away, and the deadline, close the connection: that is how HTTP tells a server that nobody
//! waits any more. As a server need not listen to that, an instance in which the deadline passed takes no more
//! calls, and is destroyed when its last call has ended; so is one that runs a single call at a time and whose
//! caller left before the answer began. An upgraded connection that reaches its deadline is only closed.

mod connections;
mod headers;
mod upgraded;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::relay::{Ending, Relay, body_error};
use super::{Guest, Room, Running, command};
use crate::buffers::request_fault;
use crate::{Answer, Body, BodyError, BoxFuture, Call, RunningCall, Upgraded};
use connections::{Connection, Connections};

/// File names that are the server where the spec has no command.
pub(super) const DEFAULT_PROGRAMS: &[&str] = &["server", "main", "run.sh", "server.sh", "main.sh"];
/// Pauses between attempts to connect to a starting server: quick at first, then without a burden.
const READY_PAUSE_MIN: Duration = Duration::from_millis(1);
const READY_PAUSE_MAX: Duration = Duration::from_millis(20);
/// How long the end of the server is waited for after a connection broke, to tell a crash from a closed
/// connection: longer than the room waits for the last lines.
const EXIT_WAIT: Duration = Duration::from_millis(500);

/// Starts the server and waits until it takes a connection.
pub(super) async fn start(room: &Arc<Room>) -> Result<Box<dyn Guest>, Fault> {
    let argv = command::resolve(&room.plan, &room.language, DEFAULT_PROGRAMS)
        .map_err(|error| Fault::new(ErrorCode::InitFailed, error.to_string()))?;
    room.launch(argv, Vec::new()).await?;
    let (address, first) = tokio::select! {
        biased;
        ready = wait_until_ready(room) => ready,
        exit = room.ended() => return Err(room.init_failed(exit)),
    };
    let connections = Connections::new(room.plan.spec.concurrency);
    if let Ok(first) = Connection::open(first).await {
        connections.put_back(first);
    }
    Ok(Box::new(HttpGuest { room: Arc::clone(room), address, connections: Arc::new(connections) }))
}

/// Tries to connect until it succeeds; the caller sets the end. A server may listen on either loopback address.
async fn wait_until_ready(room: &Room) -> (SocketAddr, tokio::net::TcpStream) {
    let port = room.plan.spec.port;
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let mut pause = READY_PAUSE_MIN;
    loop {
        for address in addresses.map(|address| SocketAddr::new(address, port)) {
            if let Ok(stream) = room.cell.dial(address).await {
                return (address, stream);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(READY_PAUSE_MAX);
    }
}

/// Talks to the server in a room.
#[derive(Debug)]
struct HttpGuest {
    room: Arc<Room>,
    address: SocketAddr,
    connections: Arc<Connections>,
}

impl Guest for HttpGuest {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(self.run(call))
    }

    fn finish(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.room.terminate())
    }
}

/// Retires an instance for one call at a time whose caller leaves before the answer has begun.
struct Leaving<'a>(Option<&'a Room>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            room.retire();
        }
    }
}

impl HttpGuest {
    async fn run(&self, call: Call) -> Result<Answer, Fault> {
        let running = self.room.begin(RunningCall::of(&call));
        let deadline = call.deadline;
        let mut leaving = Leaving((self.room.plan.spec.concurrency == 1).then_some(&*self.room));
        let exchange = tokio::time::timeout_at(deadline, self.exchange(call)).await;
        leaving.0 = None;
        match exchange {
            Ok(Ok((response, connection))) => self.answer(response, connection, running, deadline).await,
            Ok(Err(fault)) => Err(fault),
            Err(_) => {
                self.room.retire();
                Err(self.room.timed_out())
            }
        }
    }

    /// Sends the request and waits for the head of the answer. A request is sent again only where a kept
    /// connection turned out to be closed before any byte of it was sent.
    async fn exchange(&self, call: Call) -> Result<(Response<Incoming>, Connection), Fault> {
        let started = call.events.started.clone();
        let mut request = headers::request(call);
        loop {
            let kept = self.connections.take();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if let Some(started) = &started {
                started.store(true, Ordering::Relaxed);
            }
            match connection.send(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(self.explain(&error.into_error()).await),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        match self.room.cell.dial(self.address).await {
            Ok(stream) => Connection::open(stream).await.map_err(|error| {
                self.room
                    .fault(ErrorCode::BadResponse, format!("the server broke off the connection: {error}"))
            }),
            Err(error) => Err(self.dead_or(format!("the server takes no connection: {error}")).await),
        }
    }

    async fn answer(
        &self,
        mut response: Response<Incoming>,
        connection: Connection,
        running: Running,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut response).await;
            let raw = upgrade.map_err(|error| {
                self.room
                    .fault(ErrorCode::BadResponse, format!("the server did not finish its upgrade: {error}"))
            })?;
            let upgraded = Upgraded(Box::new(upgraded::Lent::new(raw, deadline, (running, connection))));
            let (head, _) = response.into_parts();
            let headers = headers::answered_upgrade(head.headers);
            return Ok(Answer {
                status: head.status,
                headers,
                body: Body::empty(),
                upgraded: Some(upgraded),
            });
        }
        let (head, incoming) = response.into_parts();
        let headers = headers::answered(head.headers);
        let connections = Arc::clone(&self.connections);
        if incoming.is_end_stream() {
            connections.put_back(connection);
            return Ok(Answer::new(head.status, headers, Body::empty()));
        }
        let on_end = move |ending| {
            match ending {
                Ending::Complete => connections.put_back(connection),
                Ending::TimedOut => running.room().retire(),
                Ending::Broken | Ending::Abandoned => {}
            }
            drop(running);
        };
        let body = Body::stream(Relay::new(incoming.map_err(body_error), deadline, on_end));
        Ok(Answer::new(head.status, headers, body))
    }

    /// What an error of hyper's means to the caller.
    async fn explain(&self, error: &hyper::Error) -> Fault {
        if let Some(torn) = torn_body(error) {
            return request_fault(torn);
        }
        if error.is_parse_too_large() {
            let limit = connections::HEAD_BYTES_MAX;
            let message = format!("the head of the answer is larger than {limit} bytes");
            return self.room.fault(ErrorCode::BadResponse, message);
        }
        if error.is_parse() {
            return self.room.fault(ErrorCode::BadResponse, format!("the answer is not HTTP: {error}"));
        }
        self.dead_or("the server closed the connection before it had answered".to_owned()).await
    }

    /// The crash, if the server has ended, or else `otherwise`.
    async fn dead_or(&self, otherwise: String) -> Fault {
        match tokio::time::timeout(EXIT_WAIT, self.room.ended()).await {
            Ok(exit) => self.room.crashed(exit),
            Err(_) => self.room.fault(ErrorCode::BadResponse, otherwise),
        }
    }
}

/// The reason why the request's own body broke off, where that is why sending failed.
fn torn_body(error: &hyper::Error) -> Option<&BodyError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(torn) = error.downcast_ref::<BodyError>() {
            return Some(torn);
        }
        cause = error.source();
    }
    None
}

/// A request as it is sent to the server.
type Outgoing = Request<Body>;

#[cfg(test)]
mod tests;
