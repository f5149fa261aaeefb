//! Arrivals as they are replayed: who was called how often in which minute.
//!
//! Read from CSV files of the shape of the public Azure Functions traces of 2019 (`csv`), or made by `generate`. Kept
//! by minute, so that a replay touches only functions that are called.

/// Seconds of one column of a trace.
pub(crate) const MINUTE_MS: u64 = 60_000;

/// Functions in one trace: ten times what the largest published trace has.
pub(crate) const FUNCTIONS_MAX: usize = 5_000_000;
/// Pairs of a function and a minute in one trace: eight bytes each.
pub(crate) const CALLED_MINUTES_MAX: usize = 1_000_000_000;
/// Longest trace: what the scale of idle times spans, and the moments of a replay fit into 32 bits.
pub(crate) const MINUTES_MAX: usize = 30 * 24 * 60;

/// Memory of a function that no file tells: the median of the published trace.
pub(crate) const MEMORY_MB_DEFAULT: f32 = 170.0;
/// Duration of a call that no file tells: the median of the published trace.
pub(crate) const DURATION_MS_DEFAULT: f32 = 600.0;

/// What is known of a function besides its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traits {
    /// Memory of an instance, in megabytes.
    pub memory_mb: f32,
    /// How long a call takes, in milliseconds.
    pub duration_ms: f32,
}

impl Default for Traits {
    fn default() -> Self {
        Self { memory_mb: MEMORY_MB_DEFAULT, duration_ms: DURATION_MS_DEFAULT }
    }
}

/// A function was called in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) function: u32,
    pub(crate) times: u32,
}

/// Arrivals of many functions over some time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    pub(crate) functions: Vec<Traits>,
    /// For every minute who was called.
    pub(crate) minutes: Vec<Vec<Called>>,
}

impl Trace {
    /// Functions in it, called or not.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Its length in minutes.
    #[must_use]
    pub fn minutes(&self) -> usize {
        self.minutes.len()
    }

    /// Calls in it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.minutes.iter().flatten().map(|called| u64::from(called.times)).sum()
    }

    /// Every so-manyth function of it.
    pub(crate) fn sample(&self, every: usize) -> Self {
        let step = u32::try_from(every.max(1)).unwrap_or(u32::MAX);
        let functions = self.functions.iter().step_by(every.max(1)).copied().collect();
        let taken = |called: &&Called| called.function.is_multiple_of(step);
        let minute = |minute: &Vec<Called>| {
            let of_sample = |called: &Called| Called { function: called.function / step, ..*called };
            minute.iter().filter(taken).map(of_sample).collect()
        };
        Self { functions, minutes: self.minutes.iter().map(minute).collect() }
    }

    /// Adds calls; who is called how often is told minute by minute, in any order of functions.
    pub(crate) fn add(&mut self, minute: usize, function: u32, times: u32) {
        if times == 0 {
            return;
        }
        if minute >= self.minutes.len() {
            self.minutes.resize_with(minute + 1, Vec::new);
        }
        self.minutes[minute].push(Called { function, times });
    }
}
