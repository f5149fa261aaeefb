//! What an attempt's end means: whose failure it was, whether it counts, and what becomes of the call.

use alula_model::{Blame, ErrorCode, Fault, RetryPolicy, Timestamp};
use alula_store::Settlement;
use http::StatusCode;
use http::header::{self, HeaderMap};

use super::options::ERROR_CHARS_MAX;
use super::trail::{Attempt, AttemptEnd, Trail};
use crate::Failure;

/// Longest time that a `Retry-After` puts off the next attempt, in milliseconds: an hour.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

/// How the reason begins of a call that was given up for its age.
pub(crate) const TOO_OLD: &str = "it is too old:";

/// How an attempt ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Whose failure it was.
    pub end: AttemptEnd,
    /// Whether trying again makes sense.
    pub hope: Hope,
    /// The fault's code, where there was a fault rather than an answer.
    pub code: Option<ErrorCode>,
    /// The status of the function's answer, where there was one.
    pub http_status: Option<u16>,
    /// What went wrong, in words.
    pub message: String,
    /// When another attempt makes sense at the earliest, where that is known, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

/// Whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// It does, and the attempt counts.
    Counts,
    /// It does, and the attempt does not count, since it provably never began.
    NeverBegan,
    /// It does not: the same call can only fail again.
    None,
    /// It was not even tried: its age is over.
    TooOld,
}

impl Miss {
    /// What a fault means. `has_begun` says whether the function's code may have run.
    #[must_use]
    pub fn of_failure(failure: &Failure, has_begun: bool) -> Self {
        let code = &failure.fault.code;
        let (end, hope) = match code {
            // A block ends or is lifted; what was accepted before it waits until then.
            ErrorCode::ConcurrencyExceeded
            | ErrorCode::RateLimited
            | ErrorCode::CircuitOpen
            | ErrorCode::Blocked
            | ErrorCode::BufferExhausted => (AttemptEnd::Throttled, Hope::NeverBegan),
            ErrorCode::FunctionTimeout | ErrorCode::InitTimeout => (AttemptEnd::Timeout, Hope::Counts),
            // An answer that is too large stays so, and a chain of calls gets no shorter.
            ErrorCode::ResponseTooLarge | ErrorCode::LoopDetected => (AttemptEnd::Failed, Hope::None),
            // What was stopped by us, and not by its own failure.
            ErrorCode::CallerGone => (AttemptEnd::Lost, Hope::Counts),
            _ => match (code.blame(), has_begun) {
                (Blame::Caller, _) => (AttemptEnd::Failed, Hope::None),
                (Blame::Function, _) => (AttemptEnd::Failed, Hope::Counts),
                (Blame::Platform, true) => (AttemptEnd::Lost, Hope::Counts),
                (Blame::Platform, false) => (AttemptEnd::Platform, Hope::NeverBegan),
            },
        };
        Self {
            end,
            hope,
            code: Some(*code),
            http_status: None,
            message: shortened(told(&failure.fault)),
            retry_after_ms: failure.retry_after_ms,
        }
    }

    /// What it means that a call's turn comes after its age is over; `None` where it is not.
    pub(crate) fn of_age(policy: &RetryPolicy, since: Timestamp, now: Timestamp) -> Option<Self> {
        (now.millis_since(since) > policy.max_age_ms).then(|| Self {
            end: AttemptEnd::Throttled,
            hope: Hope::TooOld,
            code: None,
            http_status: None,
            message: format!("{TOO_OLD} its turn came after {} ms", policy.max_age_ms),
            retry_after_ms: None,
        })
    }

    /// What an answer's status means; `None` where the call has ended well.
    #[must_use]
    pub fn of_answer(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let retry_after_ms = retry_after_ms(headers);
        let hope = match status.as_u16() {
            ..400 => return None,
            // The function says that it did nothing.
            429 | 503 if retry_after_ms.is_some() => Hope::NeverBegan,
            429 => Hope::NeverBegan,
            408 | 425 | 500.. => Hope::Counts,
            400..500 => Hope::None,
        };
        let end = if hope == Hope::NeverBegan { AttemptEnd::Throttled } else { AttemptEnd::Failed };
        Some(Self {
            end,
            hope,
            code: None,
            http_status: Some(status.as_u16()),
            message: format!("the function answered with status {status}"),
            retry_after_ms,
        })
    }

