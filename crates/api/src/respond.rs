//! How what goes wrong becomes an answer: the one place of this edge that maps faults to HTTP.

use alula_model::{ErrorCode, Fault, InvocationId};
use alula_wire::{ErrorAnswer, ErrorInfo, headers};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What a handler answers with when it fails.
#[derive(Debug)]
pub(crate) struct Problem {
    fault: Box<Fault>,
    invocation: Option<InvocationId>,
    headers: HeaderMap,
}

/// What handlers return.
pub(crate) type Answer<T> = Result<T, Problem>;

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(quota) = &fault.quota {
            let told = [
                (headers::RATE_LIMIT_POLICY, quota.policy()),
                (headers::RATE_LIMIT, quota.standing()),
                (RETRY_AFTER.as_str(), quota.reset_ms.div_ceil(1_000).max(1).to_string()),
            ];
            headers.extend(told.map(|(name, value)| (HeaderName::from_static(name), text_header(&value))));
        }
        Self { fault: Box::new(fault), invocation: None, headers }
    }
}

impl Problem {
    /// The request is wrong in a way that `message` says.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Fault::new(ErrorCode::InvalidRequest, message).into()
    }

    /// The same for a call: it names its invocation.
    pub(crate) fn of_call(mut self, invocation: InvocationId) -> Self {
        self.headers.insert(headers::INVOCATION_ID, text_header(invocation.as_str()));
        self.invocation = Some(invocation);
        self
    }

    /// The same with one more header.
    pub(crate) fn with_header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// The same with the time after which a retry makes sense.
    pub(crate) fn retry_after(mut self, millis: Option<u64>) -> Self {
        if let Some(millis) = millis {
            self.headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000).max(1)));
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = ErrorInfo::from(&*self.fault);
        error.invocation_id = self.invocation.map(|id| id.to_string());
        let code = HeaderValue::from_static(self.fault.code.as_str());
        let mut response =
            (status(self.fault.code), self.headers, Json(ErrorAnswer { error })).into_response();
        response.headers_mut().insert(headers::ERROR, code);
        response
    }
}

/// A header value of text that the platform made; what cannot stand in a header becomes empty.
pub(crate) fn text_header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The status that goes with a code.
fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A failure of the store behind the history or the packages. Its detail is for the log, not for the caller.
pub(crate) fn store_fault(error: &alula_store::Error) -> Fault {
    tracing::error!(%error, "the store failed");
    if error.is_retryable() {
        return Fault::new(ErrorCode::StoreUnavailable, "the store does not answer or is full");
    }
    Fault::new(ErrorCode::Internal, "the store failed; the platform's log says how")
}

/// What a route that does not exist answers.
pub(crate) async fn no_such_route() -> Problem {
    let message = "no such route; GET /openapi.json lists them all, /docs shows them";
    Fault::new(ErrorCode::NotFound, message).into()
}

/// What a route answers to a method it does not have.
pub(crate) async fn no_such_method() -> Problem {
    method_not_allowed().into()
}

/// The same as a fault.
pub(crate) fn method_not_allowed() -> Fault {
    let message = "this route does not have this method; GET /openapi.json lists them";
    Fault::new(ErrorCode::MethodNotAllowed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_never_promised_at_once() {
        let fault = || Problem::from(Fault::new(ErrorCode::ConcurrencyExceeded, "busy"));
        let after = |millis| fault().retry_after(Some(millis)).into_response().headers()[RETRY_AFTER].clone();
        assert_eq!(after(0), "1");
        assert_eq!(after(1_001), "2");
    }
}
