//! What an operator may change.

/// Limits of what is sent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Time for one delivery, from the connection to the answer's status, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        // A receiver that takes longer does its work before it answers, which it should not.
        Self { timeout_ms: 30_000 }
    }
}