    /// What can only fail again.
    pub(crate) fn hopeless(message: String) -> Self {
        Self {
            end: AttemptEnd::Failed,
            hope: Hope::None,
            code: None,
            http_status: None,
            message,
            retry_after_ms: None,
        }
    }

    /// An attempt in which the function said itself, as a part of its answer, that it failed.
    #[must_use]
    pub fn reported(message: impl Into<String>) -> Self {
        Self {
            end: AttemptEnd::Failed,
            hope: Hope::Counts,
            code: None,
            http_status: None,
            message: shortened(message.into()),
            retry_after_ms: None,
        }
    }

    /// As it stands in a trail: the attempt with this number, from 1, that began at `at`.
    #[must_use]
    pub fn attempt(&self, number: u32, at: Timestamp) -> Attempt {
        let Self { end, code, http_status, message, .. } = self.clone();
        Attempt { number, at, end, code, http_status, message }
    }
}

/// The fault's sentence, and what the handler itself raised.
fn told(fault: &Fault) -> String {
    let raised =
        fault.payload.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let part = |name: &str| raised.as_ref().and_then(|value| value.get(name)?.as_str().map(str::to_owned));
    match (part("errorType"), part("errorMessage")) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (None, Some(message)) => message,
        _ => fault.message.clone(),
    }
}

/// As much of a text as is kept of an attempt.
pub(super) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(ERROR_CHARS_MAX) {
        text.truncate(end);
    }
    text
}

/// `Retry-After` in seconds (RFC 9110 10.2.3); its form with a date is rare and not needed for anything here.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000).min(RETRY_AFTER_MS_MAX))
}

/// What is known of the claim that an attempt was made under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    /// Which attempt it was, from 1.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) at: Timestamp,
    /// When the call was accepted, or redriven.
    pub(crate) since: Timestamp,
    /// When the attempt ended.
    pub(crate) now: Timestamp,
}

/// What becomes of a call after a miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again after this time; the attempt counts.
    Again { wait_ms: u64 },
    /// It is given back for this time as if it had not been claimed.
    Back { wait_ms: u64 },
    /// It is given up.
    Dead { reason: String },
}

/// Decides what becomes of a call, and notes the attempt.
pub(crate) fn next(miss: &Miss, policy: &RetryPolicy, tried: Tried, trail: &mut Trail, chance: u64) -> Next {
    trail.push(miss.attempt(tried.number, tried.at));
    let age_ms = tried.now.millis_since(tried.since);
    let wait_ms = match miss.hope {
        Hope::TooOld => return Next::Dead { reason: miss.message.clone() },
        Hope::None => return Next::Dead { reason: format!("not worth another attempt: {}", miss.message) },
        Hope::Counts if tried.number >= policy.attempts => {
            return Next::Dead {
                reason: format!("{} attempts failed, the last: {}", tried.number, miss.message),
            };
        }
        Hope::Counts => {
            trail.refusals = 0;
            policy.wait_ms(tried.number, chance)
        }
        Hope::NeverBegan => {
            trail.refusals = trail.refusals.saturating_add(1);
            policy.wait_unstarted_ms(trail.refusals, chance)
        }
    };
    let wait_ms = wait_ms.max(miss.retry_after_ms.unwrap_or(0));
    if age_ms.saturating_add(wait_ms) >= policy.max_age_ms {
        let last = &miss.message;
        let reason =
            format!("{TOO_OLD} its next attempt would come after {} ms, the last: {last}", policy.max_age_ms);
        return Next::Dead { reason };
    }
    match miss.hope {
        Hope::NeverBegan => Next::Back { wait_ms },
        _ => Next::Again { wait_ms },
    }
}

impl Next {
    /// As the queue is told; what is tried again moves to `lane`, where it may.
    pub(crate) fn settlement(self, now: Timestamp, lane: Option<String>, trail: &Trail) -> Settlement {
        let trail = trail.to_bytes();
        let after = |wait_ms: u64| now.plus_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX));
        match self {
            Self::Again { wait_ms } => Settlement::Retry { available_at: after(wait_ms), lane, trail },
            Self::Back { wait_ms } => Settlement::Release { available_at: after(wait_ms), trail },
            Self::Dead { reason } => Settlement::Dead { reason, trail },
        }
    }
}

#[cfg(test)]
mod tests {
    use alula_model::{Retry, RetryPreset};

