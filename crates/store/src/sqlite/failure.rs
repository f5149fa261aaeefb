//! What SQLite's errors mean to callers of the ports.

use rusqlite::ErrorCode;

use crate::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { detail: error.to_string() }
            }
            Some(_) => Self::Unavailable { detail: error.to_string() },
            // No code: what was read is not of the type that was written.
            None => Self::Damaged { detail: error.to_string() },
        }
    }
}
