//! The last log lines of one call, as a header of its answer.
//!
//! Lines travel from the sandbox to the log store beside the answer, so the end of a call and the arrival of its
//! last line are two events. The header waits until no further line has come for a moment, and never long.

use std::time::Duration;

use alula_model::{InvocationId, LogLine, Name};
use alula_telemetry::logs::LogQuery;
use alula_wire::headers::LOG_RESULT_BYTES_MAX;
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::HeaderValue;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};

use crate::respond::text_header;
use crate::state::Api;

/// An answer is gathered up to this size before its headers go out; of a larger one the log so far is sent.
const GATHERED_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Lines of one call that are looked at: more than fit into the header.
const LINES_MAX: usize = 200;
/// How often the log is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// The log counts as complete when it has not grown between two questions; it is not waited for longer than this.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Gathers `body` until its end or [`GATHERED_BYTES_MAX`]; the result has the same content.
pub(crate) async fn settle(mut body: Body) -> Body {
    let mut gathered = BytesMut::new();
    while gathered.len() <= GATHERED_BYTES_MAX {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    gathered.extend_from_slice(&data);
                }
            }
            Some(Err(error)) => return chain(gathered.freeze(), stream::iter([Err(error)])),
            None => return Body::from(gathered.freeze()),
        }
    }
    chain(gathered.freeze(), body.into_data_stream())
}

fn chain(
    first: Bytes,
    rest: impl futures_util::Stream<Item = Result<Bytes, axum::Error>> + Send + 'static,
) -> Body {
    Body::from_stream(stream::iter([Ok(first)]).chain(rest))
}

/// The header's value: the last lines of the invocation, base64.
pub(crate) async fn header(api: &Api, namespace: &Name, id: &InvocationId) -> HeaderValue {
    let until = Instant::now() + WAIT_MAX;
    let mut seen = Vec::new();
    loop {
        sleep(ASK_INTERVAL).await;
        let lines = lines_of(api, namespace, id).await;
        let grew = lines.len() != seen.len() || lines.last() != seen.last();
        seen = lines;
        if !grew || Instant::now() >= until {
            return text_header(&BASE64_STANDARD.encode(tail(&seen)));
        }
    }
}

async fn lines_of(api: &Api, namespace: &Name, id: &InvocationId) -> Vec<LogLine> {
    let query =
        LogQuery { invocation: Some(id.clone()), limit: LINES_MAX, ..LogQuery::new(namespace.clone()) };
    // The answer matters more than its log: a log that cannot be read is an empty one.
    api.parts.logs.query(query).await.unwrap_or_default()
}

/// The end of the text of `lines`, at most [`LOG_RESULT_BYTES_MAX`] bytes.
fn tail(lines: &[LogLine]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.text.as_bytes());
        text.push(b'\n');
    }
    let surplus = text.len().saturating_sub(LOG_RESULT_BYTES_MAX);
    text.split_off(surplus)
}
