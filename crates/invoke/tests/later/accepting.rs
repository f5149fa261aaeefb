//! What is refused, and what is accepted once.

use alula_invoke::later::{Flow, FlowKey, Options, OutcomeStatus, Repeat};
use alula_model::{ErrorCode, Name};
use alula_runtime::fake::Does;
use bytes::Bytes;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn what_can_never_run_is_refused_at_once() {
    let world = World::with_options(Options { body_bytes_max: 100, ..Options::default() }, json!({})).await;
    let refused = |mut change: Box<dyn FnMut(&mut alula_invoke::later::Deferred)>| {
        let mut deferred = world.call();
        change(&mut deferred);
        let acceptor = world.calls.acceptor().clone();
        async move { acceptor.accept(deferred).await.unwrap_err() }
    };
    let code = refused(Box::new(|call| call.target = "nobody".parse().unwrap())).await.code;
    assert_eq!(code, ErrorCode::FunctionNotFound);
    let code = refused(Box::new(|call| call.target = "hello:7".parse().unwrap())).await.code;
    assert_eq!(code, ErrorCode::VersionNotFound);
    let fault = refused(Box::new(|call| call.body = Bytes::from(vec![0; 101]))).await;
    assert_eq!((fault.code, fault.limit.unwrap().value), (ErrorCode::RequestTooLarge, 100));
    let code = refused(Box::new(|call| call.ordering_key = Some(String::new()))).await.code;
    assert_eq!(code, ErrorCode::InvalidRequest);
    let code = refused(Box::new(|call| call.idempotency_key = Some("k".repeat(257)))).await.code;
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert_eq!(world.calls.queue().await.unwrap().totals.accepted, 0);
    world.stop().await;
}

#[tokio::test]
async fn the_same_key_is_accepted_once() {
    let world = World::new(json!({})).await;
    let with_key = |body: &'static str| {
        let mut deferred = world.call();
        deferred.idempotency_key = Some("order-7".to_owned());
        deferred.body = Bytes::from_static(body.as_bytes());
        deferred
    };
    let acceptor = world.calls.acceptor();
    let (one, two) = tokio::join!(acceptor.accept(with_key("{}")), acceptor.accept(with_key("{}")));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id);
    assert_eq!([one.repeat, two.repeat].iter().filter(|repeat| **repeat == Repeat::First).count(), 1);
    let other = acceptor.accept(with_key("{\"other\": 1}")).await.unwrap_err();
    assert!(other.message.contains("another request"), "{}", other.message);
    world.outcome(&one.id).await;
    assert_eq!(world.calls.queue().await.unwrap().totals.accepted, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_large_content_comes_through_whole() {
    let world = World::new(json!({})).await;
    world.does(|| Does::Echoes);
    let mut deferred = world.call();
    deferred.body = Bytes::from((0..300_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    let body = deferred.body.clone();
    let id = world.accept(deferred).await;
    assert_eq!(world.outcome(&id).await.result_bytes, 300_000);
    let (_, result) = world.calls.result(&id).await.unwrap().unwrap();
    assert_eq!(result, body);
    world.stop().await;
}

#[tokio::test]
async fn a_paused_function_waits_and_a_drained_one_takes_no_more() {
    let world = World::new(json!({})).await;
    let hello = FlowKey::Function(Name::default_namespace(), Name::new("hello").unwrap());
    world.calls.set_flow(&hello, Flow::Paused).await.unwrap();
    let id = world.accept(world.call()).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.attempts_ms(&id).is_empty());
    world.calls.set_flow(&hello, Flow::Draining).await.unwrap();
    assert_eq!(world.outcome(&id).await.status, OutcomeStatus::Done);
    let refused = world.calls.acceptor().accept(world.call()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Draining);
    world.calls.set_flow(&hello, Flow::Open).await.unwrap();
    let id = world.accept(world.call()).await;
    world.outcome(&id).await;
    world.stop().await;
}
