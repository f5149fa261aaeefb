//! Faults: the one shape in which anything that goes wrong reaches a caller.
//!
//! A fault answers three questions: whose fault it is, whether a retry is safe, what to do. The code is stable
//! and has a page under `docs/errors`. Its HTTP status stands in the table below, so that every edge answers alike;
//! how a fault becomes a response is decided once per edge, not here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The request is wrong or asks for too much.
    Caller,
    /// The function's code or its settings.
    Function,
    /// This platform.
    Platform,
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $blame:ident, $retry:literal, $status:literal;)+) => {
        /// What went wrong: stable, append-only. Every code has a page `docs/errors/<code>.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of this file.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as it stands in responses, records and file names.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Who has to act.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)+ }
            }

            /// Whether the same request may be sent again without running anything twice.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)+ }
            }

            /// The HTTP status that stands for it: 4xx where the caller has to act, 5xx otherwise.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }
        }
    };
}

error_codes! {
    /// The request is malformed: a bad name, a bad parameter, a bad body.
    InvalidRequest = "invalid_request", Caller, false, 400;
    /// No token, or one that is not known.
    Unauthenticated = "unauthenticated", Caller, false, 401;
    /// The token is known, and may not do this.
    Forbidden = "forbidden", Caller, false, 403;
    /// The route or resource does not exist.
    NotFound = "not_found", Caller, false, 404;
    /// The method is not allowed on this resource.
    MethodNotAllowed = "method_not_allowed", Caller, false, 405;
    /// No function of this name.
    FunctionNotFound = "function_not_found", Caller, false, 404;
    /// The function has no version of this number.
    VersionNotFound = "version_not_found", Caller, false, 404;
    /// The function has no alias of this name.
    AliasNotFound = "alias_not_found", Caller, false, 404;
    /// Somebody else changed the same thing at the same time.
    Conflict = "conflict", Caller, true, 409;
    /// The spec is malformed or out of bounds.
    InvalidSpec = "invalid_spec", Caller, false, 400;
    /// A secret that is named is not there, or not in this version.
    SecretNotFound = "secret_not_found", Caller, false, 404;
    /// The package cannot be read, or holds what a package must not hold.
    InvalidPackage = "invalid_package", Caller, false, 400;
    /// Another function has this route.
    RouteConflict = "route_conflict", Caller, false, 409;
    /// No runtime of this name.
    RuntimeUnknown = "runtime_unknown", Caller, false, 422;
    /// The runtime's interpreter is not installed on this machine.
    RuntimeUnavailable = "runtime_unavailable", Platform, false, 503;
    /// The build step failed; its log says why.
    BuildFailed = "build_failed", Caller, false, 422;
    /// The request body is larger than its limit.
    RequestTooLarge = "request_too_large", Caller, false, 413;
    /// The request's headers are larger than their limit.
    HeadersTooLarge = "headers_too_large", Caller, false, 431;
    /// All instances are busy and the wait is over or the queue is full.
    ConcurrencyExceeded = "concurrency_exceeded", Caller, true, 429;
    /// A limit by requests a second, or by requests in flight, is reached.
    RateLimited = "rate_limited", Caller, true, 429;
    /// An operator has blocked the caller, where it comes from, or what it calls.
    Blocked = "blocked", Caller, false, 403;
    /// The platform's memory for buffered bodies is used up.
    BufferExhausted = "buffer_exhausted", Platform, true, 503;
    /// The caller went away before the answer. Its status has no name in the standard; proxies of the field use it.
    CallerGone = "caller_gone", Caller, false, 499;
    /// The handler raised an error.
    HandlerError = "handler_error", Function, false, 502;
    /// The function's process ended in the middle of a call.
    FunctionCrashed = "function_crashed", Function, false, 502;
    /// The function was killed because it used more memory than it may.
    OutOfMemory = "out_of_memory", Function, false, 502;
    /// The attempt took longer than the function's timeout.
    FunctionTimeout = "function_timeout", Function, false, 504;
    /// The function did not become ready: its code failed to load.
    InitFailed = "init_failed", Function, false, 502;
    /// The function did not become ready in time.
    InitTimeout = "init_timeout", Function, false, 504;
    /// The function answered something that is not an answer.
    BadResponse = "bad_response", Function, false, 502;
    /// The response is larger than its limit.
    ResponseTooLarge = "response_too_large", Function, false, 502;
    /// The call would have been one too many in a chain of calls that goes in circles or never ends.
    LoopDetected = "loop_detected", Function, false, 508;
    /// The call could only have waited for itself: all slots of the function are held by calls that wait for it.
    CallDeadlock = "call_deadlock", Function, false, 508;
    /// The function's breaker refuses calls for a while, because the last ones failed.
    CircuitOpen = "circuit_open", Function, true, 503;
    /// The sandbox could not be made.
    SandboxFailed = "sandbox_failed", Platform, true, 503;
    /// The sandbox went away in the middle of a call, through no fault of the function.
    SandboxLost = "sandbox_lost", Platform, false, 502;
    /// A secret that the function needs cannot be had: it was removed, or cannot be decrypted.
    SecretUnavailable = "secret_unavailable", Platform, true, 503;
    /// The platform is shutting down.
    Draining = "draining", Platform, true, 503;
    /// The store does not answer or is full.
    StoreUnavailable = "store_unavailable", Platform, true, 503;
    /// A defect of the platform.
    Internal = "internal", Platform, false, 500;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which limit was exceeded and how to change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    /// The limit's name: `request_bytes_max`.
    pub name: String,
    /// Its value now, in the unit of its name.
    pub value: u64,
    /// Where it is set: `request_bytes_max in alula.toml`, `gateway.header_bytes_max in the configuration`.
    pub setting: String,
}

