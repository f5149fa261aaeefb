//! Limits on connections and time, with the limits set so short that they strike at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alula_gateway::Options;
use alula_runtime::{Answer, Body};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncReadExt as _;

use crate::support::{Gateway, Reply, echo, get, get_once, outcome, until, within};

/// Long enough to be sure that a limit of a few milliseconds would have struck.
const LONG: Duration = Duration::from_millis(150);

fn short() -> Options {
    Options { header_timeout_ms: 40, idle_timeout_ms: 3_600_000, ..Options::default() }
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_so_and_closed() {
    let gateway = Gateway::start(Options { connections_max: 1, ..Options::default() }, echo).await;
    let mut first = gateway.connect().await;
    first.send(get("/function/hello")).await;
    assert_eq!(first.response().await.status, 200);
    let reply = Reply::parse(&gateway.exchange(get_once("/function/hello")).await);
    assert_eq!((reply.status, reply.headers["connection"].as_str()), (503, "close"));
    assert_eq!(reply.json()["error"]["limit"]["name"], "connections_max");
    assert!(reply.headers.contains_key("x-alula-invocation-id") && reply.headers.contains_key("retry-after"));
    assert_eq!(gateway.counts.rejected.load(Ordering::SeqCst), 1);
    drop(first);
    until(|| gateway.counts.closed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(Reply::parse(&gateway.exchange(get_once("/function/hello")).await).status, 200);
}

#[tokio::test]
async fn silence_and_slow_headers_end_a_connection() {
    let gateway = Gateway::start(short(), echo).await;
    let mut silent = gateway.connect().await;
    assert_eq!(silent.remainder().await, "");
    let mut slow = gateway.connect().await;
    slow.send("GET /function/hello HTTP/1.1\r\nHo").await;
    assert_eq!(slow.remainder().await, "");
    // The same on a connection that was served before.
    let mut slow = gateway.connect().await;
    slow.send(get("/function/hello")).await;
    assert_eq!(slow.response().await.status, 200);
    slow.send("GET /fun").await;
    assert_eq!(slow.remainder().await, "");
    assert_eq!(gateway.counts.opened.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_limit_on_headers_and_ends_by_its_own() {
    let gateway = Gateway::start(short(), echo).await;
    let mut raw = gateway.connect().await;
    for _ in 0..2 {
        raw.send(get("/function/hello")).await;
        assert_eq!(raw.response().await.status, 200);
        tokio::time::sleep(LONG).await;
    }
    let gateway = Gateway::start(Options { idle_timeout_ms: 20, ..Options::default() }, echo).await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    assert_eq!(raw.response().await.status, 200);
    assert_eq!(raw.remainder().await, "");
}

#[tokio::test]
async fn a_slow_function_is_not_mistaken_for_a_slow_caller() {
    let options =
        Options { header_timeout_ms: 20, idle_timeout_ms: 20, write_timeout_ms: 20, ..Options::default() };
    let gateway = Gateway::start(options, |invocation| async move {
        tokio::time::sleep(LONG).await;
        echo(invocation).await
    })
    .await;
    assert_eq!(Reply::parse(&gateway.exchange(get_once("/function/hello")).await).status, 200);
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_given_up() {
    struct Endless(tokio::sync::mpsc::Sender<()>);
    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = alula_runtime::BodyError;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            assert!(!self.0.is_closed());
            std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(
                &[b'x'; 16_384],
            )))))
        }
    }
    let (alive, mut ended) = tokio::sync::mpsc::channel(1);
    let alive = std::sync::Mutex::new(Some(alive));
    let gateway = Gateway::start(Options { write_timeout_ms: 50, ..Options::default() }, move |_| {
        let body = Body::stream(Endless(alive.lock().unwrap().take().unwrap()));
        async { Ok(outcome(Answer::new(StatusCode::OK, HeaderMap::new(), body))) }
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    within(raw.0.read_u8()).await.unwrap();
    // The body is dropped although the caller is still connected.
    assert_eq!(within(ended.recv()).await, None);
    until(|| gateway.counts.closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn options_out_of_bounds_are_refused_by_name() {
    let parts = || alula_gateway::Parts {
        gate: crate::support::gate(&crate::support::nobody()),
        invoke: Never,
        later: std::sync::Arc::new(crate::support::Accepting::default()) as _,
        events: std::sync::Arc::new(crate::support::Receiving::default()) as _,
        seal: alula_invoke::LineageSeal::new(crate::support::SECRET),
        routes: crate::support::Users,
        clock: std::sync::Arc::new(NoClock) as _,
        random: std::sync::Arc::new(|| 0),
        observe: std::sync::Arc::new(alula_gateway::Unobserved) as _,
    };
    let options = Options { idle_timeout_ms: 0, ..Options::default() };
    let error = alula_gateway::Service::new(options, parts()).unwrap_err();
    assert_eq!(error.to_string(), "option idle_timeout_ms: 0 is too small, the least is 1");
    let tls =
        alula_gateway::TlsOptions { certificate: "/nonexistent.pem".into(), key: "/nonexistent.pem".into() };
    let error =
        alula_gateway::Service::new(Options { tls: Some(tls), ..Options::default() }, parts()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "cannot read /nonexistent.pem");
}

#[derive(Debug)]
struct NoClock;

impl alula_model::Clock for NoClock {
    fn now(&self) -> alula_model::Timestamp {
        alula_model::Timestamp(0)
    }
}

#[derive(Debug)]
struct Never;

impl alula_gateway::Invoke for Never {
    async fn invoke(
        &self,
        _invocation: alula_invoke::Invocation,
    ) -> Result<alula_invoke::Outcome, alula_invoke::Failure> {
        std::future::pending().await
    }
}
