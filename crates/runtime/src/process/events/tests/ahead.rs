//! Calls that are sent before the one that runs has ended.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::Ahead;

/// Longer than a cancelled call's grace, so that an instance that were given up would be gone.
const LONG: Duration = Duration::from_millis(600);
/// Something is wrong that has not happened by then.
const PATIENCE: Duration = Duration::from_secs(20);

const PYTHON: &str = r#"
import os, select, signal, time
def handler(event, context):
    path = event["rawPath"]
    if path == "/hang":
        print("begun")
        while True:
            time.sleep(0.01)
    if path == "/until-asked":
        print("begun")
        while not os.path.exists(event["body"]):
            time.sleep(0.01)
    if path == "/die":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        print("begun", flush=True)
        select.select([250], [], [])
        os._exit(1)
    return {"statusCode": 200, "body": path + (event.get("body") or "")}
"#;

const NODE: &str = r#"
const fs = require("fs");
exports.handler = async (event) => {
  const path = event.rawPath;
  if (path === "/hang") { console.log("begun"); await new Promise(() => {}); }
  if (path === "/until-asked") {
    console.log("begun");
    while (!fs.existsSync(event.body)) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return { statusCode: 200, body: path + (event.body ?? "") };
};
"#;

const BOTH: [(&str, &str, &str); 2] = [("python", "main.py", PYTHON), ("node", "index.js", NODE)];

fn with_text(target: &'static str, text: &str) -> crate::Call {
    let mut call = call(target, Body::full(text.to_owned()));
    call.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    call
}

#[tokio::test]
async fn one_after_the_other_each_gets_its_own_answer() {
    for (runtime, file, code) in BOTH {
        let bench = Bench::new();
        let (_folder, plan) = package(runtime, None, &[(file, code)]);
        let instance = bench.start(&plan).await;
        assert!(instance.takes_ahead(), "{runtime}");
        for round in 0..100 {
            let (first, second) = (format!("first {round}"), format!("second {round}"));
            let (ran, ahead) = tokio::join!(
                instance.call(with_text("/a", &first)),
                instance.call_ahead(with_text("/b", &second)),
            );
            assert_eq!(text(ran.unwrap()).await, format!("/a{first}"));
            match ahead {
                Ahead::Ended { result, .. } => assert_eq!(text(result.unwrap()).await, format!("/b{second}")),
                // A machine under load may take longer between the two than a call waits.
                Ahead::Returned(call) => assert_eq!(call.body.as_full(), Some(second.as_bytes())),
            }
        }
    }
}

#[tokio::test]
async fn what_lies_behind_a_long_call_comes_back_whole() {
    for (runtime, file, code) in BOTH {
        let bench = Bench::new();
        let (_folder, plan) = package(runtime, None, &[(file, code)]);
        let instance = bench.start(&plan).await;
        let long = tokio::spawn({
            let instance = Arc::clone(&instance);
            async move { instance.call(call("/hang", Body::empty())).await.map(drop) }
        });
        bench.line("begun").await;
        for body in ["kept".to_owned(), "x".repeat(100_000)] {
            let ahead = timeout(PATIENCE, instance.call_ahead(with_text("/behind", &body))).await.unwrap();
            let Ahead::Returned(returned) = ahead else { panic!("{runtime} ran it") };
            assert_eq!(returned.body.as_full(), Some(body.as_bytes()));
        }
        assert!(!long.is_finished(), "{runtime}: the call that runs is not concerned");
        long.abort();
    }
}

#[tokio::test]
async fn what_lies_behind_a_call_that_kills_its_process_comes_back() {
    let bench = Bench::new();
    let (_folder, plan) = package("python", None, &[("main.py", PYTHON)]);
    let instance = bench.start(&plan).await;
    let dying = tokio::spawn({
        let instance = Arc::clone(&instance);
        async move { instance.call(call("/die", Body::empty())).await.map(drop) }
    });
    bench.line("begun").await;
    let ahead = timeout(PATIENCE, instance.call_ahead(with_text("/behind", "kept"))).await.unwrap();
    let Ahead::Returned(returned) = ahead else { panic!("it was never begun") };
    assert_eq!(returned.body.as_full(), Some(&b"kept"[..]));
    assert_eq!(dying.await.unwrap().unwrap_err().code, ErrorCode::FunctionCrashed);
}

#[tokio::test]
async fn a_caller_that_leaves_its_place_behind_a_long_call_does_not_disturb_it() {
    for (runtime, file, code) in BOTH {
        let bench = Bench::new();
        let (folder, plan) = package(runtime, None, &[(file, code)]);
        let instance = bench.start(&plan).await;
        let gate = folder.path().join("gate");
        let mut long = tokio::spawn({
            let (instance, gate) = (Arc::clone(&instance), gate.display().to_string());
            async move { text(instance.call(with_text("/until-asked", &gate)).await.unwrap()).await }
        });
        bench.line("begun").await;
        let left = timeout(Duration::from_millis(1), instance.call_ahead(call("/behind", Body::empty())));
        assert!(left.await.is_err(), "{runtime}");
        assert!(timeout(LONG, &mut long).await.is_err(), "{runtime}: it runs on");
        std::fs::write(&gate, "").unwrap();
        assert!(timeout(PATIENCE, long).await.unwrap().unwrap().starts_with("/until-asked"), "{runtime}");
        let next = timeout(PATIENCE, instance.call(call("/next", Body::empty()))).await.unwrap();
        assert_eq!(text(next.unwrap()).await, "/next", "{runtime}");
    }
}
