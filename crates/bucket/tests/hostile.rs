//! What no well-behaved client sends: requests made by hand, signed by hand, over a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use endpoint::Endpoint;

mod endpoint;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const REGION: &str = "us-east-1";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(text: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, text))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// The moment as S3 writes it, so many minutes from now.
fn moment(minutes: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A request that is to be signed.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: String,
    query: String,
    /// Signed, besides `x-amz-date` and `x-amz-content-sha256`.
    headers: Vec<(String, String)>,
    /// Sent, and not signed.
    unsigned: Vec<(String, String)>,
    payload: String,
    body: Vec<u8>,
    moment: String,
}

/// A status, and the body.
type Answer = (u16, String);

impl Request {
    fn new(method: &'static str, path: &str, body: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: String::new(),
            headers: vec![("host".to_owned(), "s3.local".to_owned())],
            unsigned: vec![("content-length".to_owned(), body.len().to_string())],
            payload: UNSIGNED.to_owned(),
            body: body.as_bytes().to_vec(),
            moment: moment(0),
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn unsigned(mut self, name: &str, value: &str) -> Self {
        self.unsigned.retain(|(known, _)| known != name);
        self.unsigned.push((name.to_owned(), value.to_owned()));
        self
    }

    fn scope(&self) -> String {
        format!("{}/{REGION}/s3/aws4_request", &self.moment[..8])
    }

    fn signing_key(&self, endpoint: &Endpoint) -> hmac::Tag {
        let first = format!("AWS4{}", endpoint.key.secret);
        let day = mac(first.as_bytes(), &self.moment[..8]);
        let region = mac(day.as_ref(), REGION);
        let service = mac(region.as_ref(), "s3");
        mac(service.as_ref(), "aws4_request")
    }

    fn signature(&self, endpoint: &Endpoint, signed: &[(String, String)]) -> String {
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{}\n{}",
            self.method,
            self.path,
            self.query,
            names.join(";"),
            self.payload
        );
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", self.moment, self.scope(), sha256(canonical.as_bytes()));
        hex(mac(self.signing_key(endpoint).as_ref(), &to_sign))
    }

