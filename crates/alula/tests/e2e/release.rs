//! Versions under load: no call fails, none is mixed, rollback is at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::platform::{Platform, client};

fn source(version: u64) -> String {
    format!(
        "VERSION = {version}\n\ndef handler(event, context):\n    return [VERSION, int(context.function_version)]\n"
    )
}

/// Calls the function; the two numbers are what the code says and what the platform says.
async fn call(client: &reqwest::Client, url: &str) -> (u16, String) {
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_under_load_fails_no_call_and_mixes_none() {
    let platform = Platform::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("steady.py");
    let deploy = |version: u64| {
        std::fs::write(&file, source(version)).unwrap();
        platform.alula_ok(&["deploy", file.to_str().unwrap()]);
    };
    deploy(1);
    let url = platform.url("/function/steady");
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (url, stop, calls) = (url.clone(), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                let client = client();
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = call(&client, &url).await;
                    assert_eq!(status, 200, "{body}");
                    let pair: [u64; 2] = serde_json::from_str(&body).unwrap();
                    assert_eq!(pair[0], pair[1], "the code of one version ran as another");
                    assert!(pair[0] >= last, "version {} answered after {last}", pair[0]);
                    last = pair[0];
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let client = client();
    for version in 2..=6 {
        tokio::task::block_in_place(|| deploy(version));
        let (_, body) = call(&client, &url).await;
        assert_eq!(
            body,
            format!("[{version},{version}]"),
            "the new version answers as soon as deploy returns"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 20);

    tokio::task::block_in_place(|| platform.alula_ok(&["rollback", "steady"]));
    assert_eq!(call(&client, &url).await.1, "[5,5]");
    assert_eq!(call(&client, &platform.url("/function/steady:6")).await.1, "[6,6]");
    tokio::task::block_in_place(|| platform.alula_ok(&["alias", "set", "steady", "stable", "3"]));
    assert_eq!(call(&client, &platform.url("/function/steady:stable")).await.1, "[3,3]");
    let audit = tokio::task::block_in_place(|| platform.alula_ok(&["audit", "--json"]));
    assert!(audit.contains("rollback") && audit.contains("publish"), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_call_ends_on_the_version_where_it_began() {
    let platform = Platform::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.py");
    let deploy = |version: u64, pause: &str| {
        let text = format!(
            "import time\n\ndef handler(event, context):\n    time.sleep({pause})\n    return {version}\n"
        );
        std::fs::write(&file, text).unwrap();
        platform.alula_ok(&["deploy", file.to_str().unwrap()]);
    };
    deploy(1, "2");
    let url = platform.url("/function/long");
    let running = tokio::spawn(async move { call(&client(), &url).await });
    tokio::task::block_in_place(|| {
        crate::platform::eventually("the call runs", || {
            platform.alula_ok(&["instances", "--json"]).contains("busy").then_some(())
        });
        deploy(2, "0");
    });
    assert_eq!(call(&client(), &platform.url("/function/long")).await.1, "2");
    assert_eq!(running.await.unwrap(), (200, "1".to_owned()));
}
