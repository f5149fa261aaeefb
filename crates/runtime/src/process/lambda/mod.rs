//! Programs that speak the AWS Lambda Runtime API: `bootstrap` executables and the unmodified runtime clients.
//!
//! The platform listens inside the cell, and the program asks it for work (`next`), answers (`response`) or
//! reports errors. So nothing has to reach into the cell, and the program is the one that waits. An HTTP request
//! becomes a function-URL event (`function_url`); an event is passed as it is.
//!
//! A program cannot be told to stop working on an invocation. Where a caller leaves or the deadline passes after
//! the program took the event, the instance takes no more calls and is destroyed when its last call has ended.
//!
//! Read `api` for the endpoints, `desk` for the state between them and the calls. Extensions and the telemetry
//! API are not served.

mod api;
mod desk;
mod function_url;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod streaming;

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::relay::{Ending, Relay};
use super::{Guest, Room, Running, command};
use crate::{Answer, Body, BoxFuture, Call, RunningCall};
use desk::{Desk, Init, Job, Reply, Reported};

/// File names that are the program where the spec has no command.
pub(super) const DEFAULT_PROGRAMS: &[&str] = &["bootstrap"];
/// Where the API is inside the cell: the port of Lambda itself.
pub(super) const API_PORT: u16 = 9001;
/// The same as text for `AWS_LAMBDA_RUNTIME_API`.
pub(super) const API_ADDRESS: &str = "127.0.0.1:9001";

/// Serves the API, starts the program and waits until it asks for its first event.
pub(super) async fn start(room: &Arc<Room>) -> Result<Box<dyn Guest>, Fault> {
    let argv = command::resolve(&room.plan, &room.language, DEFAULT_PROGRAMS)
        .map_err(|error| Fault::new(ErrorCode::InitFailed, error.to_string()))?;
    let listener = room.cell.take_listener(API_PORT).ok_or_else(|| {
        tracing::error!(instance = %room.id, "the cell has no listener for the runtime API");
        Fault::new(ErrorCode::SandboxFailed, "the sandbox has no listener for the runtime API")
    })?;
    let desk = Arc::new(Desk::new(&room.plan));
    let server = AbortOnDropHandle::new(tokio::spawn(api::serve(listener, Arc::clone(&desk))));
    room.launch(argv, Vec::new()).await?;
    let mut init = desk.init();
    tokio::select! {
        biased;
        init = init.wait_for(|init| !matches!(init, Init::Pending)) => {
            if let Ok(Init::Failed(reported)) = init.as_deref() {
                return Err(handler_fault(room, ErrorCode::InitFailed, reported));
            }
        }
        exit = room.ended() => return Err(room.init_failed(exit)),
    }
    Ok(Box::new(LambdaGuest { room: Arc::clone(room), desk, _server: server }))
}

/// Hands calls to the program in a room.
#[derive(Debug)]
struct LambdaGuest {
    room: Arc<Room>,
    desk: Arc<Desk>,
    _server: AbortOnDropHandle<()>,
}

impl Guest for LambdaGuest {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(self.run(call))
    }

    fn finish(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.room.terminate())
    }
}

/// A call that was put on the desk. If it is dropped while the program works on it, the instance is retired.
struct OnDesk<'a> {
    guest: &'a LambdaGuest,
    id: String,
}

impl Drop for OnDesk<'_> {
    fn drop(&mut self) {
        if self.guest.desk.withdraw(&self.id) {
            self.guest.room.retire();
        }
    }
}

impl LambdaGuest {
    async fn run(&self, call: Call) -> Result<Answer, Fault> {
        let running = self.room.begin(RunningCall::of(&call));
        let (deadline, is_event) = (call.deadline, call.is_event);
        let reply = match tokio::time::timeout_at(deadline, self.ask(call)).await {
            Ok(reply) => reply?,
            Err(_) => return Err(self.room.timed_out()),
        };
        self.answer(reply, is_event, running, deadline)
    }

    /// Puts the call on the desk and waits for what the program says to it.
    async fn ask(&self, call: Call) -> Result<Reply, Fault> {
        let on_desk = OnDesk { guest: self, id: call.id.to_string() };
        let (job, reply) = self.job(call).await?;
        if self.desk.put(job).await.is_err() {
            return Err(self.room.fault(ErrorCode::Internal, "the runtime API of this instance has ended"));
        }
        tokio::select! {
            biased;
            Ok(reply) = reply => {
                drop(on_desk);
                Ok(reply)
            }
            exit = self.room.ended() => Err(self.room.crashed(exit)),
        }
    }

    async fn job(&self, call: Call) -> Result<(Job, tokio::sync::oneshot::Receiver<Reply>), Fault> {
        let Call {
            id, method, target, headers, body, remote, parameters, is_event, deadline_at, events, ..
        } = call;
        let limit = self.room.plan.spec.request_bytes_max;
        let gathered = self.room.buffers.gather_request(body, limit).await?;
        let trace = headers.get("x-amzn-trace-id").cloned();
        let event = if is_event {
            gathered.bytes
        } else {
            let request = function_url::Request {
                id: &id,
                function: self.room.plan.key.function.as_str(),
                method: &method,
                target: &target,
                headers: &headers,
                remote,
                parameters: &parameters,
                at: self.room.output.now(),
            };
            function_url::event(&request, &gathered.bytes)
        };
        let (told, reply) = tokio::sync::oneshot::channel();
        let job = Job {
            id: id.to_string(),
            event,
            _reserved: gathered.reserved,
            deadline_at,
            trace,
            started: events.started,
            reply: told,
        };
        Ok((job, reply))
    }

    fn answer(
        &self,
        reply: Reply,
        is_event: bool,
        running: Running,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        match reply {
            Reply::Whole { content, .. } if is_event => {
                let json = HeaderValue::from_static("application/json");
                let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
                Ok(Answer::new(StatusCode::OK, headers, Body::full(content)))
            }
            Reply::Whole { content, content_type } => function_url::answer(content, content_type)
                .map_err(|reason| self.room.fault(ErrorCode::BadResponse, reason)),
            Reply::Failed(reported) => Err(handler_fault(&self.room, ErrorCode::HandlerError, &reported)),
            Reply::TooLarge => Err(self.too_large()),
            Reply::Malformed(reason) => Err(self.room.fault(ErrorCode::BadResponse, reason)),
            Reply::Stream { head, content, ended } => {
                let on_end = move |ending: Ending| {
                    if matches!(ending, Ending::TimedOut | Ending::Abandoned) {
                        running.room().retire();
                    }
                    // The program may have gone already; then nobody waits to be told.
                    let _ = ended.send(ending);
                    drop(running);
                };
                let body = Body::stream(Relay::new(content, deadline, on_end));
                Ok(Answer::new(head.status, head.headers, body))
            }
        }
    }

    fn too_large(&self) -> Fault {
        let value = self.room.plan.spec.response_bytes_max;
        let message = format!("the function's response is larger than {value} bytes");
        let name = "response_bytes_max";
        Fault::limit(ErrorCode::ResponseTooLarge, message, name, value, "response_bytes_max in alula.toml")
    }
}

/// The fault of an error that the program reported by itself.
fn handler_fault(room: &Room, code: ErrorCode, reported: &Reported) -> Fault {
    let mut fault = room.fault(code, reported.message());
    fault.payload = reported.payload();
    fault
}

#[cfg(test)]
mod tests;
