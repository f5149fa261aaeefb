//! Malformed and malicious HTTP/1.1. Whatever comes, nothing panics, nothing is smuggled past the parser, and the
//! next connection is served.

use std::sync::atomic::Ordering;

use alula_runtime::{Answer, Body};

use crate::support::{Gateway, Reply, echo, get, get_once, outcome};

/// How many responses came, and the status of the first.
fn responses(text: &str) -> (usize, u16) {
    let count = text.matches("HTTP/1.1 ").count() + text.matches("HTTP/1.0 ").count();
    (count, if count == 0 { 0 } else { Reply::parse(text).status })
}

/// Whatever is refused is refused with a reason and an id.
fn is_explained(text: &str, code: &str) {
    let reply = Reply::parse(text);
    let (id, json) = (&reply.headers["x-alula-invocation-id"], reply.json());
    assert_eq!(json["error"]["code"], code, "{text}");
    assert_eq!(json["error"]["invocation_id"], id.as_str(), "{text}");
    assert_eq!(reply.headers["x-alula-error"], code, "{text}");
}

async fn still_serves(gateway: &Gateway) {
    assert_eq!(Reply::parse(&gateway.exchange(get_once("/function/hello")).await).body, "GET / ");
    assert_eq!(gateway.counts.panicked.load(Ordering::SeqCst), 0);
}

const SMUGGLED: &str = "GET /function/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn two_framings_of_one_body_never_make_two_requests() {
    let gateway = Gateway::echo().await;
    let head = "POST /function/hello HTTP/1.1\r\nHost: a\r\n";
    let chunked_end = format!("0\r\n\r\n{SMUGGLED}");
    for lines in [
        // By its length the body holds the second request, by its chunks it ends before.
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked_end}", chunked_end.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n{chunked_end}", chunked_end.len()),
        // By its length the body ends early, by its chunks it holds the rest.
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2f\r\n{SMUGGLED}\r\n0\r\n\r\n"),
    ] {
        let text = gateway.exchange(format!("{head}{lines}")).await;
        assert_eq!(responses(&text).0, 1, "{lines:?} -> {text}");
        assert!(!text.contains("GET /smuggled"), "{text}");
    }
    still_serves(&gateway).await;
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused() {
    let gateway = Gateway::echo().await;
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 18446744073709551616",
        "Content-Length: ",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        " Content-Length: 5",
        "X-Folded: a\r\n Content-Length: 5",
        "X-Nul: a\0b",
        "X-Return: a\rContent-Length: 5",
        "No colon here",
        ": no name",
        "X Y: 1",
    ] {
        let request = format!("POST /function/hello HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nhello{SMUGGLED}");
        let text = gateway.exchange(request).await;
        assert_eq!(responses(&text), (1, 400), "{lines:?} -> {text}");
        is_explained(&text, "invalid_request");
    }
    still_serves(&gateway).await;
}

#[tokio::test]
async fn equal_lengths_count_as_one() {
    let gateway = Gateway::echo().await;
    let lines = "Connection: close\r\nContent-Length: 5\r\nContent-Length: 5";
    let text =
        gateway.exchange(format!("POST /function/hello HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nhello")).await;
    assert_eq!((responses(&text), Reply::parse(&text).body.as_str()), ((1, 200), "POST / hello"));
}

#[tokio::test]
async fn bare_line_feeds_split_no_header_in_two() {
    let gateway = Gateway::echo().await;
    // A bare line feed may end a line (RFC 9112 2.2); it must then do so for every line alike.
    let text = gateway.exchange("GET /function/hello HTTP/1.1\nHost: a\nConnection: close\n\n").await;
    assert!(matches!(responses(&text), (1, 200 | 400)), "{text}");
    still_serves(&gateway).await;
}

#[tokio::test]
async fn bad_chunks_end_the_connection() {
    let gateway = Gateway::echo().await;
    for chunks in
        ["ffffffffffffffffff\r\n", "-1\r\n", "5 \r\nhelloX\r\n", "zz\r\n\r\n", "5\nhello\n0\n\n", "\r\n\r\n"]
    {
        let head = "POST /function/hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = gateway.exchange(format!("{head}{chunks}{SMUGGLED}")).await;
        assert_eq!(responses(&text), (1, 400), "{chunks:?} -> {text}");
        assert!(!text.contains("GET /smuggled"), "{text}");
    }
    still_serves(&gateway).await;
}

