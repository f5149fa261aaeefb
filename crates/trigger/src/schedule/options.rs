//! The settings of schedules, each with its default and the reason for it.

/// Age from which a slot counts as missed rather than late: a restart of the platform takes less, an outage more.
const MISSED_AFTER_MS: i64 = 10_000;
/// How long before its slot an instance is asked for: longer than the pool wants for versions it knows nothing of.
const LOOK_AHEAD_MS: i64 = 20_000;
/// Instances that are asked for ahead at once; slots beyond are not looked ahead for.
const LOOK_AHEAD_MAX: usize = 1_024;
/// Admissions on their way at once: enough for the store to commit many together.
const ADMITTING_MAX: usize = 512;

/// Settings of schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Age from which a slot counts as missed, in milliseconds; up to then it runs late.
    pub missed_after_ms: i64,
    /// How long before its slot an instance is asked for, in milliseconds.
    pub look_ahead_ms: i64,
    /// Instances that are asked for ahead at once.
    pub look_ahead_max: usize,
    /// Admissions on their way at once.
    pub admitting_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            missed_after_ms: MISSED_AFTER_MS,
            look_ahead_ms: LOOK_AHEAD_MS,
            look_ahead_max: LOOK_AHEAD_MAX,
            admitting_max: ADMITTING_MAX,
        }
    }
}
