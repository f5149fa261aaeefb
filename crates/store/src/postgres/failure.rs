//! What PostgreSQL's errors mean to callers of the ports.

use tokio_postgres::error::SqlState;

use crate::{Error, Key};

/// Whether doing the same again at once resolves it: somebody else was faster.
pub(super) fn is_lost_race(error: &tokio_postgres::Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::T_R_SERIALIZATION_FAILURE) || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(failure) = error.as_db_error() else { return without_code(&error) };
        let message = failure.message().to_owned();
        match failure.code().code() {
            // Raised by our own functions in the database.
            "AL001" => Self::Conflict { key: Key::from_stored(message) },
            "AL002" => Self::ClaimLost,
            "AL003" => Self::NotFound { what: message },
            "AL004" => Self::KeepsLane { id: message },
            // character_not_in_repertoire: a text with a zero character in it.
            "22021" => Self::Malformed { text: "\0".to_owned() },
            // disk_full
            "53100" => Self::Full,
            // data_corrupted, index_corrupted
            "XX001" | "XX002" => Self::Damaged { detail: message },
            code => Self::Unavailable { detail: format!("{message} ({code})") },
        }
    }
}

/// The connection failed, or what was read is not of the type that was written.
fn without_code(error: &tokio_postgres::Error) -> Error {
    let source = std::error::Error::source(error);
    let detail = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    let is_conversion = source.is_some_and(|source| source.is::<tokio_postgres::types::WasNull>());
    if is_conversion { Error::Damaged { detail } } else { Error::Unavailable { detail } }
}
