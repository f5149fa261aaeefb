#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;

fn made(target: &str, headers: &[(&'static str, &'static str)], content: &[u8]) -> Value {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let id = InvocationId::new("an-id").unwrap();
    let request = Request {
        id: &id,
        function: "hello",
        method: &Method::PUT,
        target: &target.parse().unwrap(),
        headers: &map,
        remote: Some([203, 0, 113, 9].into()),
        parameters: &[("id".to_owned(), "7".to_owned())],
        at: Timestamp(1_700_000_000_000),
    };
    serde_json::from_slice(&event(&request, content)).unwrap()
}

#[test]
fn a_request_becomes_an_event_of_format_2() {
    let headers = [
        ("host", "shop.example.org:8080"),
        ("user-agent", "test/1"),
        ("cookie", "a=1; b=2"),
        ("cookie", "c=3"),
        ("x-many", "1"),
        ("x-many", "2"),
        ("content-type", "text/plain"),
        ("x-alula-caller", "jwt:u1"),
        ("x-alula-claims", "eyJzdWIiOiLDvD4_Iiwic2NvcGUiOiJhIGIifQ"),
    ];
    let event = made("/a%20b?x=1&x=2&y=%C3%BC+z&flag&bad=%zz", &headers, "tëxt".as_bytes());
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b",
        "rawQueryString": "x=1&x=2&y=%C3%BC+z&flag&bad=%zz",
        "cookies": ["a=1", "b=2", "c=3"],
        "headers": {
            "host": "shop.example.org:8080",
            "user-agent": "test/1",
            "cookie": "a=1; b=2; c=3",
            "x-many": "1,2",
            "content-type": "text/plain",
            "x-alula-caller": "jwt:u1",
            "x-alula-claims": "eyJzdWIiOiLDvD4_Iiwic2NvcGUiOiJhIGIifQ",
        },
        "queryStringParameters": {"x": "1,2", "y": "ü z", "flag": "", "bad": "%zz"},
        "pathParameters": {"id": "7"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "hello",
            "domainName": "shop.example.org:8080",
            "domainPrefix": "shop",
            "http": {
                "method": "PUT",
                "path": "/a%20b",
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.9",
                "userAgent": "test/1",
            },
            "authorizer": {
                "principalId": "jwt:u1",
                "jwt": {"claims": {"sub": "ü>?", "scope": "a b"}, "scopes": ["a", "b"]},
            },
            "requestId": "an-id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "14/Nov/2023:22:13:20 +0000",
            "timeEpoch": 1_700_000_000_000_i64,
        },
        "body": "tëxt",
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

#[test]
fn what_is_no_text_is_base64() {
    let check = |kind: Option<&'static str>, content: &[u8], base64: bool| {
        let headers: Vec<_> = kind.iter().map(|kind| ("content-type", *kind)).collect();
        assert_eq!(made("/", &headers, content)["isBase64Encoded"], base64, "{kind:?} {content:?}");
    };
    check(None, b"text", false);
    check(None, b"\xff", true);
    check(Some("application/json; charset=utf-8"), b"{}", false);
    check(Some("application/problem+json"), b"{}", false);
    check(Some("text/html"), b"\xff\xfe", true);
    check(Some("image/png"), b"text", true);
    check(Some("application/x-www-form-urlencoded"), b"a=1", true);
    assert_eq!(made("/", &[], b"").get("body"), None);
}

#[test]
fn results_become_answers() {
    let whole = |result: &str| {
        let answer = answer(Bytes::from(result.to_owned()), None).unwrap();
        let content = String::from_utf8(answer.body.as_full().unwrap().to_vec()).unwrap();
        (answer.status.as_u16(), answer.headers, content)
    };
    for (result, content) in
        [("{\"a\":1}", "{\"a\":1}"), ("\"text\"", "text"), ("[1]", "[1]"), ("null", "null")]
    {
        assert_eq!(whole(result).2, content);
        assert_eq!(whole(result).0, 200);
    }
    let (status, headers, content) = whole(
        r#"{"statusCode":"404","headers":{"X-N":5,"Content-Type":"text/html","Content-Length":"99","Connection":"close"},
            "body":"aGk=","isBase64Encoded":true}"#,
    );
    assert_eq!((status, content.as_str()), (404, "hi"));
    assert_eq!(
        (&headers["x-n"], &headers["content-type"]),
        (&"5".parse().unwrap(), &"text/html".parse().unwrap())
    );
    assert!(!headers.contains_key("content-length") && !headers.contains_key("connection"));
    assert_eq!(whole(r#"{"statusCode":200,"body":{"a":1}}"#).2, r#"{"a":1}"#);
}

#[test]
fn results_that_are_no_answers_are_refused() {
    let bad = [
        r#"{"statusCode":7}"#,
        r#"{"statusCode":101}"#,
        r#"{"statusCode":null}"#,
        r#"{"statusCode":99999999999}"#,
        r#"{"statusCode":200,"headers":[]}"#,
        r#"{"statusCode":200,"headers":{"bad name":"x"}}"#,
        r#"{"statusCode":200,"headers":{"x":"a\nb"}}"#,
        r#"{"statusCode":200,"cookies":["a\r\nb"]}"#,
        r#"{"statusCode":200,"body":"%","isBase64Encoded":true}"#,
    ];
    for result in bad {
        assert!(answer(Bytes::from_static(result.as_bytes()), None).is_err(), "{result}");
    }
}