    use super::*;

    fn failure(code: ErrorCode) -> Failure {
        Failure { fault: Fault::new(code, "why"), key: None, retry_after_ms: None }
    }

    #[test]
    fn failures_are_told_apart() {
        let of = |code, has_begun| {
            let miss = Miss::of_failure(&failure(code), has_begun);
            (miss.end, miss.hope)
        };
        assert_eq!(of(ErrorCode::HandlerError, true), (AttemptEnd::Failed, Hope::Counts));
        assert_eq!(of(ErrorCode::FunctionTimeout, true), (AttemptEnd::Timeout, Hope::Counts));
        assert_eq!(of(ErrorCode::ConcurrencyExceeded, false), (AttemptEnd::Throttled, Hope::NeverBegan));
        assert_eq!(of(ErrorCode::SandboxFailed, false), (AttemptEnd::Platform, Hope::NeverBegan));
        assert_eq!(of(ErrorCode::SandboxLost, true), (AttemptEnd::Lost, Hope::Counts));
        assert_eq!(of(ErrorCode::LoopDetected, false), (AttemptEnd::Failed, Hope::None));
        assert_eq!(of(ErrorCode::FunctionNotFound, false), (AttemptEnd::Failed, Hope::None));
    }

    #[test]
    fn a_status_is_a_success_a_failure_or_hopeless() {
        let of = |status: u16| {
            Miss::of_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()).map(|miss| miss.hope)
        };
        assert_eq!([of(200), of(204), of(302)], [None, None, None]);
        assert_eq!([of(400), of(404), of(422)], [Some(Hope::None); 3]);
        assert_eq!([of(408), of(500), of(503)], [Some(Hope::Counts); 3]);
        assert_eq!(of(429), Some(Hope::NeverBegan));
    }

    #[test]
    fn attempts_and_age_end_a_call_and_what_never_began_does_not_count() {
        let policy = RetryPolicy { jitter_percent: 0, ..Retry::Named(RetryPreset::Lambda).policy() };
        let tried =
            |number, now| Tried { number, at: Timestamp(now), since: Timestamp(0), now: Timestamp(now) };
        let failed = Miss::of_failure(&failure(ErrorCode::HandlerError), true);
        let refused = Miss::of_failure(&failure(ErrorCode::ConcurrencyExceeded), false);
        let mut trail = Trail::default();
        let mut decide = |miss: &Miss, number, now| next(miss, &policy, tried(number, now), &mut trail, 0);
        assert_eq!(decide(&failed, 1, 0), Next::Again { wait_ms: 60_000 });
        assert_eq!(decide(&refused, 2, 0), Next::Back { wait_ms: 1_000 });
        assert_eq!(decide(&refused, 2, 0), Next::Back { wait_ms: 2_000 });
        assert_eq!(decide(&failed, 2, 0), Next::Again { wait_ms: 120_000 });
        assert!(matches!(decide(&failed, 3, 0), Next::Dead { .. }));
        let old = i64::try_from(policy.max_age_ms).unwrap();
        assert!(matches!(decide(&refused, 2, old), Next::Dead { .. }));
    }

    #[test]
    fn what_a_guard_refused_waits_and_loses_no_attempt() {
        for code in [ErrorCode::RateLimited, ErrorCode::Blocked] {
            let miss = Miss::of_failure(&failure(code), false);
            assert_eq!((miss.end, miss.hope), (AttemptEnd::Throttled, Hope::NeverBegan), "{code}");
        }
    }

    #[test]
    fn retry_after_puts_off_but_never_hastens() {
        let policy = RetryPolicy { jitter_percent: 0, ..Retry::default().policy() };
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, "30".parse().unwrap())]);
        let tried = Tried { number: 1, at: Timestamp(0), since: Timestamp(0), now: Timestamp(0) };
        let miss = Miss::of_answer(StatusCode::SERVICE_UNAVAILABLE, &headers).unwrap();
        assert_eq!(next(&miss, &policy, tried, &mut Trail::default(), 0), Next::Back { wait_ms: 30_000 });
        let sooner = Miss { retry_after_ms: Some(1), hope: Hope::Counts, ..miss };
        assert_eq!(next(&sooner, &policy, tried, &mut Trail::default(), 0), Next::Again { wait_ms: 2_000 });
    }
}
