//! Outgoing requests against a server in this process.

use std::net::SocketAddr;

use alula_runtime::{BoxFuture, Connection};
use bytes::Bytes;
use http_body_util::{Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Connects to one server, whatever is asked for, but for what is called `private`.
#[derive(Debug)]
struct OneServer(SocketAddr);

impl Egress for OneServer {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
        Box::pin(async move {
            if host == "private" {
                return Err(EgressError::Refused("private"));
            }
            let stream = TcpStream::connect(self.0).await.map_err(EgressError::Unreachable)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(std::future::ready(Ok(vec![self.0])))
    }
}

/// A server that answers one request with `answer` and gives what it was asked.
async fn server(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"body") {
            assert_ne!(client.read_buf(&mut asked).await.unwrap(), 0);
        }
        client.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, served)
}

fn outgoing(address: Option<SocketAddr>, places: usize) -> Outgoing {
    let egress = address.map(|address| Arc::new(OneServer(address)) as Arc<dyn Egress>);
    Outgoing { ways: Ways { egress, platform: None, call: None }, places: Arc::new(Semaphore::new(places)) }
}

/// As an instance that runs one call.
fn inside(door: &Door) -> Outgoing {
    let mut outgoing = outgoing(None, 1);
    outgoing.ways.platform = Some((door.clone(), alula_runtime::conformance::plan("wasm", |_| {})));
    outgoing.begin(&alula_runtime::conformance::call("/", alula_runtime::Body::empty()));
    outgoing
}

#[tokio::test]
async fn what_is_for_the_platform_enters_by_the_door_as_the_call_that_runs() {
    for uri in ["http://127.0.0.1:3129/function/b", "http://gateway:8080/function/b"] {
        let (door, mut visits) = alula_runtime::door();
        let answering = tokio::spawn(async move {
            let mut visit = visits.next().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(visit.connection.read_buf(&mut asked).await.unwrap(), 0);
            }
            visit.connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let origin = visit.visitors.origin(&http::HeaderMap::new());
            (String::from_utf8(asked).unwrap(), origin.calls.len(), origin.plans.len())
        });
        let outgoing = inside(&door);
        assert_eq!(ask(outgoing, get(uri)).await.unwrap(), (200, Bytes::from("ok")));
        let (asked, calls, plans) = answering.await.unwrap();
        assert!(asked.starts_with("GET /function/b HTTP/1.1\r\n"), "{asked}");
        assert_eq!((calls, plans), (1, 1));
    }
    for uri in ["http://127.0.0.1:3129/function/b", "http://gateway:8080/", "http://localhost:3129/"] {
        let denied = ask(outgoing(None, 1), get(uri)).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{uri} {denied:?}");
    }
    let closed = ask(inside(&Door::default()), get("http://gateway:8080/")).await;
    assert!(matches!(closed, Err(Error::ConnectionTerminated)), "{closed:?}");
}

async fn ask(mut outgoing: Outgoing, request: Request<WasiBody>) -> Result<(u16, Bytes), Error> {
    let nothing = Box::new(std::future::ready(Ok(())));
    let (answer, io) = Box::into_pin(outgoing.send_request(request, None, nothing)).await?;
    let io = tokio::spawn(Box::into_pin(io));
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    io.await.unwrap()?;
    Ok((status, body))
}

fn get(uri: &str) -> Request<WasiBody> {
    Request::get(uri).body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
}

#[tokio::test]
async fn a_request_goes_out_as_servers_read_it_and_its_answer_comes_back() {
    let (address, served) = server(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nmade").await;
    let body = Full::new(Bytes::from("body")).map_err(|never| match never {}).boxed_unsync();
    let request = Request::post("http://example.com:8000/a?b=c").body(body).unwrap();
    assert_eq!(ask(outgoing(Some(address), 1), request).await.unwrap(), (201, Bytes::from("made")));
    let asked = served.await.unwrap();
    assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: example.com:8000\r\n"), "{asked}");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let (address, _served) = server(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    let answer = ask(outgoing(Some(address), 1), get("http://example.com/")).await.unwrap();
    assert_eq!(answer, (200, Bytes::from("until the end")));
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    for nonsense in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
        let (address, _served) = server(nonsense).await;
        let answer = ask(outgoing(Some(address), 1), get("http://example.com/")).await;
        assert!(matches!(answer, Err(Error::Hyper(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn the_policy_the_missing_network_and_the_limit_each_have_their_error() {
    let address = Some("127.0.0.1:1".parse().unwrap());
    let refused = ask(outgoing(address, 1), get("http://private/")).await;
    assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{refused:?}");
    let denied = ask(outgoing(None, 1), get("http://example.com/")).await;
    assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
    let full = ask(outgoing(address, 0), get("http://example.com/")).await;
    assert!(matches!(full, Err(Error::ConnectionLimitReached)), "{full:?}");
}

#[test]
fn targets_are_read_with_their_default_ports() {
    let of = |uri: &'static str| Target::of(&Uri::from_static(uri)).ok().map(|t| (t.host, t.port, t.is_tls));
    assert_eq!(of("https://example.com/x"), Some(("example.com".to_owned(), 443, true)));
    assert_eq!(of("http://[::1]:8080/"), Some(("::1".to_owned(), 8080, false)));
    assert_eq!(of("/only/a/path"), None);
}
