//! What programs in a cell find on its loopback interface: the proxy, a name server, and for each name that they looked up
//! an address whose ports lead to that name.
//!
//! ```text
//! getaddrinfo("db.internal") -> 127.0.0.1:53 -> rules, gate -> 127.64.0.1, and listeners on its ports
//! connect(127.64.0.1:5432)   -> the platform -> gate (resolves, checks, connects) -> db.internal:5432
//! ```
//!
//! The sockets are made by the cell's holder, since a socket belongs to the network that it was made in, and bound here.
//! Nothing is allocated for a name before it is asked for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use alula_model::HostName;
use alula_runtime::{Behalf, BoxFuture};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dns::{self, Answer, Question};
use super::gate::EgressGate;
use super::proxy;
use super::relay::copy_both;
use crate::protocol::SocketKind;

/// Where the name server listens.
const NAME_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
/// The first address that a name gets; `127.0.0.0/10` is left to the programs.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([127, 64, 0, 1]);
/// Names that the programs of one cell reach; each holds a descriptor a port for the life of the cell.
const NAMES_MAX: usize = 256;
/// Questions that are looked into at once.
const QUESTIONS_MAX: usize = 32;
/// Time for a question over TCP; a client that is slower is not there.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// After a failure to accept or receive: descriptors or memory are short, and others need the time to give some back.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes sockets inside the cell.
pub(crate) trait Sockets: Send + Sync {
    /// An unbound socket.
    fn socket(&self, kind: SocketKind) -> BoxFuture<'_, io::Result<OwnedFd>>;
}

/// The services of one cell.
#[derive(Clone)]
pub(crate) struct Inside {
    gate: EgressGate,
    by: Arc<Behalf>,
    sockets: Arc<dyn Sockets>,
    places: Arc<Semaphore>,
    names: Arc<Mutex<HashMap<HostName, Ipv4Addr>>>,
    /// Listeners that were made for names.
    made: mpsc::Sender<Leading>,
}

/// A listener that leads to a name.
struct Leading {
    listener: TcpListener,
    host: HostName,
    port: u16,
}

