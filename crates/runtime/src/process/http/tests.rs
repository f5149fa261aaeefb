//! HTTP servers on the bare launcher, well-behaved and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use alula_model::ErrorCode;
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::conformance::{self, Fixtures, Traits, call};
use crate::process::testing::{Bench, fixture_plan, starting};
use crate::{Instance, VersionPlan};

fn fixture(concurrency: u32) -> Arc<VersionPlan> {
    fixture_plan("http", "http", |spec| spec.concurrency = concurrency)
}

async fn text(instance: &dyn Instance, target: &'static str) -> String {
    let answer = instance.call(call(target, Body::empty())).await.unwrap();
    String::from_utf8(answer.body.collect(1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn http_conforms() {
    let bench = Bench::new();
    for concurrency in [1, 8] {
        let fixtures = Fixtures {
            plan: fixture(concurrency),
            broken: Some(starting("http", "http", "broken")),
            never_ready: Some(starting("http", "http", "never")),
            log: Arc::clone(&bench.log),
            has: Traits {
                processes: true,
                streams_both_ways: true,
                refuses_garbage: true,
                ..Traits::default()
            },
        };
        conformance::check(&bench.backend, &fixtures).await;
    }
}

#[tokio::test]
async fn what_is_no_whole_answer_is_reported_and_the_next_call_works() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    for target in ["/garbage", "/half-head", "/huge-head", "/close"] {
        let fault = instance.call(call(target, Body::empty())).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::BadResponse, "{target}: {fault}");
        assert_eq!(text(&*instance, "/env?CONFORMANCE").await, "yes");
    }
    let answer = instance.call(call("/half-body", Body::empty())).await.unwrap();
    assert_eq!(answer.body.collect(1 << 20).await, Err(BodyError::Disconnected));
    assert_eq!(text(&*instance, "/env?CONFORMANCE").await, "yes");
}

#[tokio::test]
async fn an_exit_in_the_middle_of_a_call_is_a_crash_with_the_last_lines() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let fault = instance.call(call("/exit", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::FunctionCrashed);
    assert!(fault.message.ends_with("exit status 7"), "{fault}");
    assert_eq!(fault.log_tail, ["about to exit"]);
    assert!(instance.is_gone());
}

#[tokio::test]
async fn a_connection_is_used_again_after_its_answer_was_read() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let first = text(&*instance, "/peer").await;
    assert_eq!(text(&*instance, "/peer").await, first);
    let unread = instance.call(call("/big?1000000", Body::empty())).await.unwrap();
    drop(unread);
    assert_ne!(
        text(&*instance, "/peer").await,
        first,
        "an answer that was not read takes its connection along"
    );
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_used_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connected = || async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Connection::open(stream).await.unwrap(), server)
    };
    let connections = Connections::new(2);
    let (closed, server) = connected().await;
    let (open, _server) = connected().await;
    connections.put_back(open);
    connections.put_back(closed);
    drop(server);
    let seen = async {
        // The one that was put back last is taken first, until it is seen to be closed.
        while let Some(last) = connections.take() {
            let is_open = connections.take().is_none();
            if is_open {
                break;
            }
            connections.put_back(last);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    assert!(connections.take().is_none());
}

#[tokio::test]
async fn a_request_into_a_closed_connection_comes_back_unsent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut connection = Connection::open(stream).await.unwrap();
    drop(listener.accept().await.unwrap());
    let closed = async {
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    let mut error = connection.send(Request::new(Body::full("x"))).await.unwrap_err();
    let unsent = error.take_message().expect("nothing was sent");
    assert_eq!(unsent.into_body().as_full(), Some(&b"x"[..]));
}

#[tokio::test]
async fn heads_carry_what_belongs_to_both_ends() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let mut asked = call("/head?q=1", Body::full("x"));
    let headers = [
        ("host", "example.org"),
        ("te", "trailers"),
        ("x-mine", "1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    asked.headers.extend(
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    asked.remote = Some([203, 0, 113, 9].into());
    let id = asked.id.to_string();
    let answer = instance.call(asked).await.unwrap();
    assert!(!answer.headers.contains_key("x-secret") && !answer.headers.contains_key("connection"));
    let head =
        String::from_utf8(answer.body.collect(1 << 20).await.unwrap().to_vec()).unwrap().to_lowercase();
    for line in [
        "post /head?q=1 http/1.1",
        "host: example.org",
        "x-mine: 1",
        "x-forwarded-for: 203.0.113.9",
        "x-forwarded-host: example.org",
        "x-forwarded-proto: http",
        "content-length: 1",
        &format!("x-alula-invocation-id: {id}"),
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is missing in {head}");
    }
    assert!(!head.contains("x-hop") && !head.contains("te: "), "{head}");
}

#[tokio::test]
async fn an_upgrade_gives_the_raw_connection_and_half_closes() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let mut asked = call("/upgrade", Body::empty());
    asked.method = http::Method::GET;
    asked.headers.insert("upgrade", HeaderValue::from_static("echo"));
    asked.headers.insert("connection", HeaderValue::from_static("upgrade"));
    let answer = instance.call(asked).await.unwrap();
    assert_eq!(answer.status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers["upgrade"], "echo");
    let mut raw = answer.upgraded.unwrap().0;
    raw.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    raw.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    raw.shutdown().await.unwrap();
    let mut rest = String::new();
    raw.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "the other direction goes on after this one is closed");
}

#[tokio::test]
async fn an_upgraded_connection_ends_at_the_deadline_and_the_instance_stays() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let mut asked = call("/upgrade", Body::empty());
    asked.headers.insert("upgrade", HeaderValue::from_static("echo"));
    asked.deadline = Instant::now() + Duration::from_millis(500);
    let mut raw = instance.call(asked).await.unwrap().upgraded.unwrap().0;
    let error = raw.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(raw);
    assert!(!instance.is_gone());
    assert_eq!(text(&*instance, "/env?CONFORMANCE").await, "yes");
}

#[tokio::test]
async fn a_refusal_before_the_request_has_ended_is_passed_on() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let piece = bytes::Bytes::from(vec![0; 65536]);
    let answer = instance.call(call("/early", conformance::pieces(piece, 20))).await;
    // The server closes while it is still being sent to; whether its answer is seen is a race that it made.
    match answer {
        Ok(answer) => assert_eq!(answer.status, StatusCode::FORBIDDEN),
        Err(fault) => assert_eq!(fault.code, ErrorCode::BadResponse),
    }
    assert_eq!(text(&*instance, "/env?CONFORMANCE").await, "yes");
}

#[tokio::test]
async fn a_late_call_does_not_cut_its_neighbours() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(2)).await;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let open = futures_util::stream::once(async move {
        let _ = ended.await;
        Ok(http_body::Frame::data(bytes::Bytes::from("x")))
    });
    let neighbour =
        instance.call(call("/pace", Body::stream(http_body_util::StreamBody::new(open)))).await.unwrap();
    let mut late = call("/hang", Body::empty());
    late.deadline = Instant::now() + Duration::from_millis(200);
    assert_eq!(instance.call(late).await.unwrap_err().code, ErrorCode::FunctionTimeout);
    assert!(instance.is_gone(), "it takes no more calls");
    end.send(()).unwrap();
    assert_eq!(neighbour.body.collect(100).await.unwrap(), "readydone");
    tokio::time::timeout(Duration::from_secs(10), instance.gone()).await.unwrap();
}
