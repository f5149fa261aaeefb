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
/// Says that another answer was given in a function's place, and why.
pub const DEGRADED: &str = "x-alula-degraded";
/// Where the time went, as the HTTP standard has it.
pub const SERVER_TIMING: &str = "server-timing";
/// The status that the function answered with, beside the result of a call that nobody waited for.
pub const FUNCTION_STATUS: &str = "x-alula-function-status";
/// The limit that a request ran into, as draft-ietf-httpapi-ratelimit-headers-10 has it.
pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
/// What is left of that limit.
pub const RATE_LIMIT: &str = "ratelimit";
/// The signature on what the platform sends to web addresses.
pub const SIGNATURE: &str = "x-alula-signature";
/// Sending a call with the same key again does not make it run again; for calls that nobody waits for.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The address that the result of a call is sent to that nobody waits for.
pub const CALLBACK_URL: &str = "x-callback-url";
/// Milliseconds before which a call that nobody waits for does not run.
pub const DELAY_MS: &str = "x-alula-delay-ms";
/// The moment before which a call that nobody waits for does not run, as RFC 3339 has it.
pub const AT: &str = "x-alula-at";
/// Calls of a function with the same key run one after another; for calls that nobody waits for.
pub const ORDERING_KEY: &str = "x-alula-ordering-key";

/// Bytes of log text in [`LOG_RESULT`], before base64: what the Lambda API gives too.
pub const LOG_RESULT_BYTES_MAX: usize = 4 * 1024;
