//! Every limit that belongs to a function or to a name, with its default, its bounds and the reason.
//!
//! Limits of one component (queue lengths, pool sizes of the node) are constants of that component.

use crate::decimal::Decimal;

/// Longest name: a DNS label (RFC 1123), so that a name can become a host name.
pub const NAME_LEN_MAX: usize = 63;

/// Longest invocation id that is taken from a caller: room for a UUID with a prefix.
pub const INVOCATION_ID_LEN_MAX: usize = 128;

/// Memory of an instance where the spec names none: enough for Python or Node with a few libraries.
pub const MEMORY_MB_DEFAULT: u32 = 256;
/// Smallest memory: below this an interpreter does not start.
pub const MEMORY_MB_MIN: u32 = 16;
/// Largest memory that a spec may name: a guard against a slip of the finger, not a promise of hardware.
pub const MEMORY_MB_MAX: u32 = 262_144;

/// Time one attempt may take where the spec names none.
pub const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Longest time an attempt may take: one day, since a call may be a long job.
pub const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Time from the start of an instance to its readiness where the spec names none (Lambda gives 10 s).
pub const INIT_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Longest initialisation a spec may ask for.
pub const INIT_TIMEOUT_MS_MAX: u64 = 900_000;

/// Request body that is gathered for a handler that takes it whole (the limit of Lambda's synchronous calls).
pub const REQUEST_BYTES_DEFAULT: u64 = 6 * 1024 * 1024;
/// Response body of a handler that returns it whole.
pub const RESPONSE_BYTES_DEFAULT: u64 = 6 * 1024 * 1024;
/// Largest buffered body a spec may ask for: beyond this, stream.
pub const BUFFERED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Calls at once in one instance where the spec names none: handlers are not assumed to be re-entrant.
pub const CONCURRENCY_DEFAULT: u32 = 1;
/// Most calls at once in one instance.
pub const CONCURRENCY_MAX: u32 = 1_000;

/// Calls of one WebAssembly guest where the spec names none: each call has memory of its own.
pub const CALLS_PER_GUEST_DEFAULT: u32 = 1;
/// Most calls of one guest: memory that guests lose comes back some time.
pub const CALLS_PER_GUEST_MAX: u32 = 1_000_000;

/// Instances of one version on one node where the spec names none.
pub const INSTANCES_DEFAULT: u32 = 20;
/// Most instances of one version that a spec may ask for.
pub const INSTANCES_MAX: u32 = 10_000;

/// Smallest percentage that an objective may ask for: below it, failing is the rule.
pub const SLO_TARGET_MIN: Decimal = Decimal::whole(50);
/// Largest: beyond it the budget of a month is less than one call of most functions.
pub const SLO_TARGET_MAX: Decimal = Decimal::millionths(99_999_000);
/// Days of an objective where the spec names none: four whole weeks.
pub const SLO_WINDOW_DAYS_DEFAULT: u32 = 28;
/// Most days of an objective: hours of so many days are held in memory.
pub const SLO_WINDOW_DAYS_MAX: u32 = 30;
/// Rules of alarms, contacts and switched-off rules of one function, of each at most so many.
pub const ALARM_RULES_MAX: usize = 20;
/// Longest time that a rule may wait before an alarm is raised or resolved: a day.
pub const ALARM_FOR_MS_MAX: u64 = 86_400_000;

/// `/tmp` of an instance where the spec names none: this part of its memory, since what lies there counts as memory.
pub const TMP_MEMORY_PART: u32 = 4;
/// The least of that, in megabytes; it is only taken as far as it is used.
pub const TMP_MB_LEAST: u32 = 64;
/// The most of that: who needs more says so.
pub const TMP_MB_MOST: u32 = 2_048;
/// Processes and threads of an instance where the spec names none are one for every megabyte of its memory, within these
/// bounds: a language's own threads need some dozens, and a fork bomb must stay small.
pub const PROCESSES_LEAST: u32 = 64;
/// The most of that.
pub const PROCESSES_MOST: u32 = 4_096;
/// Most processes that a spec may name: the kernel's usual number of processes.
pub const PROCESSES_STATED_MAX: u32 = 32_768;
/// CPU weight of an instance with the usual memory.
pub const CPU_WEIGHT_USUAL: u32 = 100;
/// Largest CPU weight: the end of the kernel's scale.
pub const CPU_WEIGHT_MAX: u32 = 10_000;

/// Environment variables of one function, names and values together (the limit of Lambda is 4 KB; ours is the
/// kernel's comfortable share of `ARG_MAX`).
pub const ENV_BYTES_MAX: usize = 128 * 1024;

/// Secrets of one function: more variables than a program reads.
pub const SECRETS_MAX: usize = 64;
/// Longest name of a secret, in characters: what a variable is called.
pub const SECRET_NAME_LEN_MAX: usize = 64;

/// Longest description of a function, in characters.
pub const DESCRIPTION_LEN_MAX: usize = 1_000;

/// Routes of one function.
pub const ROUTES_MAX: usize = 100;

/// Versions that are kept of one function besides those that an alias or `latest` names.
pub const VERSIONS_KEPT: usize = 50;

/// Age at which an asynchronous call is given up where nothing else is stated: six hours.
pub const MAX_AGE_MS_DEFAULT: u64 = 6 * 3_600_000;
/// Share of the queue's work where nothing is stated.
pub const ASYNC_WEIGHT_DEFAULT: u32 = 10;
/// Largest share: a hundred times the usual one.
pub const ASYNC_WEIGHT_MAX: u32 = 1_000;
/// Most calls of one function that run from the queue at once.
pub const ASYNC_CONCURRENCY_MAX: u32 = 10_000;
/// How long the result of an asynchronous call is kept where nothing is stated: a day.
pub const RESULT_KEEP_MS_DEFAULT: u64 = 86_400_000;
/// The longest that may be stated: thirty days.
pub const RESULT_KEEP_MS_MAX: u64 = 30 * 86_400_000;
/// Destinations of one kind, and contacts, of a function.
pub const DESTINATIONS_MAX: usize = 10;
/// The same function in one chain of calls, beyond which the chain is taken for a loop (the number that Lambda uses).
pub const LOOP_REPEATS_MAX: u32 = 16;
/// The most that an owner may allow.
pub const LOOP_ALLOW_MAX: u32 = 100_000;
/// Depth of a chain of calls, whatever functions it goes through.
pub const LINEAGE_DEPTH_MAX: u32 = 64;

/// Triggers of one function.
pub const TRIGGERS_MAX: usize = 100;
/// Longest payload that a trigger states, in bytes.
pub const TRIGGER_PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Most requests a second that a limit may state: beyond it there is no limit to speak of.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;
/// Largest burst of a limit.
pub const BURST_MAX: u32 = 1_000_000;
/// Most requests in flight that a limit may state.
pub const IN_FLIGHT_MAX: u32 = 1_000_000;
/// Network rules of one function or one ceiling.
pub const NETWORK_RULES_MAX: usize = 100;
/// Longest name of a host, in characters (RFC 1035).
pub const HOST_LEN_MAX: usize = 253;
/// Longest label of such a name.
pub const LABEL_LEN_MAX: usize = 63;
