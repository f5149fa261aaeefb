//! HTTP/2 without TLS, by prior knowledge.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alula_gateway::Options;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::support::{Gateway, echo, until, within};

pub type Client = SendRequest<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

/// Begins an HTTP/2 connection over `stream`.
pub async fn client(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn request(
    method: Method,
    uri: &str,
    body: &'static str,
) -> Request<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>> {
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::from(body)).boxed_unsync()).unwrap()
}

#[tokio::test]
async fn requests_are_served_and_know_their_host() {
    let gateway = Gateway::start(Options::default(), |invocation| async move {
        assert_eq!(invocation.headers["host"], "shop.test:81");
        assert_eq!(invocation.headers["x-forwarded-host"], "shop.test:81");
        echo(invocation).await
    })
    .await;
    let mut client = client(TcpStream::connect(gateway.address).await.unwrap()).await;
    let response =
        within(client.send_request(request(Method::POST, "http://shop.test:81/function/hello/x?y", "body")))
            .await;
    let (head, body) = response.unwrap().into_parts();
    assert_eq!((head.status, head.version), (StatusCode::OK, http::Version::HTTP_2));
    assert!(head.headers.contains_key("x-alula-invocation-id"));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "POST /x?y body");
    let response = within(client.send_request(request(Method::GET, "http://a/nowhere", ""))).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn many_streams_run_at_once_up_to_the_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let gateway = Gateway::start(Options { h2_streams_max: 16, ..Options::default() }, move |invocation| {
        let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            echo(invocation).await
        }
    })
    .await;
    let client = client(TcpStream::connect(gateway.address).await.unwrap()).await;
    // The server's limit is known once its settings have come, with the first response at the latest.
    let first = client.clone().send_request(request(Method::GET, "http://a/function/hello", ""));
    within(first).await.unwrap();
    let calls = (0..200).map(|number| {
        let mut client = client.clone();
        async move {
            let uri = format!("http://a/function/hello/{number}");
            let response = client.send_request(request(Method::GET, &uri, "")).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), format!("GET /{number} "));
        }
    });
    within(futures_util::future::join_all(calls)).await;
    assert!((2..=16).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn a_reset_stream_cancels_its_invocation_only() {
    let running = Arc::new(());
    let held = Arc::clone(&running);
    let gateway = Gateway::start(Options::default(), move |invocation| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            match invocation.uri.path() {
                "/forever" => std::future::pending().await,
                _ => echo(invocation).await,
            }
        }
    })
    .await;
    let mut client = client(TcpStream::connect(gateway.address).await.unwrap()).await;
    let forever =
        tokio::spawn(client.send_request(request(Method::GET, "http://a/function/hello/forever", "")));
    until(|| Arc::strong_count(&running) == 3).await;
    forever.abort();
    until(|| Arc::strong_count(&running) == 2).await;
    let response =
        within(client.send_request(request(Method::GET, "http://a/function/hello", ""))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn plain_connect_is_refused_and_big_headers_too() {
    let gateway = Gateway::start(Options { header_bytes_max: 8_192, ..Options::default() }, echo).await;
    let mut client = client(TcpStream::connect(gateway.address).await.unwrap()).await;
    let response =
        within(client.send_request(request(Method::CONNECT, "db.internal:5432", ""))).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut big = request(Method::GET, "http://a/function/hello", "");
    big.headers_mut().insert("x-big", "x".repeat(10_000).parse().unwrap());
    let mut many = request(Method::GET, "http://a/function/hello", "");
    for number in 0..101 {
        many.headers_mut().append("x-many", number.into());
    }
    for (refused, limit) in [(big, "header_bytes_max"), (many, "headers_max")] {
        let (head, body) = within(client.send_request(refused)).await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(head.headers.contains_key("x-alula-invocation-id"));
        let json: serde_json::Value =
            serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(json["error"]["limit"]["name"], limit);
    }
    // What is far too large is refused below, without a word but with the status.
    let mut huge = request(Method::GET, "http://a/function/hello", "");
    huge.headers_mut().insert("x-huge", "x".repeat(20_000).parse().unwrap());
    let result = within(client.send_request(huge)).await;
    assert!(
        result.is_err() || result.is_ok_and(|r| r.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_politely() {
    let gateway = Gateway::start(Options { idle_timeout_ms: 30, ..Options::default() }, echo).await;
    let mut client = client(TcpStream::connect(gateway.address).await.unwrap()).await;
    within(client.send_request(request(Method::GET, "http://a/function/hello", ""))).await.unwrap();
    until(|| client.is_closed() || gateway.counts.closed.load(Ordering::SeqCst) == 1).await;
}
