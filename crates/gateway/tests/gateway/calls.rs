//! What a call looks like on both sides: paths, headers, statuses, errors.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use alula_gateway::Options;
use alula_invoke::Invocation;
use alula_model::{ErrorCode, Fault, Name, VersionKey};

use crate::support::{Gateway, Reply, echo, fault, get, get_once, text, within};

/// A gateway that keeps the last invocation it was asked for.
async fn recorder(options: Options) -> (Gateway, Arc<Mutex<Option<Invocation>>>) {
    let last = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&last);
    let gateway = Gateway::start(options, move |invocation| {
        *slot.lock().unwrap() = Some(invocation);
        async { Ok(text(200, &[], "ok")) }
    })
    .await;
    (gateway, last)
}

#[tokio::test]
async fn a_call_by_name_reaches_the_function_with_the_rest_of_the_path() {
    let (gateway, last) = recorder(Options::default()).await;
    let reply = Reply::parse(&gateway.exchange(get_once("/function/hello.shop:3/a/b%2F?x=1&y")).await);
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    assert_eq!(reply.headers["x-alula-version"], "7");
    assert_eq!(reply.headers["server-timing"], "queue;dur=0.012, run;dur=1.500");
    let call = last.lock().unwrap().take().unwrap();
    assert_eq!(call.target.to_string(), "hello.shop:3");
    assert_eq!(call.uri.to_string(), "/a/b%2F?x=1&y");
    assert_eq!(call.remote.unwrap().to_string(), "127.0.0.1");
    assert_eq!(reply.headers["x-alula-invocation-id"], call.id.as_str());
    assert!(!call.is_event);
}

