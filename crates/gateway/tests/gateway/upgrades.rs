//! WebSocket handshakes over HTTP/1.1 and HTTP/2, and the byte streams after them.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use alula_gateway::Options;
use alula_invoke::Invocation;
use alula_runtime::{Answer, Body, Upgraded};
use http::{HeaderMap, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;

use crate::support::{Gateway, echo, outcome, text, until, within};

const HANDSHAKE: &str = "GET /function/chat/room HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\n\r\n";

/// A function that agrees to one upgrade, and the function's end of the connection.
async fn chat(options: Options) -> (Gateway, DuplexStream) {
    let (platform, function) = tokio::io::duplex(1024);
    let platform = Mutex::new(Some(platform));
    let gateway = Gateway::start(options, move |invocation: Invocation| {
        let platform = platform.lock().unwrap().take();
        async move {
            let wants = invocation.headers.get(header::UPGRADE).is_some_and(|value| value == "websocket");
            let (true, Some(platform)) = (wants, platform) else { return echo(invocation).await };
            assert_eq!(invocation.headers[header::CONNECTION], "upgrade");
            assert!(invocation.headers.contains_key(header::SEC_WEBSOCKET_KEY));
            assert_eq!(invocation.method, Method::GET);
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
            headers.insert(header::UPGRADE, "websocket".parse().unwrap());
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap());
            let mut answer = Answer::new(StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty());
            answer.upgraded = Some(Upgraded(Box::new(platform)));
            Ok(outcome(answer))
        }
    })
    .await;
    (gateway, function)
}

#[tokio::test]
async fn bytes_go_both_ways_after_the_handshake_and_each_way_ends_by_itself() {
    let (gateway, mut function) = chat(Options::default()).await;
    let mut raw = gateway.connect().await;
    // The first frame may come together with the handshake.
    raw.send(format!("{HANDSHAKE}early")).await;
    let reply = crate::support::Reply::parse(&raw.through("\r\n\r\n").await);
    assert_eq!((reply.status, reply.headers["upgrade"].as_str()), (101, "websocket"));
    assert_eq!(reply.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(reply.headers.contains_key("x-alula-invocation-id"));
    let mut heard = [0; 5];
    within(function.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"early");
    raw.send("bye").await;
    raw.0.shutdown().await.unwrap();
    let mut rest = String::new();
    within(function.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "bye");
    // It may look like HTTP: on this connection it is not.
    let late = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
    function.write_all(late.as_bytes()).await.unwrap();
    drop(function);
    assert_eq!(raw.remainder().await, late);
    until(|| gateway.counts.closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_function_may_decline_an_upgrade() {
    let gateway = Gateway::start(Options::default(), |_| async { Ok(text(426, &[], "no")) }).await;
    let mut raw = gateway.connect().await;
    raw.send(HANDSHAKE).await;
    let reply = raw.response().await;
    assert_eq!((reply.status, reply.body.as_str()), (426, "no"));
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_a_bad_response() {
    let gateway = Gateway::start(Options::default(), |_| async {
        let mut answer = Answer::new(StatusCode::SWITCHING_PROTOCOLS, HeaderMap::new(), Body::empty());
        answer.upgraded = Some(Upgraded(Box::new(tokio::io::duplex(1).0)));
        Ok(outcome(answer))
    })
    .await;
    for request in [
        crate::support::get("/function/chat"),
        HANDSHAKE.replace("WebSocket\r\n", "tcp\r\n"),
        HANDSHAKE.replace("keep-alive, Upgrade", "keep-alive"),
        HANDSHAKE.replace("GET", "POST"),
    ] {
        let mut raw = gateway.connect().await;
        raw.send(&request).await;
        let reply = raw.response().await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (502, &"bad_response".into()),
            "{request}"
        );
    }
}

#[tokio::test]
async fn an_upgraded_connection_ends_after_silence_and_at_the_end_of_the_drain_time() {
    let options = Options { upgrade_idle_timeout_ms: 30, ..Options::default() };
    let (gateway, mut function) = chat(options).await;
    let mut raw = gateway.connect().await;
    raw.send(HANDSHAKE).await;
    raw.through("\r\n\r\n").await;
    assert_eq!(within(function.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(raw.remainder().await, "");

    let options = Options { drain_timeout_ms: 30, ..Options::default() };
    let (gateway, mut function) = chat(options).await;
    let mut raw = gateway.connect().await;
    raw.send(HANDSHAKE).await;
    raw.through("\r\n\r\n").await;
    gateway.stop().await;
    assert_eq!(within(function.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(raw.remainder().await, "");
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_ends() {
    let (gateway, mut function) = chat(Options { connections_max: 1, ..Options::default() }).await;
    let mut raw = gateway.connect().await;
    raw.send(HANDSHAKE).await;
    raw.through("\r\n\r\n").await;
    function.write_all(b"x").await.unwrap();
    raw.through("x").await;
    let refused = gateway.exchange(crate::support::get("/function/chat")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(gateway.counts.closed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_extended_connect_of_http2_is_the_same_handshake() {
    let (gateway, mut function) = chat(Options::default()).await;
    let mut client = crate::http2::client(TcpStream::connect(gateway.address).await.unwrap()).await;
    // An extended CONNECT may be sent once the server's settings have allowed it.
    let first = crate::http2::request(Method::GET, "http://a/_alula/livez", "");
    within(client.send_request(first)).await.unwrap();
    let mut request = crate::http2::request(Method::CONNECT, "http://a/function/chat/room", "");
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = within(client.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_ACCEPT));
    assert!(!response.headers().contains_key(header::UPGRADE));
    let mut caller = TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap());
    caller.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    within(function.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"ping");
    function.write_all(b"pong").await.unwrap();
    within(caller.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"pong");
}
