//! The platform's own way of calling functions and of keeping what is not delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alula_invoke::later::{Acceptor, Deferred, GivenUp, Hope, Miss};
use alula_invoke::{Failure, Invocation, Invoker};
use alula_model::{Clock, Fault, FunctionRef, InvocationId, Lineage, TriggerKind};
use alula_runtime::{Body, Waiters};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use crate::BoxFuture;
use crate::ports::{Call, Keep, Letter};

/// Answers of functions are read up to this size, in bytes: a report of failures of the largest batch.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Calls through the invocation core, keeps in the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform {
    invoker: Invoker,
    acceptor: Acceptor,
    clock: Arc<dyn Clock>,
    ids: fn() -> InvocationId,
}

impl Platform {
    /// Calls by `invoker` and keeps by `acceptor`; calls are named by `ids`.
    #[must_use]
    pub fn new(
        invoker: Invoker,
        acceptor: Acceptor,
        clock: Arc<dyn Clock>,
        ids: fn() -> InvocationId,
    ) -> Self {
        Self { invoker, acceptor, clock, ids }
    }

    fn deferred(&self, target: &FunctionRef, event: Bytes) -> Deferred {
        Deferred::event((self.ids)(), target.clone(), TriggerKind::Broker, event)
    }
}

impl Call for Platform {
    fn call<'a>(
        &'a self,
        target: &'a FunctionRef,
        attempt: u32,
        event: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, Miss>> {
        let content_type = HeaderValue::from_static("application/json");
        let began = Arc::new(AtomicBool::new(false));
        let invocation = Invocation {
            id: (self.ids)(),
            target: target.clone(),
            version: None,
            trigger: TriggerKind::Broker,
            // Records come from outside: whatever led to them, nothing here has signed it.
            lineage: Lineage::default(),
            attempt,
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            body: Body::full(event),
            caller: alula_model::Caller::Platform,
            remote: None,
            parameters: Vec::new(),
            is_event: true,
            received: Instant::now(),
            received_at: self.clock.now(),
            began: Some(Arc::clone(&began)),
            waiters: Waiters::default(),
        };
        Box::pin(async move {
            let outcome = self.invoker.invoke(invocation).await;
            let answer = outcome.map_err(|failure| missed(&failure, began.load(Ordering::Relaxed)))?.answer;
            if let Some(miss) = Miss::of_answer(answer.status, &answer.headers) {
                return Err(miss);
            }
            let body = answer.body.collect(ANSWER_BYTES_MAX).await;
            body.map_err(|error| Miss::reported(format!("the answer broke off: {error}")))
        })
    }
}

fn missed(failure: &Failure, has_begun: bool) -> Miss {
    let miss = Miss::of_failure(failure, has_begun);
    // Without a version nothing was called: the function or its alias is gone, or on its way.
    if failure.key.is_none() { Miss { hope: Hope::NeverBegan, ..miss } } else { miss }
}

impl Keep for Platform {
    fn bury<'a>(&'a self, target: &'a FunctionRef, letters: Vec<Letter>) -> BoxFuture<'a, Result<(), Fault>> {
        let given_up = |letter: Letter| GivenUp {
            deferred: self.deferred(target, letter.event),
            attempts: letter.attempts,
            reason: letter.reason,
            trail: letter.trail,
        };
        let given_up = letters.into_iter().map(given_up).collect();
        Box::pin(self.acceptor.bury(given_up))
    }

    fn defer<'a>(&'a self, target: &'a FunctionRef, event: Bytes) -> BoxFuture<'a, Result<(), Fault>> {
        let deferred = self.deferred(target, event);
        Box::pin(async move { self.acceptor.accept(deferred).await.map(drop) })
    }
}