    /// Signed with headers, with the signature beside it.
    fn signed(&self, endpoint: &Endpoint) -> (Vec<u8>, String) {
        let mut signed = self.headers.clone();
        signed.push(("x-amz-content-sha256".to_owned(), self.payload.clone()));
        signed.push(("x-amz-date".to_owned(), self.moment.clone()));
        signed.sort();
        let signature = self.signature(endpoint, &signed);
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={signature}",
            endpoint.key.id,
            self.scope(),
            names.join(";")
        );
        (self.written(&signed, Some(&authorization)), signature)
    }

    /// Signed in its query, for so many seconds.
    fn presigned(mut self, endpoint: &Endpoint, seconds: u64) -> Vec<u8> {
        let credential = format!("{}%2F{}", endpoint.key.id, self.scope().replace('/', "%2F"));
        self.query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={}&X-Amz-Expires={seconds}\
             &X-Amz-SignedHeaders=host",
            self.moment
        );
        let signature = self.signature(endpoint, &self.headers);
        let _ = write!(self.query, "&X-Amz-Signature={signature}");
        self.written(&self.headers, None)
    }

    fn written(&self, headers: &[(String, String)], authorization: Option<&str>) -> Vec<u8> {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let mut head =
            format!("{} {}{mark}{} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path, self.query);
        for (name, value) in headers.iter().chain(&self.unsigned) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if headers.iter().all(|(name, _)| name != "host") {
            head.push_str("host: s3.local\r\n");
        }
        if let Some(authorization) = authorization {
            let _ = write!(head, "authorization: {authorization}\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    async fn send(&self, endpoint: &Endpoint) -> Answer {
        send(endpoint, &self.signed(endpoint).0).await
    }
}

async fn send(endpoint: &Endpoint, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    // An answer may come, and the connection end, before everything is sent.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

fn refused((status, body): &Answer, code: &str) -> bool {
    (400..600).contains(status) && body.contains(&format!("<Code>{code}</Code>"))
}

/// An endpoint with the bucket `box` and the object `secret` in it.
async fn endpoint() -> Endpoint {
    let endpoint = Endpoint::start().await;
    assert_eq!(Request::new("PUT", "/box", "").send(&endpoint).await.0, 200);
    assert_eq!(Request::new("PUT", "/box/secret", "secret").send(&endpoint).await.0, 200);
    endpoint
}

async fn get(endpoint: &Endpoint, path: &str) -> Answer {
    Request::new("GET", path, "").send(endpoint).await
}

#[tokio::test]
async fn only_signatures_of_version_four_are_taken() {
    let endpoint = endpoint().await;
    let put = Request::new("PUT", "/box/a", "x");
    let unsigned = put.written(&put.headers, None);
    assert!(refused(&send(&endpoint, &unsigned).await, "AccessDenied"));
    let second = put.written(&put.headers, Some(&format!("AWS {}:c2lnbmF0dXJl", endpoint.key.id)));
    assert!(refused(&send(&endpoint, &second).await, "NotImplemented"));
    let mut presigned = put.clone();
    presigned.query = format!("AWSAccessKeyId={}&Expires=9999999999&Signature=c2ln", endpoint.key.id);
    assert!(refused(&send(&endpoint, &presigned.written(&put.headers, None)).await, "NotImplemented"));
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n";
    let form = Request::new("POST", "/box", form).unsigned("content-type", "multipart/form-data; boundary=b");
    assert!(refused(&send(&endpoint, &form.written(&form.headers, None)).await, "NotImplemented"));
    assert!(refused(&form.send(&endpoint).await, "NotImplemented"), "signed or not");
    let (mut twice, _) = put.signed(&endpoint);
    let query = b"PUT /box/a?X-Amz-Signature=00&X-Amz-SignedHeaders=host HTTP/1.1";
    twice.splice(0.."PUT /box/a HTTP/1.1".len(), query.iter().copied());
    assert!(refused(&send(&endpoint, &twice).await, "InvalidArgument"), "one way to sign");
    for wrong in [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 x",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=",
    ] {
        let answer = send(&endpoint, &put.written(&put.headers, Some(wrong))).await;
        assert!((400..500).contains(&answer.0), "{wrong}: {answer:?}");
    }
    assert!(refused(&get(&endpoint, "/box/a").await, "NoSuchKey"));
}

#[tokio::test]
async fn nothing_is_added_to_what_was_signed() {
    let endpoint = endpoint().await;
    let upload = Request::new("PUT", "/box/upload", "");
    // Who was given an address to upload to could otherwise read every object of the namespace.
    let copy = upload.clone().unsigned("x-amz-copy-source", "/box/secret");
    assert!(refused(&copy.send(&endpoint).await, "AccessDenied"));
    assert!(refused(&send(&endpoint, &copy.presigned(&endpoint, 60)).await, "AccessDenied"));
    assert!(refused(&get(&endpoint, "/box/upload").await, "NoSuchKey"));
    let signed = upload.header("x-amz-copy-source", "/box/secret");
    assert_eq!(signed.send(&endpoint).await.0, 200);
    assert_eq!(get(&endpoint, "/box/upload").await, (200, "secret".to_owned()));
    let mut without_host = Request::new("GET", "/box/secret", "");
    without_host.headers.clear();
    assert!(refused(&without_host.send(&endpoint).await, "AccessDenied"), "it would hold for any host");
    let mut other_path = Request::new("GET", "/box/upload", "").signed(&endpoint).0;
    other_path.splice(0.."GET /box/upload".len(), b"GET /box/secret".iter().copied());
    assert!(refused(&send(&endpoint, &other_path).await, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn signatures_hold_for_their_time_only() {
    let endpoint = endpoint().await;
    for minutes in [-16, 16, 60 * 24] {
        let late = Request { moment: moment(minutes), ..Request::new("GET", "/box/secret", "") };
        assert!(refused(&late.send(&endpoint).await, "RequestTimeTooSkewed"), "{minutes}");
    }
    let get = |minutes| Request { moment: moment(minutes), ..Request::new("GET", "/box/secret", "") };
    assert_eq!(send(&endpoint, &get(-5).presigned(&endpoint, 600)).await, (200, "secret".to_owned()));
    assert!(refused(&send(&endpoint, &get(-5).presigned(&endpoint, 60)).await, "AccessDenied"));
    let for_ever = send(&endpoint, &get(0).presigned(&endpoint, 8 * 86_400)).await;
    assert!(refused(&for_ever, "AuthorizationQueryParametersError"), "{for_ever:?}");
}

/// Chunks as they are signed one after another; `forged` is one whose signature is another's.
fn chunks(request: &Request, endpoint: &Endpoint, pieces: &[&str], forged: Option<usize>) -> Vec<u8> {
    let (mut sent, mut previous) = request.signed(endpoint);
    let key = request.signing_key(endpoint);
    for (number, piece) in pieces.iter().chain(&[""]).enumerate() {
        let to_sign = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{}\n{}",
            request.moment,
            request.scope(),
            sha256(b""),
            sha256(piece.as_bytes())
        );
        previous = hex(mac(key.as_ref(), &to_sign));
        let signature = if forged == Some(number) { "0".repeat(64) } else { previous.clone() };
        let chunk = format!("{:x};chunk-signature={signature}\r\n{piece}\r\n", piece.len());
        sent.extend_from_slice(chunk.as_bytes());
    }
    sent
}

fn chunked(path: &str, payload: &str, content: &str) -> Request {
    let request = Request::new("PUT", path, "")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", &content.len().to_string())
        .unsigned("content-length", "100000");
    Request { payload: payload.to_owned(), ..request }
}

/// Sends it with the length that it really has.
async fn send_chunked(endpoint: &Endpoint, bytes: Vec<u8>) -> Answer {
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.replace("content-length: 100000", &format!("content-length: {}", body.len()));
    send(endpoint, format!("{head}\r\n\r\n{body}").as_bytes()).await
}

#[tokio::test]
async fn each_chunk_is_checked() {
    let endpoint = endpoint().await;
    let request = chunked("/box/chunks", CHUNKS, "onetwo");
    let whole = chunks(&request, &endpoint, &["one", "two"], None);
    assert_eq!(send_chunked(&endpoint, whole).await.0, 200);
    assert_eq!(get(&endpoint, "/box/chunks").await.1, "onetwo");
    let request = chunked("/box/forged", CHUNKS, "onetwo");
    for forged in 0..3 {
        let forged = chunks(&request, &endpoint, &["one", "two"], Some(forged));
        let answer = send_chunked(&endpoint, forged).await;
        assert!((400..500).contains(&answer.0), "{answer:?}");
    }
    for pieces in [&["one"][..], &["one", "two", "three"]] {
        let answer = send_chunked(&endpoint, chunks(&request, &endpoint, pieces, None)).await;
        assert!((400..500).contains(&answer.0), "another length than was signed: {answer:?}");
    }
    assert!(refused(&get(&endpoint, "/box/forged").await, "NoSuchKey"));
}

#[tokio::test]
async fn the_checksum_behind_an_unsigned_content_is_checked() {
    let endpoint = endpoint().await;
    let request =
        |path: &str| chunked(path, UNSIGNED_CHUNKS, "hello").header("x-amz-trailer", "x-amz-checksum-crc32");
    let with = |path: &str, trailer: &str| {
        let mut sent = request(path).signed(&endpoint).0;
        sent.extend_from_slice(format!("5\r\nhello\r\n0\r\n{trailer}\r\n").as_bytes());
        sent
    };
    let right = with("/box/trailer", "x-amz-checksum-crc32:NhCmhg==\r\n");
    assert_eq!(send_chunked(&endpoint, right).await.0, 200);
    assert_eq!(get(&endpoint, "/box/trailer").await.1, "hello");
    for wrong in ["x-amz-checksum-crc32:AAAAAA==\r\n", "", "x-amz-checksum-sha256:AAAA\r\n"] {
        let answer = send_chunked(&endpoint, with("/box/wrong", wrong)).await;
        assert!((400..500).contains(&answer.0), "{wrong:?}: {answer:?}");
    }
    assert!(refused(&get(&endpoint, "/box/wrong").await, "NoSuchKey"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_comes() {
    let endpoint = endpoint().await;
    let large = (6_u64 << 30).to_string();
    let put = Request::new("PUT", "/box/large", "").unsigned("content-length", &large);
    assert!(refused(&put.send(&endpoint).await, "EntityTooLarge"));
    let chunked = chunked("/box/large", CHUNKS, "").unsigned("content-length", &large);
    let mut chunked = chunked;
    chunked.headers.retain(|(name, _)| name != "x-amz-decoded-content-length");
    let chunked = chunked.header("x-amz-decoded-content-length", &large);
    assert!(refused(&chunked.send(&endpoint).await, "EntityTooLarge"));
    for wrong in ["-1", "x", "99999999999999999999999"] {
        let answer =
            Request::new("PUT", "/box/large", "").unsigned("content-length", wrong).send(&endpoint).await;
        assert!((400..500).contains(&answer.0), "{wrong}: {answer:?}");
    }
    let huge =
        Request::new("GET", "/box/secret", "").unsigned("x-huge", &"x".repeat(2 << 20)).send(&endpoint).await;
    assert!((400..500).contains(&huge.0) || huge.0 == 0, "{huge:?}");
    assert_eq!(get(&endpoint, "/box/secret").await.0, 200);
}

#[tokio::test]
async fn an_upload_that_is_broken_off_leaves_nothing() {
    let endpoint = endpoint().await;
    let put = Request::new("PUT", "/box/half", "half").unsigned("content-length", "1000");
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    stream.write_all(&put.signed(&endpoint).0).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(refused(&get(&endpoint, "/box/half").await, "NoSuchKey"));
    let incoming = endpoint.folder.path().join("data/objects-incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn keys_are_names_and_never_paths() {
    let endpoint = endpoint().await;
    let keys = [
        "..",
        "../../etc/passwd",
        "a/../b",
        "a//b",
        "/",
        "//",
        ".",
        "a%2Fb",
        "%2e%2e%2fx",
        "a%00b",
        "~!*'()",
    ];
    for (number, key) in keys.iter().enumerate() {
        // As a client encodes it: what is no letter is written with percent signs.
        let encoded: String = key
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        let (path, content) = (format!("/box/{encoded}"), format!("content {number}"));
        let put = Request::new("PUT", &path, &content).send(&endpoint).await;
        assert_eq!(put.0, 200, "{key}: {put:?}");
        assert_eq!(get(&endpoint, &path).await, (200, content), "{key}");
    }
    let long = |bytes: usize| format!("/box/{}", "k".repeat(bytes));
    assert_eq!(Request::new("PUT", &long(1024), "x").send(&endpoint).await.0, 200);
    for method in ["PUT", "GET", "DELETE"] {
        let answer = Request::new(method, &long(1025), "").send(&endpoint).await;
        assert!(refused(&answer, "KeyTooLongError"), "{method}: {answer:?}");
    }
    let outside = endpoint.folder.path();
    let names: Vec<_> = std::fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data"], "nothing was written beside the data directory");
}

#[tokio::test]
async fn a_listing_ends_whatever_the_keys_are() {
    let endpoint = endpoint().await;
    // The character that sorts behind all others, so often that nothing fits behind it.
    for times in [1, 2, 3, 200] {
        let path = format!("/box/last%2F{}", "%F4%8F%BF%BF".repeat(times)).replace("%2F", "/");
        assert_eq!(Request::new("PUT", &path, "x").send(&endpoint).await.0, 200);
    }
    let list = Request { query: "delimiter=%2F&list-type=2".to_owned(), ..Request::new("GET", "/box", "") };
    let (status, body) = list.send(&endpoint).await;
    assert_eq!((status, body.matches("<Prefix>last/</Prefix>").count()), (200, 1), "{body}");
    for query in [
        format!("list-type=2&prefix={}", "p".repeat(5_000)),
        format!("list-type=2&start-after={}", "p".repeat(5_000)),
        "list-type=2&max-keys=0".to_owned(),
        "list-type=2&max-keys=999999".to_owned(),
    ] {
        let list = Request { query, ..Request::new("GET", "/box", "") };
        // The parameters of a query are signed in their order.
        let mut parts: Vec<_> = list.query.split('&').map(str::to_owned).collect();
        parts.sort();
        let list = Request { query: parts.join("&"), ..list };
        assert_eq!(list.send(&endpoint).await.0, 200, "{}", &list.query[..40.min(list.query.len())]);
    }
    let list = Request { query: "list-type=2&max-keys=-1".to_owned(), ..Request::new("GET", "/box", "") };
    assert!(refused(&list.send(&endpoint).await, "InvalidArgument"));
}
