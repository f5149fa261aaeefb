//! Deploys and what can be seen of them afterwards.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::versions::{PIECE_BYTES, pieces};

use super::world::{PACKAGE_BYTES_MAX, World, with_token};

#[tokio::test]
async fn a_deploy_tells_its_stages_and_ends_with_the_version() {
    let world = World::new().await;
    let lines = world.deploy_hello("one").await.lines();
    let stages: Vec<_> =
        lines.iter().filter(|line| line["event"] == "stage").map(|line| &line["stage"]).collect();
    assert!(stages.contains(&&"validate".into()) && stages.contains(&&"ready".into()), "{lines:?}");
    let deployed = &lines.last().unwrap()["functions"][0];
    assert_eq!((&deployed["name"], &deployed["version"]), (&"hello".into(), &1.into()));
    assert_eq!(deployed["is_new"], true);
    assert_eq!(deployed["url"], "http://localhost:8080/function/hello");
    assert_eq!(world.uploads(), 0, "the upload is gone");

    let again = world.deploy_hello("one").await.lines();
    assert_eq!(again.last().unwrap()["functions"][0]["is_new"], false, "the same source is no new version");
}

#[tokio::test]
async fn a_deploy_that_fails_says_why_and_changes_nothing() {
    let world = World::new().await;
    let reply = world.ask("POST", "/v1/deploy", "this is no archive").await;
    assert_eq!(
        (reply.status.as_u16(), reply.lines().last().unwrap()["event"].as_str()),
        (200, Some("failed"))
    );
    let error = reply.lines().pop().unwrap()["error"].clone();
    assert_eq!(error["code"], "invalid_package", "{error}");
    assert_eq!(world.get("/v1/functions").await.json()["functions"], serde_json::json!([]));
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn a_rehearsal_publishes_nothing() {
    let world = World::new().await;
    let reply = world.ask("POST", "/v1/deploy?file=hello.sh&dry_run=true", "#!/bin/sh\n").await;
    let last = reply.lines().pop().unwrap();
    assert_eq!((last["event"].as_str(), &last["functions"][0]["dry_run"]), (Some("deployed"), &true.into()));
    assert_eq!(world.get("/v1/functions/hello").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_with_the_query_is_said_before_the_upload() {
    let world = World::new().await;
    for (query, expect) in [
        ("file=..%2Fhello.sh", "file"),
        ("file=", "file"),
        ("name=Hello", "name"),
        ("overrides=%7B%22memory%22%3A1%7D", "unknown field `memory`"),
        ("overrides=%5B%5D", "overrides"),
        ("dry_run=maybe", "dry_run"),
    ] {
        let (status, code, message) = world.ask("POST", &format!("/v1/deploy?{query}"), "x").await.error();
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{query}");
        assert!(message.contains(expect), "{query}: {message}");
    }
    assert_eq!(world.ask("POST", "/v1/deploy", "").await.error().1, "invalid_package");
}

#[tokio::test]
async fn overrides_win() {
    let world = World::new().await;
    let overrides = "name=bye&overrides=%7B%22memory_mb%22%3A64%2C%22env%22%3A%7B%22A%22%3A%22b%22%7D%7D";
    world.ask("POST", &format!("/v1/deploy?file=hello.sh&{overrides}"), "#!/bin/sh\n").await;
    let spec = world.get("/v1/functions/bye").await.json()["spec"].clone();
    assert_eq!((&spec["memory_mb"], &spec["env"]["A"]), (&64.into(), &"b".into()));
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_whether_or_not_it_says_its_size() {
    let world = World::new().await;
    let size = PACKAGE_BYTES_MAX as usize + 1;
    let pieces =
        stream::iter(vec![Bytes::from(vec![0; 1_000]); size / 1_000 + 1]).map(Ok::<_, std::io::Error>);
    for body in [Body::from(vec![0; size]), Body::from_stream(pieces)] {
        let reply = world.ask("POST", "/v1/deploy", body).await;
        assert_eq!(reply.error().1, "request_too_large");
        let limit = &reply.json()["error"]["limit"];
        assert_eq!(
            (&limit["name"], &limit["value"]),
            (&"package_bytes_max".into(), &PACKAGE_BYTES_MAX.into())
        );
        assert_eq!(world.uploads(), 0);
    }
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let world = World::new().await;
    let pieces = stream::iter([Ok(Bytes::from("abc")), Err(std::io::Error::other("gone"))]);
    let reply = world.ask("POST", "/v1/deploy", Body::from_stream(pieces)).await;
    assert_eq!(reply.error().1, "caller_gone");
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn a_client_who_goes_away_does_not_stop_a_deploy() {
    let world = World::new().await;
    let response = world.send(with_token("POST", "/v1/deploy?file=hello.sh", "#!/bin/sh\n")).await;
    drop(response);
    world.api.finish().await;
    assert_eq!(world.get("/v1/functions/hello").await.json()["function"]["latest"], 1);
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn versions_move_back_and_aliases_point() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    world.deploy_hello("two").await;
    let rolled = world.ask("POST", "/v1/functions/hello/rollback", "").await;
    assert_eq!(rolled.json()["latest"], 1, "{rolled:?}");
    let alias = world.ask("PUT", "/v1/functions/hello/aliases/live", r#"{"version": 2}"#).await;
    assert_eq!(alias.json()["aliases"]["live"], 2);
    let versions = world.get("/v1/functions/hello/versions").await.json();
    let first = &versions["versions"][0];
    assert_eq!(
        (&first["version"], &first["aliases"][0], &first["is_latest"]),
        (&2.into(), &"live".into(), &false.into())
    );
    let diff = world.get("/v1/functions/hello/diff?to=live").await.json();
    assert_eq!(
        (&diff["from"], &diff["to"], &diff["files"][0]["change"]),
        (&1.into(), &2.into(), &"modified".into())
    );
    let audit = world.get("/v1/audit?function=hello&limit=2").await.json();
    assert_eq!(audit["entries"].as_array().unwrap().len(), 2);
    assert_eq!(audit["entries"][0]["actor"], "tester");
    let package = world.get("/v1/functions/hello/versions/1/package").await;
    assert!(
        package.body.len() > 100
            && package.headers["content-disposition"].to_str().unwrap().contains("hello-1")
    );
    assert_eq!(world.ask("DELETE", "/v1/functions/hello", "").await.status, 204);
    assert_eq!(world.get("/v1/functions/hello").await.status, 404);
}

/// Content without end, and how much of it was read.
struct Endless(Arc<AtomicUsize>);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.fetch_add(into.len(), Ordering::SeqCst);
        Ok(into.len())
    }
}

#[tokio::test]
async fn a_package_is_read_no_faster_than_it_is_taken() {
    let read = Arc::new(AtomicUsize::new(0));
    let mut pieces = std::pin::pin!(pieces(Endless(Arc::clone(&read))));
    for taken in 1..=1_000 {
        assert_eq!(pieces.next().await.unwrap().unwrap().len(), PIECE_BYTES);
        assert_eq!(read.load(Ordering::SeqCst), taken * PIECE_BYTES);
    }
}

#[tokio::test]
async fn functions_come_in_pages() {
    let world = World::new().await;
    for name in ["c", "a", "b"] {
        world.ask("POST", &format!("/v1/deploy?file=x.sh&name={name}"), "#!/bin/sh\n").await;
    }
    let first = world.get("/v1/functions?limit=2").await.json();
    let names = |page: &serde_json::Value| -> Vec<String> {
        let functions = page["functions"].as_array().unwrap();
        functions.iter().map(|function| function["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&first), &first["next"]), (vec!["a".to_owned(), "b".to_owned()], &"b".into()));
    let second = world.get("/v1/functions?limit=2&cursor=b").await.json();
    assert_eq!((names(&second), second.get("next")), (vec!["c".to_owned()], None));
}
