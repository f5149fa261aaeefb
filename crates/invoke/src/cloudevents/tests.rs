//! The pitfalls of the binding, one by one.

use serde_json::json;

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(pair).collect()
}

const NEEDED: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed")];

/// An event in binary mode with these headers beside the needed ones.
fn binary(more: &[(&'static str, &str)], content: &'static [u8]) -> Result<Value, String> {
    let lines: Vec<_> = NEEDED.iter().chain(more).copied().collect();
    let headers = headers(&lines);
    assert_eq!(Mode::of(&headers), Some(Mode::Binary));
    let read = CloudEvent::read(Mode::Binary, &headers, &Bytes::from_static(content));
    read.map(|mut events| events.remove(0).into_value()).map_err(|fault| fault.message)
}

fn structured(content: &Value) -> Result<Vec<CloudEvent>, String> {
    let headers = headers(&[("content-type", STRUCTURED)]);
    CloudEvent::read(Mode::Structured, &headers, &content.to_string().into()).map_err(|fault| fault.message)
}

fn minimal() -> Value {
    json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"})
}

#[test]
fn the_media_type_decides_the_mode_by_how_it_begins() {
    for (content_type, expected) in [
        ("application/cloudevents+json", Some(Mode::Structured)),
        ("Application/CloudEvents+JSON; charset=utf-8", Some(Mode::Structured)),
        ("application/cloudevents", Some(Mode::Structured)),
        ("application/cloudevents-batch+json", Some(Mode::Batch)),
        ("application/json", None),
    ] {
        assert_eq!(Mode::of(&headers(&[("content-type", content_type)])), expected, "{content_type}");
    }
    assert_eq!(Mode::of(&headers(&[("ce-specversion", "1.0"), ("content-type", BATCH)])), Some(Mode::Batch));
    assert_eq!(Mode::of(&HeaderMap::new()), None);
}

#[test]
fn binary_mode_becomes_the_structured_form() {
    let event =
        binary(&[("content-type", "application/json"), ("ce-subject", "7")], b"{\"total\": 7}").unwrap();
    let mut expected = minimal();
    expected["datacontenttype"] = json!("application/json");
    expected["subject"] = json!("7");
    expected["data"] = json!({"total": 7});
    assert_eq!(event, expected);
    assert_eq!(binary(&[("content-type", "text/plain")], b"hi").unwrap()["data"], "hi");
    assert_eq!(binary(&[("content-type", "image/png")], b"hi").unwrap()["data_base64"], "aGk=");
    assert_eq!(binary(&[("content-type", "text/plain")], b"\xff").unwrap()["data_base64"], "/w==");
    assert_eq!(binary(&[], b"").unwrap(), minimal(), "no content, no data");
}

#[test]
fn header_values_are_unquoted_and_decoded_once() {
    for (sent, meant) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%2525", "%25"),
        ("\"a \\\"quoted\\\" text\"", "a \"quoted\" text"),
        ("\"%41\"", "A"),
        ("100%", "100%"),
        ("%zz", "%zz"),
    ] {
        assert_eq!(binary(&[("ce-subject", sent)], b"").unwrap()["subject"], meant, "{sent}");
    }
    for sent in ["%C0%A0", "%ff", "%ED%A0%80"] {
        let reason = binary(&[("ce-subject", sent)], b"").unwrap_err();
        assert!(reason.contains("ce-subject is not percent-encoded UTF-8"), "{sent}: {reason}");
    }
}

#[test]
fn what_is_no_attribute_in_a_header_is_refused() {
    for (name, expected) in [
        ("ce-datacontenttype", "the content is the body's"),
        ("ce-data", "the content is the body's"),
        ("ce-my-own", "\"my-own\" is no name"),
        ("ce-id", "ce-id is there twice"),
    ] {
        let reason = binary(&[(name, "x")], b"").unwrap_err();
        assert!(reason.contains(expected), "{name}: {reason}");
    }
    assert!(binary(&[("content-type", "application/json")], b"{").unwrap_err().contains("not JSON"));
}

#[test]
fn an_event_has_what_it_needs_or_is_refused_by_name() {
    assert_eq!(structured(&minimal()).unwrap().len(), 1);
    for name in REQUIRED {
        let mut event = minimal();
        event[name] = json!("");
        assert!(structured(&event).unwrap_err().contains(name), "{name}");
        event[name] = Value::Null;
        assert!(structured(&event).unwrap_err().contains(&format!("no {name}")), "{name}");
    }
    for (field, value, expected) in [
        ("specversion", json!("0.3"), "0.3"),
        ("Subject", json!("x"), "\"Subject\" is no name"),
        ("extra", json!({"a": 1}), "attribute extra"),
        ("extra", json!(1.5), "attribute extra"),
        ("extra", json!(3_000_000_000_u64), "32 bits"),
        ("data_base64", json!("%"), "not base64"),
    ] {
        let mut event = minimal();
        event[field] = value;
        let reason = structured(&event).unwrap_err();
        assert!(reason.contains(expected), "{field}: {reason}");
    }
    let both = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 1, "data_base64": "aGk="});
    assert!(structured(&both).unwrap_err().contains("not both"));
    assert!(structured(&json!([])).is_err() && structured(&json!("x")).is_err());
    let null =
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": null, "time": null});
    let kept = structured(&null).unwrap().remove(0).into_value();
    assert_eq!((kept.get("data"), kept.get("time")), (Some(&Value::Null), None));
}

