//! Event handlers: what they are given, what their values become, and what they do wrong.

use alula_model::{ErrorCode, LogLevel, LogStream};
use http::{HeaderValue, Method};
use serde_json::json;

use super::*;

const EACH: [(&str, &str); 3] = [("python", "python"), ("node", "node"), ("perl", "perl")];

#[tokio::test]
async fn an_http_request_becomes_an_event_of_format_2() {
    let bench = Bench::new();
    for (runtime, name) in EACH {
        let instance = bench.start_fixture(runtime, name).await;
        let mut request = call("/event?a=1&b=x%20y&a=2&c", Body::full(r#"{"n":"ü"}"#));
        request.method = Method::PUT;
        request.remote = Some([192, 0, 2, 7].into());
        request.parameters = vec![("id".to_owned(), "grün".to_owned())];
        for (name, value) in [
            ("content-type", "application/json"),
            ("host", "api.example.org"),
            ("cookie", "k=v; l=w"),
            ("x-many", "one"),
            ("x-many", "two"),
            ("user-agent", "test"),
            ("x-alula-caller", "jwt:u1"),
            ("x-alula-claims", "eyJzdWIiOiLDvD4_Iiwic2NvcGUiOiJhIGIifQ"),
        ] {
            request.headers.append(name, HeaderValue::from_static(value));
        }
        let id = request.id.clone();
        let answer = instance.call(request).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (200, &HeaderValue::from_static("application/json"))
        );
        let event = json(answer).await;
        for (pointer, expected) in [
            ("/version", json!("2.0")),
            ("/rawPath", json!("/event")),
            ("/rawQueryString", json!("a=1&b=x%20y&a=2&c")),
            ("/queryStringParameters", json!({"a": "1,2", "b": "x y", "c": ""})),
            ("/cookies", json!(["k=v", "l=w"])),
            ("/headers/x-many", json!("one,two")),
            ("/headers/cookie", Value::Null),
            ("/pathParameters", json!({"id": "grün"})),
            ("/body", json!(r#"{"n":"ü"}"#)),
            ("/isBase64Encoded", json!(false)),
            ("/requestContext/authorizer/principalId", json!("jwt:u1")),
            ("/requestContext/authorizer/jwt/claims", json!({"sub": "ü>?", "scope": "a b"})),
            ("/requestContext/authorizer/jwt/scopes", json!(["a", "b"])),
            ("/requestContext/http/method", json!("PUT")),
            ("/requestContext/http/path", json!("/event")),
            ("/requestContext/http/sourceIp", json!("192.0.2.7")),
            ("/requestContext/http/userAgent", json!("test")),
            ("/requestContext/domainName", json!("api.example.org")),
            ("/requestContext/requestId", json!(id.as_str())),
        ] {
            assert_eq!(event.pointer(pointer).cloned().unwrap_or_default(), expected, "{runtime} {pointer}");
        }
        let time = event["requestContext"]["time"].as_str().unwrap();
        assert_eq!((time.len(), &time[time.len() - 6..]), (26, " +0000"), "{runtime}: {time}");
        let mut binary = call("/event", Body::full(vec![0, 255]));
        binary.headers.insert("x-alula-caller", HeaderValue::from_static("key:shop/ci"));
        binary.headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let event = json(instance.call(binary).await.unwrap()).await;
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("AP8="), &json!(true)), "{runtime}");
        let told = &event["requestContext"]["authorizer"];
        assert_eq!(told, &json!({"principalId": "key:shop/ci"}), "{runtime}");
        let anybody = json(instance.call(call("/event", Body::empty())).await.unwrap()).await;
        assert_eq!(anybody["requestContext"].get("authorizer"), None, "{runtime}");
    }
}

#[tokio::test]
async fn an_event_is_handed_over_as_it_is() {
    let bench = Bench::new();
    for (runtime, name) in EACH {
        let instance = bench.start_fixture(runtime, name).await;
        let mut event = call("/", Body::full(r#"{"Records":[{"n":1.5,"s":"ü","z":null}]}"#));
        event.is_event = true;
        let id = event.id.clone();
        let answer = instance.call(event).await.unwrap();
        assert_eq!(answer.headers["content-type"], "application/json");
        let value = json(answer).await;
        let expected = json!({"event": {"Records": [{"n": 1.5, "s": "ü", "z": null}]}, "id": id.as_str()});
        assert_eq!(value, expected, "{runtime}");
        let mut wrong = call("/", Body::full("{not json"));
        wrong.is_event = true;
        assert_eq!(instance.call(wrong).await.unwrap_err().code, ErrorCode::HandlerError, "{runtime}");
        still_works(&*instance).await;
    }
}

#[tokio::test]
async fn a_shaped_value_is_an_http_response_and_any_other_is_its_json() {
    let bench = Bench::new();
    for (runtime, name) in &EACH[..2] {
        let instance = bench.start_fixture(runtime, name).await;
        let answer = instance.call(call("/shaped", Body::empty())).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201);
        let all = |name: &str| -> Vec<&[u8]> {
            answer.headers.get_all(name).iter().map(|v| v.as_bytes()).collect()
        };
        assert_eq!(all("x-one"), [b"1"]);
        assert_eq!(all("x-latin"), [b"caf\xe9"]);
        assert_eq!(all("x-many"), [b"a", b"b"]);
        assert_eq!(all("set-cookie"), [b"a=1", b"b=2"]);
        assert_eq!(all("content-type"), [b"application/json"]);
        assert_eq!(answer.body.collect(10).await.unwrap(), &[0, 255][..]);
        let nothing = if *runtime == "node" { "/nothing" } else { "/none" };
        assert_eq!(get(&*instance, nothing).await, Value::Null);
        assert_eq!(get(&*instance, "/string").await, json!("grüße"));
        let context = get(&*instance, "/context").await;
        assert_eq!(
            (&context[0], &context[1], &context[4]),
            (&json!("conformance"), &json!("1"), &json!(true))
        );
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_response_and_the_next_call_works() {
    let bench = Bench::new();
    let python =
        ["/unserialisable", "/circular", "/wide-header", "/nul-header", "/newline-header", "/garbage"];
    let node = ["/bigint", "/wide-header", "/newline-header", "/garbage"];
    let perl = ["/code", "/wide", "/garbage"];
    for (runtime, targets) in [("python", &python[..]), ("node", &node), ("perl", &perl)] {
        let instance = bench.start_fixture(runtime, runtime).await;
        for target in targets {
            fault(&*instance, target, ErrorCode::BadResponse).await;
            still_works(&*instance).await;
        }
    }
}

#[tokio::test]
async fn whatever_a_python_handler_raises_is_a_fault_and_the_next_call_works() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "python").await;
    for (target, code, text) in [
        ("/fail", ErrorCode::HandlerError, "ValueError: on purpose"),
        ("/exit", ErrorCode::HandlerError, "SystemExit: the handler called sys.exit(3)"),
        ("/interrupt", ErrorCode::HandlerError, "KeyboardInterrupt"),
        ("/odd-error", ErrorCode::HandlerError, "Odd: the error has no text"),
        ("/recursion", ErrorCode::HandlerError, "RecursionError"),
        ("/memory-error", ErrorCode::OutOfMemory, "MemoryError"),
        ("/unknown", ErrorCode::HandlerError, "KeyError"),
    ] {
        let fault = fault(&*instance, target, code).await;
        assert!(fault.message.starts_with(text), "{target}: {fault}");
        let payload: Value = serde_json::from_str(fault.payload.as_deref().unwrap()).unwrap();
        assert!(payload["errorType"].is_string() && payload["stackTrace"].is_array(), "{payload}");
        still_works(&*instance).await;
    }
    let fault = fault(&*instance, "/fail", ErrorCode::HandlerError).await;
    let payload: Value = serde_json::from_str(fault.payload.as_deref().unwrap()).unwrap();
    let stack = payload["stackTrace"].to_string();
    assert!(stack.contains("do_fail") && !stack.contains("shim.py"), "{stack}");
    assert!(
        fault.log_tail.iter().any(|line| line.contains("ValueError: on purpose")),
        "{:?}",
        fault.log_tail
    );
}

#[tokio::test]
async fn whatever_a_node_handler_throws_is_a_fault() {
    let bench = Bench::new();
    let instance = bench.start_fixture("node", "node").await;
    let raised = fault(&*instance, "/fail", ErrorCode::HandlerError).await;
    assert_eq!(raised.message, "RangeError: on purpose");
    fault(&*instance, "/throw", ErrorCode::HandlerError).await;
    still_works(&*instance).await;
    let uncaught = fault(&*instance, "/uncaught", ErrorCode::HandlerError).await;
    assert_eq!(uncaught.message, "Error: nobody caught this");
    instance.gone().await;
}

#[tokio::test]
async fn a_node_handler_may_call_back() {
    let bench = Bench::new();
    let instance =
        bench.start(&fixture("node", "node", |spec| spec.handler = Some("index.callback".to_owned()))).await;
    let with = |event: &'static str| {
        let mut event = call("/", Body::full(event));
        event.is_event = true;
        event
    };
    assert_eq!(json(instance.call(with("{}")).await.unwrap()).await, json!({"by": "callback"}));
    let fault = instance.call(with(r#"{"fail":true}"#)).await.unwrap_err();
    assert_eq!(fault.message, "TypeError: by callback");
}

#[tokio::test]
async fn a_process_that_ends_in_a_call_is_a_crash_with_its_last_words() {
    let bench = Bench::new();
    for (runtime, target, words, status) in [
        ("python", "/hard-exit", "last words", "exit status 9"),
        ("python", "/crash", "about to crash", "SIGKILL"),
        ("python", "/close-all", "", ""),
        ("node", "/exit", "last words", "exit status 3"),
        ("node", "/crash", "", "SIGKILL"),
        ("perl", "/exit", "last words", "exit status 3"),
    ] {
        let instance = bench.start_fixture(runtime, runtime).await;
        let fault = fault(&*instance, target, ErrorCode::FunctionCrashed).await;
        assert!(fault.message.contains(status), "{runtime} {target}: {fault}");
        assert!(
            words.is_empty() || fault.log_tail.iter().any(|l| l == words),
            "{target}: {:?}",
            fault.log_tail
        );
        assert!(instance.is_gone());
    }
}

#[tokio::test]
async fn descriptors_of_the_platform_stay_in_the_process() {
    let bench = Bench::new();
    for (runtime, name) in EACH {
        let instance = bench.start_fixture(runtime, name).await;
        let leaked = get(&*instance, "/descriptors").await;
        assert!(leaked == json!(false) || leaked == json!(0), "{runtime}: {leaked}");
        still_works(&*instance).await;
    }
    let python = bench.start_fixture("python", "python").await;
    assert_eq!(get(&*python, "/close-low").await, json!("still here"));
    still_works(&*python).await;
}

#[tokio::test]
async fn lines_carry_stream_level_and_call() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "python").await;
    let request = call("/logging", Body::empty());
    let id = request.id.clone();
    instance.call(request).await.unwrap();
    let warning = bench.line("shop: stock is low: 3").await;
    assert_eq!((warning.level, warning.invocation.as_ref()), (LogLevel::Warn, Some(&id)));
    let stderr = bench.line("to stderr").await;
    assert_eq!((stderr.stream, stderr.invocation), (LogStream::Stderr, Some(id)));
    assert_eq!(bench.line("binary").await.text, "\u{fffd}\u{fffd} binary \0 garbage");
    bench.line("past the shim").await;
    let node = bench.start_fixture("node", "node").await;
    let request = call("/logging", Body::empty());
    let id = request.id.clone();
    node.call(request).await.unwrap();
    let found = bench
        .log
        .wait_for(|line| line.text == "stock is low: 3" && line.invocation.as_ref() == Some(&id))
        .await;
    assert_eq!(found.level, LogLevel::Warn);
}

#[tokio::test]
async fn bodies_over_their_limits_name_the_limit() {
    let bench = Bench::new();
    for (runtime, name) in EACH {
        let plan = fixture(runtime, name, |spec| spec.request_bytes_max = 200_000);
        let instance = bench.start(&plan).await;
        let too_much = call("/echo", Body::full(vec![b'x'; 200_001]));
        let fault = instance.call(too_much).await.unwrap_err();
        assert_eq!((fault.code, fault.limit.unwrap().value), (ErrorCode::RequestTooLarge, 200_000));
        let limit = call("/echo", Body::full(vec![b'x'; 200_000]));
        assert_eq!(
            instance.call(limit).await.unwrap().body.collect(MIB).await.unwrap().len(),
            200_000,
            "{runtime}"
        );
        let fault = super::fault(&*instance, "/big?1048577", ErrorCode::ResponseTooLarge).await;
        assert_eq!(fault.limit.unwrap().name, "response_bytes_max");
        let largest = instance.call(call("/big?1048576", Body::empty())).await.unwrap();
        assert_eq!(largest.body.collect(2 * MIB).await.unwrap().len(), 1_048_576);
    }
}

#[tokio::test]
async fn headers_are_passed_up_to_their_limit() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "python").await;
    let with = |bytes: usize| {
        let mut request = call("/large-header", Body::empty());
        request.headers.insert("x-large", HeaderValue::from_bytes(&vec![b'x'; bytes]).unwrap());
        request
    };
    assert_eq!(json(instance.call(with(100_000)).await.unwrap()).await, json!(100_000));
    assert_eq!(instance.call(with(200_000)).await.unwrap_err().code, ErrorCode::HeadersTooLarge);
    let mut nul = call("/event", Body::empty());
    nul.parameters = vec![("id".to_owned(), "a\0b".to_owned())];
    assert_eq!(instance.call(nul).await.unwrap_err().code, ErrorCode::InvalidRequest);
}