#[tokio::test]
async fn a_route_reaches_its_function_with_the_whole_path_and_parameters() {
    let (gateway, last) = recorder(Options::default()).await;
    assert_eq!(Reply::parse(&gateway.exchange(get_once("/users/7?full")).await).status, 200);
    let call = last.lock().unwrap().take().unwrap();
    assert_eq!(call.target.to_string(), "users.shop:live");
    assert_eq!(call.uri.to_string(), "/users/7?full");
    assert_eq!(call.parameters, [("id".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn headers_of_the_hop_and_forged_origins_do_not_reach_the_function() {
    let (gateway, last) = recorder(Options::default()).await;
    let request = "GET /function/hello HTTP/1.1\r\nHost: shop.test:80\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                   X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n\
                   X-Alula-Invocation-Id: forged\r\nX-Call-Id: call-9\r\nTE: trailers\r\nUpgrade: h2c\r\n\
                   traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    let reply = Reply::parse(&gateway.exchange(request).await);
    assert_ne!(reply.headers["x-alula-invocation-id"], "forged");
    let headers = last.lock().unwrap().take().unwrap().headers;
    let mut seen: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    seen.sort();
    let expect = [
        "host: shop.test:80",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x-call-id: call-9",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: shop.test:80",
        "x-forwarded-proto: http",
    ];
    assert_eq!(seen, expect);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_a_trace_is_begun_where_there_is_none() {
    let options = Options { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..Options::default() };
    let (gateway, last) = recorder(options).await;
    let request = "GET /function/hello HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n\
                   X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\n\
                   traceparent: rubbish\r\n\r\n";
    gateway.exchange(request).await;
    let call = last.lock().unwrap().take().unwrap();
    let all = |name: &str| call.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(call.remote.unwrap().to_string(), "1.2.3.4");
    assert_eq!(all("x-forwarded-for"), ["6.6.6.6, 1.2.3.4", "127.0.0.1"]);
    assert_eq!((all("x-forwarded-proto"), all("x-forwarded-host")), (vec!["https"], vec!["outer"]));
    assert_eq!(all("traceparent").len(), 1);
    assert!(all("traceparent")[0].starts_with("00-0000"), "{:?}", all("traceparent"));
}

#[tokio::test]
async fn what_is_not_there_is_told_in_json_with_an_id() {
    let gateway = Gateway::echo().await;
    for (path, status, code) in [
        ("/nowhere", 404, "not_found"),
        ("/function/", 404, "not_found"),
        ("/_alula/secrets", 404, "not_found"),
        ("/function/Bad_Name", 400, "invalid_request"),
        ("/function/a%zz", 400, "invalid_request"),
    ] {
        let reply = Reply::parse(&gateway.exchange(get_once(path)).await);
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.headers["x-alula-error"], code);
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.json()["error"]["code"], code);
        assert_eq!(reply.json()["error"]["invocation_id"], reply.headers["x-alula-invocation-id"].as_str());
    }
}

#[tokio::test]
async fn a_failure_says_whose_fault_it_is_and_when_to_try_again() {
    let gateway = Gateway::start(Options::default(), |invocation| async move {
        let mut failure = fault(ErrorCode::HandlerError, "boom");
        failure.fault.payload = Some("{\"errorType\":\"KeyError\"}".to_owned());
        failure.fault.log_tail = vec!["traceback".to_owned()];
        let function = Name::new("hello").unwrap();
        failure.key = Some(VersionKey { namespace: Name::default_namespace(), function, version: 4 });
        if invocation.uri.path() == "/full" {
            failure.fault =
                Fault::limit(ErrorCode::ConcurrencyExceeded, "full", "max_instances", 2, "alula.toml");
            failure.retry_after_ms = Some(2_500);
        }
        Err(failure)
    })
    .await;
    let reply = Reply::parse(&gateway.exchange(get_once("/function/hello")).await);
    assert_eq!((reply.status, reply.headers["x-alula-version"].as_str()), (502, "4"));
    let error = &reply.json()["error"];
    assert_eq!(error["function"]["errorType"], "KeyError");
    assert_eq!(error["blame"], "function");
    assert_eq!(error["log_tail"][0], "traceback", "a loopback listener shows logs");
    let reply = Reply::parse(&gateway.exchange(get_once("/function/hello/full")).await);
    assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (429, "3"));
    let limit = &reply.json()["error"]["limit"];
    assert_eq!((&limit["name"], &limit["value"]), (&"max_instances".into(), &2.into()));
}

#[tokio::test]
async fn a_panic_is_answered_and_the_connection_goes_on() {
    let gateway = Gateway::start(Options::default(), |invocation| async move {
        assert_ne!(invocation.uri.path(), "/panic", "a defect");
        echo(invocation).await
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello/panic")).await;
    let reply = raw.response().await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (500, &"internal".into()));
    raw.send(get("/function/hello/fine")).await;
    assert_eq!(raw.response().await.body, "GET /fine ");
    assert_eq!(gateway.counts.panicked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn answers_are_put_into_the_form_that_http_asks_for() {
    let gateway = Gateway::start(Options::default(), |invocation| async move {
        Ok(match invocation.uri.path() {
            "/lies" => {
                text(200, &[("content-length", "99"), ("transfer-encoding", "gzip"), ("x-own", "1")], "five!")
            }
            "/204" => text(204, &[("content-length", "5")], "five!"),
            "/304" => text(304, &[("etag", "\"x\"")], "five!"),
            "/103" => text(103, &[], ""),
            "/forge" => text(200, &[("x-alula-error", "internal"), ("server-timing", "db;dur=5")], ""),
            _ => text(200, &[], "five!"),
        })
    })
    .await;
    let mut raw = gateway.connect().await;
    let mut ask = async |method: &str, path: &str| {
        raw.send(format!("{method} /function/hello{path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        match method {
            "HEAD" => Reply::parse(&raw.through("\r\n\r\n").await),
            _ => raw.response().await,
        }
    };
    let lies = ask("GET", "/lies").await;
    assert_eq!((lies.body.as_str(), lies.headers["x-own"].as_str()), ("five!", "1"));
    assert!(!lies.headers.contains_key("transfer-encoding"));
    for path in ["/204", "/304"] {
        let reply = ask("GET", path).await;
        assert_eq!(reply.body, "", "{path}");
        assert!(reply.headers.contains_key("x-alula-invocation-id"));
    }
    let reply = ask("GET", "/103").await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (502, &"bad_response".into()));
    let forged = ask("GET", "/forge").await;
    assert!(!forged.headers.contains_key("x-alula-error"));
    let head = ask("HEAD", "").await;
    assert_eq!((head.status, head.headers["content-length"].as_str()), (200, "5"));
    assert_eq!(ask("GET", "").await.body, "five!");
}

#[tokio::test]
async fn health_is_answered_without_a_function() {
    let gateway = Gateway::start(Options::default(), |_| async { panic!("nothing may be invoked") }).await;
    for path in ["/_alula/livez", "/_alula/readyz"] {
        assert_eq!(Reply::parse(&gateway.exchange(get_once(path)).await).body, "ok\n");
    }
    let post = "POST /_alula/livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let reply = Reply::parse(&gateway.exchange(post).await);
    assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, "GET, HEAD"));
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_invocation() {
    struct Guard(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _sent = self.0.take().unwrap().send(());
        }
    }
    let (sender, cancelled) = tokio::sync::oneshot::channel();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let once = Mutex::new(Some((Guard(Some(sender)), started)));
    let gateway = Gateway::start(Options::default(), move |_| {
        let (guard, started) = once.lock().unwrap().take().unwrap();
        async move {
            let _guard = guard;
            started.send(()).unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut raw = gateway.connect().await;
    raw.send(get("/function/hello")).await;
    within(has_started).await.unwrap();
    drop(raw);
    within(cancelled).await.unwrap();
}
