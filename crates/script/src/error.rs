//! What can become of a script besides an answer.

/// A script could not be loaded, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The script threw, or its promise was rejected.
    #[error("{name}: {message}")]
    Threw {
        /// The kind of error: `TypeError`.
        name: String,
        /// What it says.
        message: String,
        /// Where, one line a frame, with files and lines of the source. For the script's owner only.
        stack: String,
    },
    /// The handler gave something that is no response.
    #[error("{reason}")]
    BadResponse {
        /// What it gave.
        reason: String,
    },
    /// The answer did not come before the deadline.
    #[error("the script did not answer in time")]
    TimedOut,
    /// It computed longer than [`crate::Limits::turn`] without a pause. Its context is gone.
    #[error("the script computed for more than {limit_ms} ms without a pause")]
    TurnTooLong {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// It used more than [`crate::Limits::memory_bytes`]. Its context is gone.
    #[error("the script used more than {limit_bytes} bytes of memory")]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// The context ended because of another call in it.
    #[error("the script's context ended because of another call")]
    Ended,
    /// The engine cannot be used: a defect, or no memory for a context at all.
    #[error("the script engine failed: {reason}")]
    Broken {
        /// How.
        reason: String,
    },
}
