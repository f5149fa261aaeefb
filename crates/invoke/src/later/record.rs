//! What is told of a finished call to those who asked for it: destinations and callbacks.
//!
//! The record for destinations has the shape of Lambda's, so that functions that read those read these. The headers of a
//! callback are the ones that OpenFaaS sends.

use alula_model::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Outcome;
use super::verdict::TOO_OLD;
use super::worker::{Call, Job};
use crate::cloudevents::{self, CloudEvent, Plain};

/// A call that has ended, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) call: &'a Call<'a>,
    pub(super) outcome: &'a Outcome,
    pub(super) verdict: Verdict<'a>,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict<'a> {
    /// The function answered with this.
    Success { body: &'a Bytes },
    /// It was given up.
    Failure { reason: &'a str },
}

/// What is sent to the address that a caller named.
#[derive(Debug)]
pub(super) struct Callback {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Verdict<'_> {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Failure { .. } => "failure",
        }
    }

    /// The condition as Lambda's records name it.
    fn condition(&self) -> &'static str {
        match self {
            Self::Success { .. } => "Success",
            Self::Failure { reason } if reason.starts_with(TOO_OLD) => "EventAgeExceeded",
            Self::Failure { .. } => "RetriesExhausted",
        }
    }
}

impl Finished<'_> {
    /// The record for destinations; `request` is the content of the call.
    pub(super) fn destination(&self, request: &Bytes) -> Bytes {
        let Outcome { namespace, function, version, id, attempts, finished_at, http_status, error, .. } =
            self.outcome;
        let (response, failure) = match self.verdict {
            Verdict::Success { body } => (value_of(body), Value::Null),
            Verdict::Failure { reason } => (json!({ "errorMessage": reason }), json!("Unhandled")),
        };
        let mut context =
            json!({ "statusCode": http_status.unwrap_or(200), "executedVersion": version.to_string() });
        if !failure.is_null() {
            context["functionError"] = failure;
            context["errorCode"] = json!(error);
        }
        json!({
            "version": "1.0",
            "timestamp": rfc3339(*finished_at),
            "requestContext": {
                "requestId": id,
                "functionArn": format!("arn:alula:lambda:local:{namespace}:function:{function}:{version}"),
                "condition": self.verdict.condition(),
                "approximateInvokeCount": attempts,
            },
            "requestPayload": value_of(request),
            "responseContext": context,
            "responsePayload": response,
        })
        .to_string()
        .into()
    }

    /// The event that tells a topic of the call: the function's own where it answered one, the record otherwise.
    pub(super) fn event(&self, id: &str, record: &Bytes) -> CloudEvent {
        let Outcome { namespace, function, content_type, finished_at, .. } = self.outcome;
        let is_event = content_type.as_deref().is_some_and(|text| text.starts_with(cloudevents::STRUCTURED));
        if let Verdict::Success { body } = self.verdict
            && is_event
            && let Ok(value) = serde_json::from_slice(body)
            && let Ok(event) = CloudEvent::of_value(value)
        {
            return event;
        }
        CloudEvent::wrap(Plain {
            id,
            source: &format!("/functions/{namespace}/{function}"),
            kind: match self.verdict {
                Verdict::Success { .. } => "alula.call.succeeded",
                Verdict::Failure { .. } => "alula.call.failed",
            },
            time: *finished_at,
            content_type: Some("application/json"),
            content: record,
        })
    }

    /// The request to the callback.
    pub(super) fn callback(&self) -> Callback {
        let Outcome { id, function, http_status, content_type, attempts, accepted_at, finished_at, .. } =
            self.outcome;
        let (status, body) = match self.verdict {
            Verdict::Success { body } => (http_status.unwrap_or(200), body.clone()),
            Verdict::Failure { reason } => {
                (http_status.unwrap_or(500), json!({ "error": { "message": reason } }).to_string().into())
            }
        };
        let content_type = match self.verdict {
            Verdict::Success { .. } => {
                content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned())
            }
            Verdict::Failure { .. } => "application/json".to_owned(),
        };
        let seconds = finished_at.millis_since(*accepted_at) as f64 / 1_000.0;
        let header = |name: &str, value: String| (name.to_owned(), value);
        let headers = vec![
            header("content-type", content_type),
            header("x-call-id", id.to_string()),
            header("x-alula-invocation-id", id.to_string()),
            header("x-function-name", function.to_string()),
            header("x-function-status", status.to_string()),
            header("x-duration-seconds", format!("{seconds:.6}")),
            header("x-alula-attempts", attempts.to_string()),
        ];
        Callback { headers, body }
    }
}

/// JSON as it is, text as text, anything else in base64.
fn value_of(content: &Bytes) -> Value {
    if let Ok(value) = serde_json::from_slice(content) {
        return value;
    }
    match std::str::from_utf8(content) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "isBase64Encoded": true, "body": STANDARD.encode(content) }),
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}