#[tokio::test]
async fn what_is_too_long_is_refused_with_a_status() {
    let gateway = Gateway::echo().await;
    let long = "x".repeat(70_000);
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (request, limit, value) in [
        (
            format!("GET /function/hello HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
            "header_bytes_max",
            65_536,
        ),
        (format!("GET /function/hello HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "headers_max", 100),
        (format!("GET /function/hello/{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "header_bytes_max", 65_536),
        (
            format!("{} /function/hello HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(70_000)),
            "header_bytes_max",
            65_536,
        ),
    ] {
        let text = gateway.exchange(request).await;
        assert_eq!(responses(&text), (1, 431), "{text}");
        is_explained(&text, "headers_too_large");
        let named = &Reply::parse(&text).json()["error"]["limit"];
        assert_eq!((named["name"].as_str(), named["value"].as_u64()), (Some(limit), Some(value)), "{text}");
    }
    still_serves(&gateway).await;
}

#[tokio::test]
async fn a_target_that_no_uri_may_have_is_refused_as_such() {
    let options = alula_gateway::Options { header_bytes_max: 128 * 1024, ..Default::default() };
    let gateway = Gateway::start(options, echo).await;
    let long = "x".repeat(70_000);
    let text = gateway.exchange(format!("GET /function/hello/{long} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(responses(&text), (1, 414), "{text}");
    is_explained(&text, "headers_too_large");
}

#[tokio::test]
async fn a_refusal_after_a_good_request_is_explained_too() {
    let gateway = Gateway::echo().await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    assert_eq!(raw.response().await.status, 200);
    raw.send("No HTTP\r\n\r\n").await;
    let text = raw.remainder().await;
    assert_eq!(responses(&text), (1, 400), "{text}");
    is_explained(&text, "invalid_request");
    // The same with both on their way at once.
    let text = gateway.exchange(format!("{}No HTTP\r\n\r\n", get("/function/hello"))).await;
    assert_eq!(responses(&text), (2, 200), "{text}");
    let (_, refusal) = text.split_once("GET / ").unwrap();
    assert_eq!(responses(refusal), (1, 400), "{text}");
    is_explained(refusal, "invalid_request");
}

#[tokio::test]
async fn what_a_function_says_is_never_mistaken_for_a_refusal() {
    const LOOKALIKE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let gateway = Gateway::start(alula_gateway::Options::default(), |_| async {
        let pieces = [LOOKALIKE, LOOKALIKE].map(|piece| Ok(http_body::Frame::data(piece.into())));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        Ok(outcome(Answer::new(http::StatusCode::OK, http::HeaderMap::new(), Body::stream(body))))
    })
    .await;
    let text = gateway.exchange(get_once("/function/hello")).await;
    assert_eq!(text.matches(LOOKALIKE).count(), 2, "{text}");
    assert!(!text.contains("invalid_request"), "{text}");
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused() {
    let gateway = Gateway::echo().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS handshake\r\n\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /function/hello\r\n\r\n",
        b"GET /function/hello HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET  /function/hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /function/he llo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\xffT /function/hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /function/hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /function/hello HTTP/1.1\r\n\r\n",
        b"GET function/hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut raw = gateway.connect().await;
        raw.send(bytes).await;
        tokio::io::AsyncWriteExt::shutdown(&mut raw.0).await.unwrap();
        let text = raw.remainder().await;
        let (count, status) = responses(&text);
        assert!(count <= 1 && matches!(status, 0 | 400 | 404), "{} -> {text}", bytes.escape_ascii());
    }
    still_serves(&gateway).await;
}

#[tokio::test]
async fn odd_but_legal_requests_are_served() {
    let gateway = Gateway::echo().await;
    let check = async |request: &str, status: u16, body: &str| {
        let reply = Reply::parse(&gateway.exchange(request).await);
        assert_eq!(reply.status, status, "{request:?} -> {reply:?}");
        assert!(reply.body.contains(body), "{request:?} -> {reply:?}");
        assert!(reply.headers.contains_key("x-alula-invocation-id"));
    };
    check("GET /function/hello HTTP/1.0\r\n\r\n", 200, "GET / ").await;
    let close = "Connection: close\r\n\r\n";
    check(&format!("GET http://other.test/function/hello/x HTTP/1.1\r\nHost: a\r\n{close}"), 200, "GET /x ")
        .await;
    check(&format!("BREW /function/hello HTTP/1.1\r\nHost: a\r\n{close}"), 200, "BREW / ").await;
    check(&format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{close}"), 404, "not_found").await;
    check(&format!("OPTIONS /function/hello HTTP/1.1\r\nHost: a\r\n{close}"), 200, "OPTIONS / ").await;
    check(&format!("CONNECT db.internal:5432 HTTP/1.1\r\nHost: a\r\n{close}"), 405, "method_not_allowed")
        .await;
    check(&format!("TRACE /function/hello HTTP/1.1\r\nHost: a\r\n{close}"), 200, "TRACE / ").await;
    check(&format!("GET /function/hello/\"{{|}} HTTP/1.1\r\nHost: a\r\n{close}"), 200, "GET /").await;
    check(&format!("GET /function/hello?\u{e9} HTTP/1.1\r\nHost: a\r\n{close}"), 200, "GET /?").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::echo().await;
    let mut raw = gateway.connect().await;
    let requests: String = (0..20).map(|n| get(&format!("/function/hello/{n}"))).collect();
    raw.send(requests).await;
    for number in 0..20 {
        assert_eq!(raw.response().await.body, format!("GET /{number} "));
    }
}
