//! The endpoints of the AWS Lambda Runtime API (2018-06-01), served to the program inside one cell.
//!
//! ```text
//! GET  /2018-06-01/runtime/invocation/next            200 the next event; waits for it as long as it takes
//! POST /2018-06-01/runtime/invocation/{id}/response   202, 400 unknown id, 403 wrong state, 413 too large
//! POST /2018-06-01/runtime/invocation/{id}/error      202, 400, 403
//! POST /2018-06-01/runtime/init/error                 202, 403
//! ```
//!
//! HTTP/1.1 with keep-alive; nobody but the program can reach it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::desk::{Desk, Misuse, Reply, Reported};
use super::streaming;

const PREFIX: &str = "/2018-06-01/runtime/";
/// Connections of one program beyond its concurrency: clients use two or three.
const CONNECTIONS_SPARE: usize = 16;
/// Largest error report, in bytes: a message and a deep stack trace.
const REPORT_BYTES_MAX: usize = 256 * 1024;
/// What is read of a request that is refused, in bytes: a connection on which the rest of a request is never read
/// must be closed, and clients take that for the end of the platform.
const DISCARDED_BYTES_MAX: usize = 256 * 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

type Reaction = Response<Full<Bytes>>;

/// Serves the API until the task is aborted.
pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let permits = Arc::new(Semaphore::new(desk.concurrency() + CONNECTIONS_SPARE));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without the option an answer may wait for an acknowledgement; a socket that refuses it works as well.
        let _ = stream.set_nodelay(true);
        let desk = Arc::clone(&desk);
        connections.spawn(async move {
            serve_connection(stream, desk).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    desk: Arc<Desk>,
) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(react(&desk, request).await) }
    });
    // A program may think about one event for hours between two requests, so idle connections are kept. Errors
    // are the program's own: it sees them as a closed connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn react(desk: &Desk, request: Request<Incoming>) -> Reaction {
    let (head, mut content) = request.into_parts();
    let parts: Vec<&str> = head.uri.path().strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
    let reaction = match (&head.method, parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(desk).await,
        (&Method::POST, ["invocation", id, "response"]) if is_streamed(&head.headers) => {
            return streamed_response(desk, id, &head.headers, content).await;
        }
        (&Method::POST, ["invocation", id, "response"]) => {
            response(desk, id, &head.headers, &mut content).await
        }
        (&Method::POST, ["invocation", id, "error"]) => error(desk, id, &head.headers, &mut content).await,
        (&Method::POST, ["init", "error"]) => init_error(desk, &head.headers, &mut content).await,
        _ => no_such_path(),
    };
    discard(content).await;
    reaction
}

async fn discard(mut content: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = content.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > DISCARDED_BYTES_MAX {
            return;
        }
    }
}

async fn next(desk: &Desk) -> Reaction {
    let job = match desk.next().await {
        Ok(job) => job,
        Err(misuse) => return refuse(misuse),
    };
    let mut reaction = Response::new(Full::new(job.event));
    let headers = reaction.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(DEADLINE_MS, job.deadline_at.as_millis().into());
    let texts = [(REQUEST_ID, job.id.as_str()), (FUNCTION_ARN, desk.arn.as_str())];
    for (name, text) in texts {
        headers.extend(HeaderValue::from_str(text).ok().map(|value| (name, value)));
    }
    headers.extend(job.trace.map(|trace| (TRACE_ID, trace)));
    reaction
}

fn is_streamed(headers: &HeaderMap) -> bool {
    headers.get(RESPONSE_MODE).is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"))
}

async fn response(desk: &Desk, id: &str, headers: &HeaderMap, content: &mut Incoming) -> Reaction {
    if let Err(misuse) = desk.check(id) {
        return refuse(misuse);
    }
    let content_type = headers.get(CONTENT_TYPE).cloned();
    let limit = usize::try_from(desk.response_bytes_max).unwrap_or(usize::MAX);
    match Limited::new(content, limit).collect().await {
        Ok(content) => accept(desk.reply(id, Reply::Whole { content: content.to_bytes(), content_type })),
        Err(error) if error.is::<LengthLimitError>() => match desk.reply(id, Reply::TooLarge) {
            Ok(()) => too_large(desk.response_bytes_max),
            Err(misuse) => refuse(misuse),
        },
        Err(_) => broken_off(),
    }
}

