//! Why a call is not run, as its caller is told.

use alula_model::Fault;

/// A call was refused: nothing of it has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller is told; names the limit, its value and where it is set.
    pub fault: Fault,
    /// When another try makes sense, where that is known, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}
