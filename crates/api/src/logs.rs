//! Log lines: what there is, and then what comes.

use std::collections::VecDeque;

use alula_model::{ErrorCode, Fault, InstanceId, InvocationId, LogLine, Timestamp};
use alula_telemetry::logs::LogQuery;
use alula_wire::{ErrorAnswer, query};
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt, stream};

use crate::extract::{self, Query};
use crate::ndjson;
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Longest text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 1_000;

/// Shows log lines
///
/// The newest lines that match, oldest first, as newline-delimited JSON. With `follow=true` the answer goes on
/// with new lines until the client goes away.
#[utoipa::path(
    get,
    path = "/v1/logs",
    tag = "runs",
    operation_id = "logs",
    params(query::Logs),
    responses(
        (status = 200, description = "Lines, one `LogLine` each", body = alula_wire::LogLine, content_type = ndjson::MEDIA_TYPE),
        (status = 429, description = "Too many clients follow", body = ErrorAnswer),
    )
)]
pub(crate) async fn logs(State(api): State<Api>, Query(query): Query<query::Logs>) -> Answer<Response> {
    let follows = query.follow == Some(true);
    let filter = filter(query)?;
    if !follows {
        let lines = past(&api, filter).await?;
        return Ok(ndjson::answer(stream::iter(lines).map(|line| alula_wire::LogLine::from(&line))));
    }
    let slot = api.follow_slot()?;
    // Following begins before the past is read, so that no line falls between them; what comes twice is left out.
    let coming = api.parts.logs.follow(filter.clone());
    let past = past(&api, filter).await?;
    let mut repeats = Repeats(past.iter().cloned().collect());
    let coming = coming.filter(move |line| std::future::ready(!repeats.has(line)));
    let drained = api.parts.draining.clone().cancelled_owned();
    let lines = stream::iter(past).chain(coming).take_until(drained);
    Ok(ndjson::answer(lines.map(move |line| {
        let _held = &slot;
        alula_wire::LogLine::from(&line)
    })))
}

fn filter(query: query::Logs) -> Result<LogQuery, Fault> {
    let invalid = |message: &str| Fault::new(ErrorCode::InvalidRequest, message);
    if query.search.as_ref().is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        return Err(invalid(&format!("search: at most {SEARCH_BYTES_MAX} bytes are allowed")));
    }
    let invocation = query.invocation.as_deref().map(|text| {
        InvocationId::new(text)
            .ok_or_else(|| invalid("invocation: use letters, digits, - and _, 128 at the most"))
    });
    Ok(LogQuery {
        namespace: extract::namespace(query.namespace.as_deref())?,
        function: query.function.as_deref().map(|text| extract::name("function", text)).transpose()?,
        version: query.version,
        instance: query.instance.as_deref().map(InstanceId::new),
        invocation: invocation.transpose()?,
        since: query.since_ms.map(Timestamp),
        until: query.until_ms.map(Timestamp),
        text: query.search,
        limit: extract::limit(query.limit, query::LOG_LINES_MAX)?,
    })
}

async fn past(api: &Api, filter: LogQuery) -> Answer<Vec<LogLine>> {
    api.parts.logs.query(filter).await.map_err(|error| {
        tracing::error!(%error, "the log could not be read");
        Problem::from(Fault::new(ErrorCode::StoreUnavailable, "the log could not be read"))
    })
}

/// Lines of the past that may come again from the stream, in their order.
struct Repeats(VecDeque<LogLine>);

impl Repeats {
    /// Whether `line` is one of them. Once a line is new, all that follow are.
    fn has(&mut self, line: &LogLine) -> bool {
        match self.0.iter().position(|known| known == line) {
            Some(at) => {
                self.0.drain(..=at);
                true
            }
            None => {
                self.0.clear();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alula_model::{LogLevel, LogStream, Name, VersionKey};

    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            at: Timestamp(1),
            key: VersionKey {
                namespace: Name::default_namespace(),
                function: Name::default_namespace(),
                version: 1,
            },
            instance: InstanceId::new("i"),
            invocation: None,
            stream: LogStream::Stdout,
            level: LogLevel::Info,
            text: text.into(),
        }
    }

    #[test]
    fn what_was_shown_is_not_shown_again_and_the_same_text_later_is() {
        let mut repeats = Repeats([line("a"), line("b"), line("c")].into());
        assert!(repeats.has(&line("b")));
        assert!(repeats.has(&line("c")));
        assert!(!repeats.has(&line("d")));
        assert!(!repeats.has(&line("b")));
    }
}