/// Hands the content on as it comes; the program gets its answer when the caller has taken all of it.
async fn streamed_response(desk: &Desk, id: &str, headers: &HeaderMap, mut content: Incoming) -> Reaction {
    if let Err(misuse) = desk.check(id) {
        discard(content).await;
        return refuse(misuse);
    }
    let (head, first) = match streaming::open(headers, &mut content).await {
        Ok(opened) => opened,
        Err(reason) => {
            let told = desk.reply(id, Reply::Malformed(reason.clone()));
            discard(content).await;
            return told
                .map_or_else(refuse, |()| report(StatusCode::BAD_REQUEST, "InvalidResponse", &reason));
        }
    };
    let (told, ended) = oneshot::channel();
    let content = streaming::Content::new(first, content);
    if let Err(misuse) = desk.reply(id, Reply::Stream { head, content, ended: told }) {
        return refuse(misuse);
    }
    // However it ended: the program has done its part.
    let _ = ended.await;
    accept(Ok(()))
}

async fn error(desk: &Desk, id: &str, headers: &HeaderMap, content: &mut Incoming) -> Reaction {
    if let Err(misuse) = desk.check(id) {
        return refuse(misuse);
    }
    match reported(headers, content).await {
        Ok(reported) => accept(desk.reply(id, Reply::Failed(reported))),
        Err(reaction) => reaction,
    }
}

async fn init_error(desk: &Desk, headers: &HeaderMap, content: &mut Incoming) -> Reaction {
    match reported(headers, content).await {
        Ok(reported) => accept(desk.init_failed(reported)),
        Err(reaction) => reaction,
    }
}

async fn reported(headers: &HeaderMap, content: &mut Incoming) -> Result<Reported, Reaction> {
    let kind = error_type(headers);
    match Limited::new(content, REPORT_BYTES_MAX).collect().await {
        Ok(content) => Ok(Reported { kind, content: content.to_bytes() }),
        // A report that is too long is still an error: its type is told without it.
        Err(error) if error.is::<LengthLimitError>() => Ok(Reported { kind, content: Bytes::new() }),
        Err(_) => Err(broken_off()),
    }
}

/// The type of error that a program names in a header or a trailer.
pub(super) fn error_type(headers: &HeaderMap) -> Option<String> {
    headers.get(ERROR_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned())
}

fn accept(result: Result<(), Misuse>) -> Reaction {
    match result {
        Ok(()) => json(StatusCode::ACCEPTED, &serde_json::json!({ "status": "OK" })),
        Err(misuse) => refuse(misuse),
    }
}

fn refuse(misuse: Misuse) -> Reaction {
    match misuse {
        Misuse::UnknownId => {
            report(StatusCode::BAD_REQUEST, "InvalidRequestID", "no invocation of this id is running")
        }
        Misuse::State => report(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "this request is not allowed in this state",
        ),
    }
}

fn too_large(limit: u64) -> Reaction {
    let message = format!("the response is larger than {limit} bytes (response_bytes_max)");
    report(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn broken_off() -> Reaction {
    report(StatusCode::BAD_REQUEST, "InvalidRequest", "the request broke off before its end")
}

fn no_such_path() -> Reaction {
    report(StatusCode::NOT_FOUND, "NotFound", "the runtime API has no such path")
}

fn report(status: StatusCode, kind: &str, message: &str) -> Reaction {
    json(status, &serde_json::json!({ "errorType": kind, "errorMessage": message }))
}

fn json(status: StatusCode, content: &serde_json::Value) -> Reaction {
    let mut reaction = Response::new(Full::new(Bytes::from(content.to_string())));
    *reaction.status_mut() = status;
    reaction.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reaction
}
