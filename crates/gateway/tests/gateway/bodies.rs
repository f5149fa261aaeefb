//! Bodies both ways: whole, streamed, held back, broken off.

use std::time::Duration;

use alula_gateway::Options;
use alula_invoke::Invocation;
use alula_model::ErrorCode;
use alula_runtime::{Answer, Body, BodyError};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::support::{Gateway, Reply, fault, get, get_once, outcome, within};

/// Answers whether the body was whole, its length, and how it ended.
async fn measure(invocation: Invocation) -> Result<alula_invoke::Outcome, alula_invoke::Failure> {
    let is_whole = invocation.body.as_full().is_some();
    let text = match invocation.body.collect(64 << 20).await {
        Ok(body) => format!("whole={is_whole} bytes={}", body.len()),
        Err(error) => return Err(fault(ErrorCode::InvalidRequest, &format!("whole={is_whole} {error}"))),
    };
    Ok(outcome(Answer::new(StatusCode::OK, HeaderMap::new(), Body::full(text))))
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /function/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n\r\n{body}")
}

#[tokio::test]
async fn small_bodies_are_whole_and_others_stream() {
    let gateway = Gateway::start(Options::default(), measure).await;
    let check = async |request: String, expect: &str| {
        assert_eq!(Reply::parse(&gateway.exchange(request).await).body, expect);
    };
    check(post("Content-Length: 0", ""), "whole=true bytes=0").await;
    check(post("Content-Length: 5", "hello"), "whole=true bytes=5").await;
    check(post("Content-Length: 65536", &"x".repeat(65_536)), "whole=true bytes=65536").await;
    check(post("Content-Length: 3000000", &"x".repeat(3_000_000)), "whole=false bytes=3000000").await;
    check(
        post("Transfer-Encoding: chunked", "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        "whole=false bytes=5",
    )
    .await;
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted() {
    let gateway = Gateway::start(Options::default(), measure).await;
    let mut raw = gateway.connect().await;
    raw.send(post("Content-Length: 5\r\nExpect: 100-continue", "")).await;
    assert_eq!(raw.through("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("hello").await;
    assert_eq!(raw.response().await.body, "whole=true bytes=5");
}

#[tokio::test]
async fn a_broken_upload_is_told_to_the_reader() {
    let (sender, mut ends) = mpsc::channel(8);
    let gateway = Gateway::start(Options::default(), move |invocation: Invocation| {
        let sender = sender.clone();
        async move {
            let end = invocation.body.collect(u64::MAX).await;
            sender.send(end.unwrap_err()).await.unwrap();
            Err(fault(ErrorCode::CallerGone, ""))
        }
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(post("Content-Length: 1000000", "only the beginning")).await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(within(ends.recv()).await, Some(BodyError::Disconnected));
    let reply = gateway.exchange(post("Transfer-Encoding: chunked", "5\r\nhello\r\nnonsense\r\n")).await;
    assert!(matches!(within(ends.recv()).await, Some(BodyError::Malformed { .. })), "{reply}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_by_its_limit() {
    let options = Options { body_idle_timeout_ms: 30, ..Options::default() };
    let gateway = Gateway::start(options, measure).await;
    let reply = Reply::parse(&gateway.exchange(post("Content-Length: 10", "12345")).await);
    assert_eq!(
        (reply.status, &reply.json()["error"]["limit"]["name"]),
        (400, &"body_idle_timeout_ms".into())
    );
    let reply = Reply::parse(&gateway.exchange(post("Content-Length: 100000", "12345")).await);
    assert_eq!(reply.json()["error"]["message"], "whole=false the body did not end in time");
}

#[tokio::test]
async fn a_sender_is_held_back_while_nobody_reads() {
    let (go, may_read) = tokio::sync::watch::channel(false);
    let gateway = Gateway::start(Options::default(), move |invocation: Invocation| {
        let mut may_read = may_read.clone();
        async move {
            may_read.wait_for(|go| *go).await.unwrap();
            measure(invocation).await
        }
    })
    .await;
    const BYTES: usize = 64 << 20;
    let mut raw = gateway.connect().await;
    raw.send(post(&format!("Content-Length: {BYTES}"), "")).await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    // The kernel's buffers take a few megabytes; were nothing held back, all of it would go through.
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(300), raw.0.write(&piece)).await {
        sent += result.unwrap();
        assert!(sent < BYTES, "nothing was held back");
    }
    go.send(true).unwrap();
    while sent < BYTES {
        let end = piece.len().min(BYTES - sent);
        sent += within(raw.0.write(&piece[..end])).await.unwrap();
    }
    assert_eq!(raw.response().await.body, format!("whole=false bytes={BYTES}"));
}

/// A function that answers with what comes out of a channel.
async fn channel_gateway() -> (Gateway, mpsc::Sender<Result<Frame<Bytes>, BodyError>>) {
    let (sender, receiver) = mpsc::channel(8);
    let once = std::sync::Mutex::new(Some(receiver));
    let gateway = Gateway::start(Options::default(), move |_| {
        let mut receiver = once.lock().unwrap().take().unwrap();
        async move {
            let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let headers =
                [(http::header::CONTENT_TYPE, "text/event-stream".parse().unwrap())].into_iter().collect();
            Ok(outcome(Answer::new(
                StatusCode::OK,
                headers,
                Body::stream(StreamBody::new(frames).boxed_unsync()),
            )))
        }
    })
    .await;
    (gateway, sender)
}

#[tokio::test]
async fn each_event_is_sent_as_soon_as_it_is_there() {
    let (gateway, events) = channel_gateway().await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    assert!(raw.through("\r\n\r\n").await.contains("transfer-encoding: chunked"));
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        events.send(Ok(Frame::data(event.clone().into()))).await.unwrap();
        assert_eq!(raw.through("\r\n").await, "9\r\n");
        assert_eq!(raw.through("\r\n").await, format!("{event}\r\n"));
    }
    drop(events);
    assert_eq!(raw.through("\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_passed_off_as_complete() {
    let (gateway, events) = channel_gateway().await;
    let mut raw = gateway.connect().await;
    raw.send(get_once("/function/hello")).await;
    events.send(Ok(Frame::data("half".into()))).await.unwrap();
    raw.through("half\r\n").await;
    events.send(Err(BodyError::Disconnected)).await.unwrap();
    assert!(!raw.remainder().await.contains("0\r\n\r\n"));
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_a_response_ends_it() {
    let (gateway, events) = channel_gateway().await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    raw.through("\r\n\r\n").await;
    drop(raw);
    within(events.closed()).await;
}
