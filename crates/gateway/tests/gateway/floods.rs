//! Floods from outside: more connections than one source may have, slow bodies, and HTTP/2 frames written by hand.
//!
//! Whatever somebody does on a connection of their own, it ends or is answered, and others are still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_gateway::Options;
use alula_runtime::{Answer, Body};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Gateway, Reply, echo, get, get_once, outcome, until, within};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET /function/hello` in HPACK (RFC 7541): two indexed fields and two literals.
fn request_fields() -> Vec<u8> {
    let mut fields = vec![0x82, 0x86, 0x04, 15];
    fields.extend(b"/function/hello");
    fields.extend([0x01, 9]);
    fields.extend(b"localhost");
    fields
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request_fields())
}

/// The preface with these settings.
fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &payload));
    bytes
}

async fn still_serves(gateway: &Gateway) {
    assert_eq!(Reply::parse(&gateway.exchange(get_once("/function/hello")).await).status, 200);
}

/// Writes `bytes` again and again until the peer ends the connection, however it does; fails if it never does.
async fn floods_until_closed(stream: TcpStream, bytes: impl FnMut(u32) -> Vec<u8>) {
    sends_until_closed(stream, Duration::ZERO, bytes).await;
}

/// The same with a pause after each.
async fn sends_until_closed(mut stream: TcpStream, pause: Duration, mut bytes: impl FnMut(u32) -> Vec<u8>) {
    let (mut read, mut write) = stream.split();
    let writing = async {
        for turn in 0.. {
            if write.write_all(&bytes(turn)).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    };
    let reading = async {
        let mut buffer = [0; 16 * 1024];
        while read.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    };
    within(async {
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    })
    .await;
}

#[tokio::test]
async fn one_source_has_so_many_connections_and_no_more() {
    let options = Options { connections_per_source_max: 2, ..Options::default() };
    let gateway = Gateway::start(options, echo).await;
    let mut held = [gateway.connect().await, gateway.connect().await];
    for raw in &mut held {
        raw.send(get("/function/hello")).await;
        assert_eq!(raw.response().await.status, 200);
    }
    let reply = Reply::parse(&gateway.exchange(get_once("/function/hello")).await);
    assert_eq!((reply.status, reply.headers["connection"].as_str()), (429, "close"));
    assert_eq!(reply.json()["error"]["code"], "rate_limited");
    assert_eq!(reply.json()["error"]["limit"]["name"], "connections_per_source_max");
    drop(held);
    until(|| gateway.counts.closed.load(Ordering::SeqCst) == 2).await;
    still_serves(&gateway).await;
}

#[tokio::test]
async fn a_trusted_proxy_may_have_any_number() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let options = Options { connections_per_source_max: 1, trusted_proxies, ..Options::default() };
    let gateway = Gateway::start(options, echo).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = gateway.connect().await;
        raw.send(get("/function/hello")).await;
        assert_eq!(raw.response().await.status, 200);
        held.push(raw);
    }
}

#[tokio::test]
async fn a_small_body_that_drips_is_given_up() {
    let options = Options { body_idle_timeout_ms: 100, ..Options::default() };
    let gateway = Gateway::start(options, echo).await;
    let mut raw = gateway.connect().await;
    raw.send("POST /function/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n").await;
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if raw.0.write_all(b"x").await.is_err() {
                return;
            }
            let mut answer = [0; 12];
            if raw.0.try_read(&mut answer).is_ok_and(|length| length > 0) {
                assert_eq!(&answer, b"HTTP/1.1 400");
                return;
            }
        }
    };
    within(dripping).await;
    still_serves(&gateway).await;
}

#[tokio::test]
async fn a_caller_that_reads_a_little_now_and_then_is_given_up() {
    let gateway = Gateway::start(Options { write_timeout_ms: 200, ..Options::default() }, |_| async {
        let body = Body::full(vec![b'x'; 64 * 1024 * 1024]);
        Ok(outcome(Answer::new(StatusCode::OK, HeaderMap::new(), body)))
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    let mut buffer = [0; 512];
    let drip = async {
        while gateway.counts.closed.load(Ordering::SeqCst) == 0 {
            if raw.0.read(&mut buffer).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(drip).await;
}

#[tokio::test]
async fn a_response_that_no_window_is_opened_for_is_given_up() {
    let gateway = Gateway::start(Options { write_timeout_ms: 100, ..Options::default() }, |_| async {
        let body = Body::full(vec![b'x'; 1024 * 1024]);
        Ok(outcome(Answer::new(StatusCode::OK, HeaderMap::new(), body)))
    })
    .await;
    // INITIAL_WINDOW_SIZE is 0 at first; in the second case a byte of window comes now and then.
    for window in [None, Some(1_u32)] {
        let mut raw = gateway.connect().await;
        raw.send([preface(&[(4, 0)]), request(1)].concat()).await;
        sends_until_closed(raw.0, Duration::from_millis(5), |_| match window {
            Some(bytes) => frame(WINDOW_UPDATE, 0, 1, &bytes.to_be_bytes()),
            None => frame(PING, 0, 0, &[0; 8]),
        })
        .await;
    }
    until(|| gateway.counts.closed.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_reaches_few_functions() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let options = Options { header_timeout_ms: 500, ..Options::default() };
    let gateway = Gateway::start(options, move |invocation| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            echo(invocation).await
        }
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(preface(&[])).await;
    floods_until_closed(raw.0, |turn| {
        let stream = 2 * turn + 1;
        [request(stream), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    let reached = calls.load(Ordering::SeqCst);
    assert!(reached <= 2_000, "{reached} calls were begun for nothing");
    still_serves(&gateway).await;
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let gateway = Gateway::echo().await;
    let mut raw = gateway.connect().await;
    raw.send([preface(&[]), frame(HEADERS, 0, 1, &request_fields())].concat()).await;
    // A literal field of a kilobyte in each frame, never the last one.
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x07];
    field.extend(vec![b'y'; 1_024]);
    floods_until_closed(raw.0, |_| frame(CONTINUATION, 0, 1, &field)).await;
    let mut raw = gateway.connect().await;
    raw.send([preface(&[]), frame(HEADERS, 0, 1, &request_fields())].concat()).await;
    floods_until_closed(raw.0, |_| frame(CONTINUATION, 0, 1, &[])).await;
    still_serves(&gateway).await;
}

#[tokio::test]
async fn frames_that_ask_for_answers_end_with_the_patience_for_requests() {
    let options =
        Options { header_timeout_ms: 100, idle_timeout_ms: 100, write_timeout_ms: 100, ..Options::default() };
    let gateway = Gateway::start(options, echo).await;
    let settings = || frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let empty = || frame(DATA, 0, 1, &[]);
    let ping = || frame(PING, 0, 0, &[0; 8]);
    for flood in [&settings as &dyn Fn() -> Vec<u8>, &ping, &empty] {
        let mut raw = gateway.connect().await;
        raw.send(preface(&[])).await;
        floods_until_closed(raw.0, |_| flood()).await;
    }
    still_serves(&gateway).await;
}
