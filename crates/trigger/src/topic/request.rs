//! What a request to publish holds: CloudEvents in any mode, or anything else, which becomes the content of one event.
//!
//! | header | meaning, for what is no CloudEvent |
//! |---|---|
//! | `Idempotency-Key` | the event's id: publishing it again is harmless |
//! | `X-Alula-Event-Type` | the event's `type`; `message` where it is left out |
//! | `X-Alula-Ordering-Key` | the event's `partitionkey`: those with the same one run one after another in each function |

use alula_invoke::cloudevents::{CloudEvent, Mode, Plain};
use alula_model::{ErrorCode, Fault, InvocationId, Lineage, Name, Timestamp};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{NamedBy, Publication};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EVENT_TYPE: HeaderName = HeaderName::from_static("x-alula-event-type");
const ORDERING_KEY: HeaderName = HeaderName::from_static("x-alula-ordering-key");
/// The type of an event whose publisher names none.
const EVENT_TYPE_DEFAULT: &str = "message";

/// A request to publish.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Names the event where nobody else does.
    pub id: &'a InvocationId,
    /// When it came.
    pub at: Timestamp,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its content.
    pub content: &'a Bytes,
}

impl Publication {
    /// What `request` publishes to a topic.
    pub fn of_request(
        namespace: Name,
        topic: Name,
        request: Request<'_>,
        lineage: Lineage,
    ) -> Result<Self, Fault> {
        let (events, named_by) = match Mode::of(request.headers) {
            Some(mode) => (CloudEvent::read(mode, request.headers, request.content)?, NamedBy::Publisher),
            None => wrap(&namespace, &topic, request)?,
        };
        Ok(Self { namespace, topic, events, named_by, lineage })
    }
}

fn wrap(namespace: &Name, topic: &Name, request: Request<'_>) -> Result<(Vec<CloudEvent>, NamedBy), Fault> {
    let text = |name: &HeaderName| match request.headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
        Some(_) => Err(Fault::new(ErrorCode::InvalidRequest, format!("{name} must be visible ASCII"))),
    };
    let key = text(&IDEMPOTENCY_KEY)?;
    let mut event = CloudEvent::wrap(Plain {
        id: key.unwrap_or(request.id.as_str()),
        source: &format!("/topics/{namespace}/{topic}"),
        kind: text(&EVENT_TYPE)?.unwrap_or(EVENT_TYPE_DEFAULT),
        time: request.at,
        content_type: text(&header::CONTENT_TYPE)?,
        content: request.content,
    });
    if let Some(key) = text(&ORDERING_KEY)? {
        event.set("partitionkey", key);
    }
    Ok((vec![event], if key.is_some() { NamedBy::Publisher } else { NamedBy::Platform }))
}
