//! Names of the headers that the platform adds, in the lower case that HTTP/2 asks for.

/// The invocation's id, on every answer of a function and on every fault of a call.
pub const INVOCATION_ID: &str = "x-alula-invocation-id";
/// The number of the version that answered.
pub const VERSION: &str = "x-alula-version";
/// The error's code, on answers that the platform made because something went wrong. An answer without it came
/// from the function, whatever its status.
pub const ERROR: &str = "x-alula-error";
/// The last log lines of an invocation, base64 of at most [`LOG_RESULT_BYTES_MAX`] bytes; with `log=tail`.
pub const LOG_RESULT: &str = "x-alula-log-result";
/// Where the time went, as the HTTP standard has it.
pub const SERVER_TIMING: &str = "server-timing";

/// Bytes of log text in [`LOG_RESULT`], before base64: what the Lambda API gives too.
pub const LOG_RESULT_BYTES_MAX: usize = 4 * 1024;
