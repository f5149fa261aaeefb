//! The checks of the suite, each with an instance of its own.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a check panics where the contract is broken")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alula_model::{Blame, ErrorCode, Fault, InstanceId, LogStream};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;

use super::{PATIENCE, Suite, call, pieces};
use crate::{Body, BodyError, CallEvents, Instance, StopGrace, VersionPlan};

/// The deadline of calls that are meant to miss it: longer than any fixture needs to begin.
const SHORT: Duration = Duration::from_millis(700);
const LARGE_PIECE: usize = 64 * 1024;
const LARGE_PIECES: usize = 64;

impl Suite<'_> {
    async fn start(&self) -> Arc<dyn Instance> {
        self.start_of(&self.fixtures.plan).await.expect("the program of the suite starts")
    }

    async fn start_of(&self, plan: &Arc<VersionPlan>) -> Result<Arc<dyn Instance>, Fault> {
        use std::sync::atomic::AtomicU64;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = InstanceId::new(&format!("instance-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let started = self.backend.start(Arc::clone(plan), id.clone()).await?;
        assert_eq!(started.instance.id(), &id, "an instance keeps the id it was given");
        Ok(started.instance)
    }

    pub(super) async fn answers(&self) {
        let instance = self.start().await;
        echo(&*instance).await;
        echo(&*instance).await;
        let empty = instance.call(call("/echo", Body::empty())).await.expect("an empty body is answered");
        assert_eq!(empty.body.collect(1).await, Ok(Bytes::new()));
        let binary = Bytes::from((0..=255).collect::<Vec<u8>>());
        let mut with_type = call("/echo", Body::full(binary.clone()));
        with_type.headers.insert("content-type", http::HeaderValue::from_static("application/octet-stream"));
        let answer = instance.call(with_type).await.expect("bytes are answered");
        assert_eq!(answer.body.collect(1024).await, Ok(binary), "no byte is changed");
        close(instance).await;
    }

    pub(super) async fn passes_large_bodies(&self) {
        let instance = self.start().await;
        let piece = Bytes::from(vec![b'x'; LARGE_PIECE]);
        let bytes = if self.fixtures.has.limits_responses { 512 * 1024 } else { LARGE_PIECE * LARGE_PIECES };
        let answer = instance.call(call("/echo", pieces(piece, bytes / LARGE_PIECE))).await;
        let answer = answer.expect("a large body is answered");
        let back = answer.body.collect(bytes as u64).await.expect("the answer is whole");
        assert_eq!(back.len(), bytes);
        close(instance).await;
    }

    pub(super) async fn tells_that_user_code_began(&self) {
        let instance = self.start().await;
        let began = Arc::new(AtomicBool::new(false));
        let mut told = call("/echo", Body::full("x"));
        told.events = CallEvents { started: Some(Arc::clone(&began)) };
        let answer = instance.call(told).await.expect("the call is answered");
        assert_eq!(answer.status, StatusCode::OK);
        assert!(began.load(Ordering::Relaxed), "a caller must know that a retry may run something twice");
        close(instance).await;
    }

    pub(super) async fn times_out(&self) {
        let instance = self.start().await;
        let mut late = call("/hang", Body::empty());
        late.deadline = Instant::now() + SHORT;
        let fault = instance.call(late).await.expect_err("a call that hangs times out");
        assert_eq!(fault.code, ErrorCode::FunctionTimeout);
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn can_be_cancelled(&self) {
        let instance = self.start().await;
        let cancelled = tokio::time::timeout(SHORT, instance.call(call("/hang", Body::empty()))).await;
        assert!(cancelled.is_err(), "the call was still running when it was dropped");
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn reports_a_crash(&self) {
        let instance = self.start().await;
        let fault = instance.call(call("/crash", Body::empty())).await.expect_err("a crash is a fault");
        assert_eq!(fault.code, ErrorCode::FunctionCrashed, "{fault}");
        assert_eq!(fault.blame(), Blame::Function);
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn reports_a_failure(&self) {
        let instance = self.start().await;
        match instance.call(call("/fail", Body::empty())).await {
            Ok(answer) => assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR),
            Err(fault) => assert_eq!(fault.code, ErrorCode::HandlerError, "{fault}"),
        }
        assert!(!instance.is_gone(), "an instance outlives an error of its handler");
        echo(&*instance).await;
        close(instance).await;
    }

    pub(super) async fn stops(&self) {
        let instance = self.start().await;
        assert!(!instance.is_gone());
        let stop = instance.stop(StopGrace(Duration::from_secs(2)));
        tokio::time::timeout(PATIENCE, stop).await.expect("a stop ends");
        assert!(instance.is_gone());
        tokio::time::timeout(PATIENCE, instance.gone()).await.expect("a stopped instance is gone");
    }

    pub(super) async fn runs_calls_side_by_side(&self) {
        let instance = self.start().await;
        let calls = (0..self.fixtures.plan.spec.concurrency).map(|_| echo(&*instance));
        futures_util::future::join_all(calls).await;
        close(instance).await;
    }

    pub(super) async fn refuses_what_fails_to_start(&self) {
        if let Some(broken) = &self.fixtures.broken {
            let fault = self.start_of(broken).await.expect_err("a broken program does not start");
            assert_eq!(fault.code, ErrorCode::InitFailed, "{fault}");
            assert!(fault.log_tail.iter().any(|line| line.contains("cannot start")), "{:?}", fault.log_tail);
        }
        if let Some(never_ready) = &self.fixtures.never_ready {
            let fault = self.start_of(never_ready).await.expect_err("a program that hangs does not start");
            assert_eq!(fault.code, ErrorCode::InitTimeout, "{fault}");
        }
    }

    pub(super) async fn streams_both_ways(&self) {
        let instance = self.start().await;
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let open = futures_util::stream::once(async move {
            let _ = ended.await;
            Ok(http_body::Frame::data(Bytes::from_static(b"last")))
        });
        let answer = instance.call(call("/pace", Body::stream(StreamBody::new(open)))).await;
        let mut body = answer.expect("the answer begins before the request has ended").body;
        assert!(text_until(&mut body, "ready").await.ends_with("ready"));
        end.send(()).unwrap();
        assert!(text_until(&mut body, "done").await.ends_with("done"));
        drop(body);
        close(instance).await;
    }

    pub(super) async fn ends_a_stream_at_the_deadline(&self) {
        let instance = self.start().await;
        let open = StreamBody::new(futures_util::stream::pending::<Result<_, BodyError>>());
        let mut late = call("/pace", Body::stream(open));
        late.deadline = Instant::now() + SHORT;
        let mut body = instance.call(late).await.expect("the answer begins in time").body;
        let end = loop {
            match body.frame().await.expect("an answer without an end does not end well") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(end, BodyError::TimedOut);
        drop(body);
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn limits_responses(&self) {
        let instance = self.start().await;
        let fault =
            instance.call(call("/big?2000000", Body::empty())).await.expect_err("2 MB are over 1 MiB");
        assert_eq!(fault.code, ErrorCode::ResponseTooLarge, "{fault}");
        let limit = fault.limit.expect("the limit is named");
        assert_eq!((limit.name.as_str(), limit.value), ("response_bytes_max", 1024 * 1024));
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn refuses_garbage(&self) {
        let instance = self.start().await;
        let fault = instance.call(call("/garbage", Body::empty())).await.expect_err("garbage is no answer");
        assert_eq!(fault.code, ErrorCode::BadResponse, "{fault}");
        self.is_usable_or_gone(instance).await;
    }

    pub(super) async fn gives_an_environment(&self) {
        let instance = self.start().await;
        let function = self.fixtures.plan.key.function.as_str();
        for (target, expected) in
            [("/env?CONFORMANCE", "yes"), ("/env?ALULA_FUNCTION", function), ("/env?HOME", "/tmp")]
        {
            let answer = instance.call(call(target, Body::empty())).await.expect("the call is answered");
            let value = answer.body.collect(1024).await.unwrap();
            assert_eq!(value.trim_ascii_end(), expected.as_bytes(), "{target}");
        }
        close(instance).await;
    }

    pub(super) async fn captures_logs(&self) {
        let instance = self.start().await;
        let marked = call("/log?a-line-of-the-suite", Body::empty());
        let id = marked.id.clone();
        let answer = instance.call(marked).await.expect("the call is answered");
        let is_it = |line: &alula_model::LogLine| {
            line.text == "a-line-of-the-suite"
                && line.stream != LogStream::Platform
                && line.instance == *instance.id()
        };
        let line = tokio::time::timeout(PATIENCE, self.fixtures.log.wait_for(is_it)).await;
        let line = line.expect("the line is captured");
        assert_eq!(line.key, self.fixtures.plan.key);
        assert!(line.invocation.is_none() || line.invocation == Some(id), "no line is given to another call");
        drop(answer);
        close(instance).await;
    }

    pub(super) async fn reports_usage(&self) {
        let instance = self.start().await;
        let (hang, usage) = (instance.call(call("/hang", Body::empty())), async {
            while instance.usage().memory_bytes == 0 {
                tokio::task::yield_now().await;
            }
        });
        tokio::select! {
            _ = hang => panic!("a call that hangs has ended"),
            within = tokio::time::timeout(PATIENCE, usage) => within.expect("a running program uses memory"),
        }
        close(instance).await;
    }

    /// After a failure an instance either works or says that it is gone, and a new one works.
    async fn is_usable_or_gone(&self, instance: Arc<dyn Instance>) {
        tokio::time::timeout(PATIENCE, instance.settled()).await.expect("what was answered ends");
        if instance.is_gone() {
            tokio::time::timeout(PATIENCE, instance.gone()).await.expect("a gone instance ends");
            let next = self.start().await;
            echo(&*next).await;
            close(next).await;
        } else {
            echo(&*instance).await;
        }
        close(instance).await;
    }
}

async fn echo(instance: &dyn Instance) {
    let answer = instance.call(call("/echo", Body::full("hello"))).await.expect("an echo is answered");
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body.collect(1024).await, Ok(Bytes::from("hello")));
}

async fn close(instance: Arc<dyn Instance>) {
    let stop = instance.stop(StopGrace(Duration::from_secs(2)));
    tokio::time::timeout(PATIENCE, stop).await.expect("a stop ends");
}

/// Reads text until it ends with `end`, or the body ends.
async fn text_until(body: &mut Body, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the answer goes on");
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.expect("the answer is not broken off").into_data() {
            text.push_str(&String::from_utf8_lossy(&data));
        }
    }
    text
}
