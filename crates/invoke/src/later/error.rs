//! What the store says, and what is amiss with a content, as callers are told.

use alula_model::{ErrorCode, Fault};
use alula_runtime::BodyError;

/// A failure of the store as a fault. Its own words stay in the log: they are of no use to a caller.
pub(crate) fn of_store(error: &alula_store::Error) -> Fault {
    use alula_store::Error as Store;
    match error {
        Store::NotFound { what } => Fault::new(ErrorCode::NotFound, format!("{what} does not exist")),
        Store::Conflict { .. } => Fault::new(ErrorCode::Conflict, "somebody else changed the same thing"),
        Store::TooLarge { what, value, limit } => {
            Fault::new(ErrorCode::RequestTooLarge, format!("{what} is {value}, at most {limit} is allowed"))
        }
        other => {
            tracing::warn!(error = %other, "the store did not do what was asked of it");
            Fault::new(
                ErrorCode::StoreUnavailable,
                "the store does not answer or is full; nothing was accepted",
            )
        }
    }
}

/// Why the content of a call could not be taken whole.
#[must_use]
pub fn content_fault(error: &BodyError) -> Fault {
    match error {
        BodyError::TooLarge { limit_bytes } => Fault::limit(
            ErrorCode::RequestTooLarge,
            format!("the content is larger than the {limit_bytes} bytes that are taken asynchronously"),
            "body_bytes_max",
            *limit_bytes,
            "async.body_bytes_max in the configuration",
        ),
        BodyError::Disconnected => Fault::new(ErrorCode::CallerGone, error.to_string()),
        BodyError::TimedOut | BodyError::Malformed { .. } => {
            Fault::new(ErrorCode::InvalidRequest, error.to_string())
        }
    }
}
