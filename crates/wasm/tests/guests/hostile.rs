//! Guests that loop, recurse, take memory, break down or never end hurt nobody beside them.

use std::time::Duration;

use alula_model::{ErrorCode, LogStream};
use alula_runtime::conformance::call;
use alula_runtime::{Body, BodyError, Instance, StopGrace};
use bytes::Bytes;
use tokio::time::Instant;

use crate::world::World;

const SHORT: Duration = Duration::from_millis(300);

async fn fault_of(instance: &dyn Instance, target: &'static str) -> alula_model::Fault {
    instance.call(call(target, Body::empty())).await.expect_err("the call fails")
}

async fn echo(instance: &dyn Instance) {
    let answer = instance.call(call("/echo", Body::full("hello"))).await.unwrap();
    assert_eq!(answer.body.collect(64).await, Ok(Bytes::from("hello")));
}

#[tokio::test]
async fn a_loop_is_cut_at_the_deadline_and_lets_others_run() {
    let instance = World::new().start(|_| {}).await;
    let mut endless = call("/hang", Body::empty());
    endless.deadline = Instant::now() + SHORT;
    // On one thread: the echo is answered only if the loop lets it.
    let began = Instant::now();
    let (endless, echoed_after) = tokio::join!(instance.call(endless), async {
        echo(&*instance).await;
        began.elapsed()
    });
    let fault = endless.expect_err("a loop has no answer");
    assert_eq!(fault.code, ErrorCode::FunctionTimeout, "{fault}");
    assert!(echoed_after < SHORT, "the echo waited for the loop");
    echo(&*instance).await;
}

#[tokio::test]
async fn endless_recursion_is_a_crash_of_the_function() {
    let instance = World::new().start(|_| {}).await;
    let fault = fault_of(&*instance, "/recurse").await;
    assert_eq!(fault.code, ErrorCode::FunctionCrashed, "{fault}");
    assert!(fault.message.contains("call stack"), "{fault}");
    echo(&*instance).await;
}

#[tokio::test]
async fn a_guest_gets_the_memory_of_its_function_and_no_more() {
    let instance = World::new().start(|spec| spec.memory_mb = 16).await;
    let fault = fault_of(&*instance, "/memory").await;
    assert_eq!(fault.code, ErrorCode::OutOfMemory, "{fault}");
    assert_eq!(fault.limit.map(|limit| (limit.name, limit.value)), Some(("memory_mb".to_owned(), 16)));
    echo(&*instance).await;
    assert_eq!(instance.usage().memory_bytes, 0, "what the guests had has come back");
}

#[tokio::test]
async fn a_trap_names_its_reason_and_shows_the_last_lines() {
    let instance = World::new().start(|_| {}).await;
    let fault = fault_of(&*instance, "/crash").await;
    assert_eq!(fault.code, ErrorCode::FunctionCrashed);
    assert!(fault.message.contains("unreachable"), "{fault}");
    let torn = fault_of(&*instance, "/torn").await;
    assert_eq!((torn.code, torn.log_tail), (ErrorCode::FunctionCrashed, vec!["ready".to_owned()]));
}

#[tokio::test]
async fn an_answer_that_never_ends_is_broken_off_at_the_deadline() {
    let world = World::new();
    let instance = world.start(|_| {}).await;
    let mut late = call("/late", Body::empty());
    late.deadline = Instant::now() + SHORT;
    let answer = instance.call(late).await.unwrap();
    assert_eq!(answer.body.collect(64).await, Err(BodyError::TimedOut));
    let told = |line: &alula_model::LogLine| line.stream == LogStream::Platform;
    assert!(world.log.wait_for(told).await.text.contains("broken off"));
    echo(&*instance).await;
}

#[tokio::test]
async fn calls_share_no_memory_unless_the_version_asks_for_it() {
    let count = async |instance: &dyn Instance| {
        let answer = instance.call(call("/calls", Body::empty())).await.unwrap();
        answer.body.collect(8).await.unwrap()
    };
    let fresh = World::new().start(|_| {}).await;
    assert_eq!((count(&*fresh).await, count(&*fresh).await), (Bytes::from("1"), Bytes::from("1")));
    let reused = World::new().start(|spec| spec.calls_per_guest = 2).await;
    let counted = [count(&*reused).await, count(&*reused).await, count(&*reused).await];
    assert_eq!(counted.map(|n| n[0]), *b"121", "a guest runs two calls and no more");
    let _ = fault_of(&*reused, "/crash").await;
    assert_eq!(count(&*reused).await, Bytes::from("1"), "a guest that broke down runs no other call");
}

#[tokio::test]
async fn a_stop_ends_what_does_not_end_by_itself() {
    let instance = World::new().start(|_| {}).await;
    let stop = async {
        while instance.usage().memory_bytes == 0 {
            tokio::task::yield_now().await;
        }
        instance.stop(StopGrace(Duration::from_millis(50))).await;
    };
    let (fault, ()) = tokio::join!(fault_of(&*instance, "/hang"), stop);
    assert_eq!(fault.code, ErrorCode::FunctionCrashed, "{fault}");
    assert!(instance.is_gone());
    assert_eq!(fault_of(&*instance, "/echo").await.code, ErrorCode::FunctionCrashed);
}
