//! Faults that every back end words alike: a limit of the spec was hit in the middle of a call.

use alula_model::{ErrorCode, Fault, FunctionSpec};

/// The fault of a call that took longer than it may.
#[must_use]
pub fn timed_out(spec: &FunctionSpec) -> Fault {
    let value = spec.timeout_ms;
    let message = format!("the function did not answer within {value} ms");
    Fault::limit(ErrorCode::FunctionTimeout, message, "timeout_ms", value, "timeout_ms in alula.toml")
}

/// The fault of a call that was ended because it wanted more memory than it may have.
#[must_use]
pub fn out_of_memory(spec: &FunctionSpec) -> Fault {
    let value = spec.memory_mb;
    let message = format!("the function was killed because it used more than {value} MB of memory");
    Fault::limit(ErrorCode::OutOfMemory, message, "memory_mb", value.into(), "memory_mb in alula.toml")
}