impl Inside {
    /// Serves a cell whose proxy listens at `proxy` until the task is aborted that runs what this returns. The name server
    /// listens when this returns.
    pub(crate) async fn open(
        gate: EgressGate,
        by: Behalf,
        sockets: Arc<dyn Sockets>,
        proxy: TcpListener,
    ) -> impl Future<Output = ()> + Send + use<> {
        let places = Arc::new(Semaphore::new(gate.limits().instance_connections_max));
        let (made, leading) = mpsc::channel(NAMES_MAX);
        let inside = Self { gate, by: Arc::new(by), sockets, places, names: Arc::default(), made };
        let server = inside.name_server().await;
        if let Err(error) = &server {
            tracing::warn!(%error, "a sandbox has no name server: its programs reach the outside by the proxy only");
        }
        async move {
            let server = async {
                match server {
                    Ok((datagrams, streams)) => inside.serve_names(datagrams, streams).await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::join!(inside.serve_proxy(proxy), server, inside.serve_leading(leading));
        }
    }

    async fn name_server(&self) -> io::Result<(UdpSocket, TcpListener)> {
        let datagrams = self.sockets.socket(SocketKind::Datagram).await?;
        rustix::net::bind(&datagrams, &NAME_SERVER)?;
        Ok((UdpSocket::from_std(datagrams.into())?, self.listen(NAME_SERVER).await?))
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.sockets.socket(SocketKind::StreamV4).await?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    async fn serve_proxy(&self, listener: TcpListener) {
        self.accept(listener, |client, place, inside| async move {
            let _place = place;
            proxy::serve(client, &inside.gate, &inside.by).await
        })
        .await;
    }

    /// Accepts connections as long as there are places, and hands each on.
    async fn accept<F, C>(&self, listener: TcpListener, carry: C)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
        C: Fn(TcpStream, OwnedSemaphorePermit, Self) -> F,
    {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((client, _)) => {
                    let connection = carry(client, place, self.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "an outbound connection of a function ended");
                        }
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Serves the listeners of names, from when they are made.
    async fn serve_leading(&self, mut made: mpsc::Receiver<Leading>) {
        let mut serving = JoinSet::new();
        while let Some(Leading { listener, host, port }) = made.recv().await {
            let inside = self.clone();
            serving.spawn(async move {
                let carry = |mut client: TcpStream, place, inside: Self| {
                    let host = host.clone();
                    async move {
                        let _place: OwnedSemaphorePermit = place;
                        match inside.gate.reach(&inside.by, host.as_str(), port).await {
                            Ok(mut server) => copy_both(&mut client, &mut server).await,
                            Err(error) => Err(refused(&client, &error)),
                        }
                    }
                };
                inside.accept(listener, carry).await;
            });
        }
    }

    async fn serve_names(&self, datagrams: UdpSocket, streams: TcpListener) {
        let datagrams = Arc::new(datagrams);
        let by_datagram = async {
            let mut questions = JoinSet::new();
            let mut buffer = [0; dns::UDP_BYTES_MAX];
            loop {
                match datagrams.recv_from(&mut buffer).await {
                    Ok((length, from)) => {
                        while questions.try_join_next().is_some() {}
                        let question = buffer.get(..length).and_then(dns::read);
                        // What is too much is not answered; who asks by datagram asks again.
                        let Some(question) = question.filter(|_| questions.len() < QUESTIONS_MAX) else {
                            continue;
                        };
                        let (inside, datagrams) = (self.clone(), Arc::clone(&datagrams));
                        questions.spawn(async move {
                            let answer = dns::write(&question, inside.answer(&question).await);
                            let _ = datagrams.send_to(&answer, from).await;
                        });
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let by_stream = self.accept(streams, |client, place, inside| async move {
            let _place = place;
            timeout(QUESTION_TIMEOUT, inside.answer_stream(client)).await?
        });
        tokio::join!(by_datagram, by_stream);
    }

    /// Answers questions that come with their length before them.
    async fn answer_stream(&self, mut client: TcpStream) -> io::Result<()> {
        loop {
            let length = usize::from(client.read_u16().await?);
            if length > dns::UDP_BYTES_MAX {
                return Ok(());
            }
            let mut message = vec![0; length];
            client.read_exact(&mut message).await?;
            let Some(question) = dns::read(&message) else { return Ok(()) };
            let answer = dns::write(&question, self.answer(&question).await);
            client.write_u16(u16::try_from(answer.len()).unwrap_or(0)).await?;
            client.write_all(&answer).await?;
        }
    }

    async fn answer(&self, question: &Question) -> Answer {
        let Ok(name) = HostName::new(&question.name) else { return Answer::NoSuchName };
        match self.address_of(&name).await {
            Ok(Some(address)) if question.is_for_address => Answer::Address(address),
            Ok(Some(_)) => Answer::Nothing,
            Ok(None) => Answer::NoSuchName,
            Err(error) => {
                tracing::info!(target: "alula_egress", ?name, %error, "a name cannot be given an address in a sandbox");
                Answer::Failure
            }
        }
    }

    /// The address that leads to a name; `None` where nothing may.
    async fn address_of(&self, name: &HostName) -> io::Result<Option<Ipv4Addr>> {
        // Held meanwhile, so that the two questions of one lookup make one address.
        let mut names = self.names.lock().await;
        if let Some(address) = names.get(name) {
            return Ok(Some(*address));
        }
        let ports = self.gate.ports_of(&self.by, name).await;
        if ports.is_empty() {
            return Ok(None);
        }
        if names.len() >= NAMES_MAX {
            return Err(io::Error::other(format!("{NAMES_MAX} names have one already")));
        }
        let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let address = Ipv4Addr::from(FIRST_ADDRESS.saturating_add(number));
        for port in ports {
            let listener = self.listen(SocketAddr::from((address, port))).await?;
            let leading = Leading { listener, host: name.clone(), port };
            // Who reads lives as long as the cell.
            let _ = self.made.send(leading).await;
        }
        names.insert(name.clone(), address);
        Ok(Some(address))
    }
}

/// A connection that cannot be made ends with an error for the program, not with an end of what was sent.
fn refused(client: &TcpStream, error: &alula_runtime::EgressError) -> io::Error {
    let _ = sockopt::set_socket_linger(client, Some(Duration::ZERO));
    io::Error::other(error.to_string())
}
