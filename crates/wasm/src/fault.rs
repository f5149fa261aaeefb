//! What went wrong with a guest, as its caller is told.

use alula_model::{ErrorCode, Fault, InvocationId};
use alula_runtime::faults;
use tokio::time::Instant;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode as GuestError;

use crate::engine::{GUESTS_MAX, STACK_BYTES_MAX};
use crate::instance::Loaded;

/// How a call ended without an answer.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The deadline came first.
    TimedOut,
    /// The instance was stopped.
    Stopped,
    /// The guest wanted more memory than its function has, and gave up.
    OutOfMemory,
    /// The guest broke down, for this reason.
    Trapped(String),
    /// The guest returned without an answer.
    Silent,
    /// The guest answered with an error instead of a response.
    Refused(GuestError),
    /// The guest let its body go before its end.
    BrokenOff,
    /// There is no place for one more guest.
    Full,
}

impl Ending {
    /// What an error of the engine means.
    pub(crate) fn of(error: &wasmtime::Error, memory_was_refused: bool, deadline: Instant) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) if Instant::now() >= deadline => return Self::TimedOut,
            Some(Trap::Interrupt) => return Self::Stopped,
            Some(Trap::StackOverflow) => {
                let kilobytes = STACK_BYTES_MAX / 1024;
                return Self::Trapped(format!("its call stack grew over {kilobytes} KB"));
            }
            _ => {}
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return Self::Full;
        }
        if memory_was_refused {
            return Self::OutOfMemory;
        }
        match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => Self::Trapped(format!("it exited with status {status}")),
            None => Self::Trapped(reason(error)),
        }
    }
}

/// The innermost cause in words, where the calls on the stack stand above it.
fn reason(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    cause.lines().next().unwrap_or_default().trim_start_matches("wasm trap: ").to_owned()
}

/// The fault of `call`.
pub(crate) fn of(ending: &Ending, loaded: &Loaded, call: &InvocationId) -> Fault {
    let spec = &loaded.plan.spec;
    let fault = match ending {
        Ending::TimedOut => faults::timed_out(spec),
        Ending::OutOfMemory => faults::out_of_memory(spec),
        Ending::Stopped => {
            Fault::new(ErrorCode::FunctionCrashed, "the function was stopped in the middle of the call")
        }
        Ending::Trapped(reason) => {
            Fault::new(ErrorCode::FunctionCrashed, format!("the component broke down: {reason}"))
        }
        Ending::Silent => {
            Fault::new(ErrorCode::BadResponse, "the component returned without setting a response")
        }
        Ending::Refused(error) => {
            Fault::new(ErrorCode::HandlerError, format!("the component answered with an error: {error}"))
        }
        Ending::BrokenOff => {
            Fault::new(ErrorCode::BadResponse, "the component let its response body go without finishing it")
        }
        Ending::Full => Fault::limit(
            ErrorCode::ConcurrencyExceeded,
            format!("{GUESTS_MAX} WebAssembly guests run already"),
            "guests_max",
            GUESTS_MAX.into(),
            "a constant of the platform",
        ),
    };
    fault.with_log_tail(loaded.output.tail_of(call))
}