/// How much of something a caller may have, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The limit's name.
    pub name: String,
    /// How many there are in all.
    pub limit: u64,
    /// What is counted.
    pub unit: QuotaUnit,
    /// How many are left now.
    pub remaining: u64,
    /// Time until there is more, in milliseconds.
    pub reset_ms: u64,
}

impl Quota {
    /// The value of the header `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
    #[must_use]
    pub fn policy(&self) -> String {
        let Self { name, limit, .. } = self;
        match self.unit {
            QuotaUnit::Requests { window_ms } => format!("\"{name}\";q={limit};w={}", seconds(window_ms)),
            QuotaUnit::InFlight => format!("\"{name}\";q={limit};qu=\"concurrent-requests\""),
        }
    }

    /// The value of the header `RateLimit` of the same draft.
    #[must_use]
    pub fn standing(&self) -> String {
        format!("\"{}\";r={};t={}", self.name, self.remaining, seconds(self.reset_ms))
    }
}

/// Whole seconds, one at the least.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000).max(1)
}

/// What a [`Quota`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaUnit {
    /// Requests within this time, in milliseconds.
    Requests {
        /// The time.
        window_ms: u64,
    },
    /// Requests that are running.
    InFlight,
}

/// Something went wrong, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable code.
    pub code: ErrorCode,
    /// One sentence for the caller: lower case, no full stop. Never internal detail.
    pub message: String,
    /// The limit, where one was exceeded.
    pub limit: Option<LimitHit>,
    /// What the caller had of that limit, where it is one of requests.
    pub quota: Option<Box<Quota>>,
    /// The function's last log lines, where it failed.
    pub log_tail: Vec<String>,
    /// The handler's own error value as JSON (`errorType`, `errorMessage`, `stackTrace`), for event handlers.
    pub payload: Option<String>,
}

impl Fault {
    /// A fault with a message for the caller.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), limit: None, quota: None, log_tail: Vec::new(), payload: None }
    }

    /// A fault because of a limit.
    #[must_use]
    pub fn limit(code: ErrorCode, message: impl Into<String>, name: &str, value: u64, setting: &str) -> Self {
        let hit = LimitHit { name: name.to_owned(), value, setting: setting.to_owned() };
        Self { limit: Some(hit), ..Self::new(code, message) }
    }

    /// The same fault with the function's last log lines.
    #[must_use]
    pub fn with_log_tail(mut self, lines: Vec<String>) -> Self {
        self.log_tail = lines;
        self
    }

    /// Who has to act.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        self.code.blame()
    }

    /// Whether the same request may be sent again without running anything twice.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_told_as_the_draft_has_it() {
        let name = "function.requests_per_second".to_owned();
        let unit = QuotaUnit::Requests { window_ms: 2_000 };
        let quota = Quota { name, limit: 20, unit, remaining: 0, reset_ms: 101 };
        assert_eq!(quota.policy(), "\"function.requests_per_second\";q=20;w=2");
        assert_eq!(quota.standing(), "\"function.requests_per_second\";r=0;t=1");
        let quota = Quota { name: "node.in_flight".to_owned(), unit: QuotaUnit::InFlight, ..quota };
        assert_eq!(quota.policy(), "\"node.in_flight\";q=20;qu=\"concurrent-requests\"");
    }

    #[test]
    fn the_status_agrees_with_the_blame() {
        for &code in ErrorCode::ALL {
            let expected = if code.blame() == Blame::Caller { 400..500 } else { 500..600 };
            let status = code.http_status();
            assert!(expected.contains(&status), "{code} is {status}");
        }
    }
}
