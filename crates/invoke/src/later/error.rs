//! What the store says, as callers are told.

use alula_model::{ErrorCode, Fault};

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