#[test]
fn a_batch_is_a_list_and_has_a_bound() {
    let read = |content: Value| {
        let headers = headers(&[("content-type", BATCH)]);
        CloudEvent::read(Mode::Batch, &headers, &content.to_string().into()).map(|events| events.len())
    };
    assert_eq!(read(json!([])).ok(), Some(0));
    assert_eq!(read(json!([minimal(), minimal()])).ok(), Some(2));
    assert!(read(minimal()).is_err());
    assert!(read(json!([minimal(), {}])).is_err(), "all or none");
    let fault = read(Value::Array(vec![minimal(); BATCH_LEN_MAX + 1])).unwrap_err();
    assert_eq!(fault.code, ErrorCode::RequestTooLarge);
}

#[test]
fn formats_that_are_not_read_are_named() {
    let headers = headers(&[("content-type", "application/cloudevents+avro")]);
    let fault = CloudEvent::read(Mode::Structured, &headers, &Bytes::new()).unwrap_err();
    assert!(fault.message.contains("application/cloudevents+avro"), "{fault}");
}

#[test]
fn what_is_no_event_is_wrapped_into_one() {
    let wrap = |content_type, content: &'static [u8]| {
        let content = Bytes::from_static(content);
        let plain = Plain {
            id: "7",
            source: "/topics/a",
            kind: "message",
            time: Timestamp(0),
            content_type,
            content: &content,
        };
        CloudEvent::wrap(plain).into_value()
    };
    let event = wrap(Some("application/json"), b"{\"a\": 1}");
    assert_eq!((&event["data"], &event["time"]), (&json!({"a": 1}), &json!("1970-01-01T00:00:00.000Z")));
    assert_eq!(wrap(None, b"[1]")["data"], json!([1]));
    assert_eq!(wrap(None, b"\xff")["data_base64"], "/w==");
    assert_eq!(wrap(Some("application/json"), b"{")["data_base64"], "ew==", "it is not what it says it is");
    for event in [event, wrap(None, b""), wrap(Some("text/plain"), b"x")] {
        CloudEvent::of_value(event).unwrap();
    }
}

#[test]
fn a_request_in_structured_form_has_no_headers_of_another_mode() {
    let mut sent =
        headers(&[("ce-id", "1"), ("ce-specversion", "1.0"), ("content-length", "5"), ("x-own", "1")]);
    CloudEvent::set_headers(&mut sent);
    assert_eq!(sent, headers(&[("content-type", STRUCTURED), ("x-own", "1")]));
}
