//! Signatures: the services' own published examples, made ones, and everything that must not pass.

use alula_model::trigger::{Signature, WebhookSource};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::verify::{Refused, challenge, verify};

const NOW_S: i64 = 1_700_000_000;
const SECRET: &str = "a secret";

fn source(signature: Signature) -> WebhookSource {
    let header = (signature == Signature::Hmac).then(|| "X-Sign".to_owned());
    WebhookSource { signature, secret_env: "SECRET".to_owned(), header, wait: false }
}

fn mac(secret: &str, text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(
    signature: Signature,
    secrets: &str,
    lines: &[(&str, String)],
    body: &str,
) -> Result<String, Refused> {
    let pair = |(name, value): &(&str, String)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(pair) {
        headers.append(name, value);
    }
    verify(&source(signature), secrets, &headers, &Bytes::copy_from_slice(body.as_bytes()), NOW_S)
}

#[test]
fn githubs_own_example_passes() {
    let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".to_owned();
    let lines = [("X-Hub-Signature-256", header.clone())];
    let secret = "It's a Secret to Everybody";
    assert!(check(Signature::Github, secret, &lines, "Hello, World!").is_ok());
    assert_eq!(check(Signature::Github, secret, &lines, "Hello, World?"), Err(Refused::Wrong));
    assert_eq!(check(Signature::Github, "another", &lines, "Hello, World!"), Err(Refused::Wrong));
    let twice = [("X-Hub-Signature-256", header.clone()), ("X-Hub-Signature-256", header)];
    assert!(matches!(check(Signature::Github, secret, &twice, "Hello, World!"), Err(Refused::NoHeader(_))));
}

fn slack(time_s: i64, body: &str) -> [(&'static str, String); 2] {
    let mac = mac(SECRET, &format!("v0:{time_s}:{body}"));
    [("X-Slack-Signature", format!("v0={}", hex(&mac))), ("X-Slack-Request-Timestamp", time_s.to_string())]
}

#[test]
fn slack_signs_its_time_and_has_five_minutes() {
    let of = |time_s| check(Signature::Slack, SECRET, &slack(time_s, "text=hi"), "text=hi");
    assert!(of(NOW_S).is_ok() && of(NOW_S - 300).is_ok() && of(NOW_S + 300).is_ok());
    assert_eq!(of(NOW_S - 301), Err(Refused::OutOfTime(301)));
    assert_eq!(of(NOW_S + 301), Err(Refused::OutOfTime(301)));
    assert!(matches!(of(i64::MIN), Err(Refused::OutOfTime(_))));
    let mut moved = slack(NOW_S - 400, "text=hi");
    moved[1].1 = NOW_S.to_string();
    assert_eq!(
        check(Signature::Slack, SECRET, &moved, "text=hi"),
        Err(Refused::Wrong),
        "the time is signed too"
    );
    assert!(matches!(
        check(Signature::Slack, SECRET, &slack(NOW_S, "x")[..1], "x"),
        Err(Refused::NoHeader(name)) if name == "X-Slack-Request-Timestamp"
    ));
}

#[test]
fn slack_asks_whether_somebody_is_there() {
    let asked = Bytes::from_static(br#"{"type": "url_verification", "challenge": "3eZbrw1a", "token": "x"}"#);
    assert_eq!(challenge(Signature::Slack, &asked).as_deref(), Some("3eZbrw1a"));
    assert_eq!(challenge(Signature::Github, &asked), None);
    for body in [&b"{"[..], b"[]", b"{\"type\": \"event_callback\", \"challenge\": \"x\"}", b"payload=x"] {
        assert_eq!(challenge(Signature::Slack, &Bytes::from_static(body)), None);
    }
}

#[test]
fn one_of_stripes_signatures_must_be_right() {
    let right = hex(&mac(SECRET, &format!("{NOW_S}.{{}}")));
    let wrong = "0".repeat(64);
    let of = |header: String| check(Signature::Stripe, SECRET, &[("Stripe-Signature", header)], "{}");
    assert!(of(format!("t={NOW_S},v1={right}")).is_ok());
    assert!(of(format!("t={NOW_S}, v0={wrong}, v1={wrong}, v1={right}")).is_ok());
    assert_eq!(of(format!("t={NOW_S},v1={wrong}")), Err(Refused::Wrong));
    assert_eq!(of(format!("t={},v1={right}", NOW_S - 1)), Err(Refused::Wrong));
    assert_eq!(of(format!("t={},v1={right}", NOW_S - 301)), Err(Refused::OutOfTime(301)));
    for header in
        [format!("v1={right}"), format!("t={NOW_S}"), format!("t={NOW_S},v0={right}"), String::new()]
    {
        assert!(matches!(of(header.clone()), Err(Refused::Unreadable(_))), "{header}");
    }
}

#[test]
fn any_other_service_sends_hexadecimal_or_base64() {
    let mac = mac(SECRET, "body");
    let of = |value: String| check(Signature::Hmac, SECRET, &[("x-sign", value)], "body");
    for value in [hex(&mac), hex(&mac).to_uppercase(), format!("sha256={}", hex(&mac)), STANDARD.encode(&mac)]
    {
        assert!(of(value.clone()).is_ok(), "{value}");
    }
    assert_eq!(of(hex(&[7; 32])), Err(Refused::Wrong));
    for value in
        [String::new(), "x".to_owned(), hex(&mac[..31]), STANDARD.encode(&mac[..31]), hex(&mac) + "00"]
    {
        assert!(matches!(of(value.clone()), Err(Refused::Unreadable(_))), "{value}");
    }
}

#[test]
fn secrets_can_be_changed_while_both_are_in_use_and_none_is_no_secret() {
    let lines = [("x-sign", hex(&mac("new", "body")))];
    assert!(check(Signature::Hmac, "old\nnew\n", &lines, "body").is_ok());
    assert_eq!(check(Signature::Hmac, "old", &lines, "body"), Err(Refused::Wrong));
    for empty in ["", "\n", "  \n "] {
        let lines = [("x-sign", hex(&mac("", "body")))];
        assert_eq!(check(Signature::Hmac, empty, &lines, "body"), Err(Refused::NoSecret));
    }
}

#[test]
fn the_same_request_is_known_again() {
    let sent = |time_s| check(Signature::Slack, SECRET, &slack(time_s, "a"), "a").unwrap();
    assert_eq!(sent(NOW_S), sent(NOW_S));
    assert_ne!(sent(NOW_S), sent(NOW_S + 1));
}

#[test]
fn a_token_is_compared_as_it_is() {
    let of = |value: &str| check(Signature::Token, SECRET, &[("Authorization", value.to_owned())], "{}");
    assert!(of("Bearer a secret").is_ok());
    assert!(of("bearer a secret").is_ok(), "the scheme is written as one likes");
    assert_ne!(
        of("Bearer a secret"),
        check(Signature::Token, SECRET, &bearer(), "{ }"),
        "another body is another request"
    );
    for wrong in ["Bearer a secre", "Bearer a secrets", "Bearer ", "Bearer A secret"] {
        assert_eq!(of(wrong), Err(Refused::Wrong), "{wrong}");
    }
    for unreadable in ["", "a secret", "Basic a secret", "Bearer"] {
        assert_eq!(of(unreadable), Err(Refused::Unreadable("Authorization".to_owned())), "{unreadable}");
    }
    assert!(matches!(check(Signature::Token, SECRET, &[], "{}"), Err(Refused::NoHeader(_))));
    assert_eq!(check(Signature::Token, " \n", &bearer(), "{}"), Err(Refused::NoSecret));
    let named = WebhookSource { header: Some("X-Token".to_owned()), ..source(Signature::Token) };
    let headers =
        HeaderMap::from_iter([(HeaderName::from_static("x-token"), HeaderValue::from_static(SECRET))]);
    assert!(verify(&named, SECRET, &headers, &Bytes::new(), NOW_S).is_ok());
}

fn bearer() -> [(&'static str, String); 1] {
    [("Authorization", format!("Bearer {SECRET}"))]
}
