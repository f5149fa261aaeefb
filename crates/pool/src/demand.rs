//! The decision: does the line justify another instance?
//!
//! An instance is started where the wait would be longer than the start. The wait is estimated from what calls of
//! this version took lately, so a burst of very short calls on a warm instance is queued for microseconds rather
//! than answered with twenty processes, while slow calls grow the version at once. What cannot be estimated yet
//! counts as needed. Pure arithmetic, no state but some averages.

use std::time::Duration;

use alula_model::Tier;

/// How much of a new sample goes into an average: the last dozen calls decide.
const SAMPLE_WEIGHT: u32 = 8;
/// Calls are sent ahead of their turn as long as those before them take less than this together: above it, the pause
/// between two calls no longer matters, and another instance might be free first.
const AHEAD_WAIT_MAX: Duration = Duration::from_millis(1);
/// Most calls that lie behind the one that runs: enough for both sides to work on several before they change over.
const AHEAD_MAX: u32 = 7;
/// And only where none of the last calls took longer than this: who lies behind a long call waits for nothing.
const AHEAD_LONGEST_MAX: Duration = Duration::from_millis(25);
/// What a start from a zygote is expected to take before one has been measured.
const FORK_EXPECTED: Duration = Duration::from_millis(5);
/// How fast the longest call is forgotten: to half within about twenty calls.
const LONGEST_WEIGHT: u32 = 32;

/// What calls and starts of one version have taken lately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Observed {
    service: Option<Duration>,
    longest: Duration,
    start: Option<Duration>,
    /// The same for starts from a zygote of the version.
    fork: Option<Duration>,
}

/// The line and the instances at the moment of the decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// Calls in line.
    pub(crate) waiting: usize,
    /// How long the first of them has been waiting.
    pub(crate) longest_wait: Duration,
    /// Slots of the instances that are there, taken or not.
    pub(crate) slots: usize,
    /// Slots of the instances that are starting.
    pub(crate) slots_starting: usize,
    /// How long the latest of the calls has been running that the slots are taken by, at least; zero where one is free.
    pub(crate) running_for: Duration,
    /// What a start is expected to take.
    pub(crate) start: Duration,
}

impl Observed {
    pub(crate) fn call_took(&mut self, duration: Duration) {
        self.service = Some(average(self.service, duration));
        self.longest = duration.max(self.longest - self.longest / LONGEST_WEIGHT);
    }

    pub(crate) fn start_took(&mut self, tier: Tier, duration: Duration) {
        let of_its_kind = if tier == Tier::Zygote { &mut self.fork } else { &mut self.start };
        *of_its_kind = Some(average(*of_its_kind, duration));
    }

    /// Whether a call that has been running for so long takes longer than the last calls did, and not by a hair, so that
    /// nothing is known of its end.
    pub(crate) fn is_unusually_long(&self, running_for: Duration) -> bool {
        running_for > self.longest.max(AHEAD_WAIT_MAX)
    }

    /// How many calls may lie behind the one that runs: some where all are short, one like the other.
    pub(crate) fn ahead_max(&self) -> u32 {
        let Some(service) = self.service.filter(|_| self.longest <= AHEAD_LONGEST_MAX) else { return 0 };
        let fitting = AHEAD_WAIT_MAX.as_nanos() / service.as_nanos().max(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(AHEAD_MAX)
    }

    /// What starts without a zygote have taken lately; nothing before the first one.
    pub(crate) fn start_known(&self) -> Option<Duration> {
        self.start
    }

    /// What a start is expected to take where the version has no zygote.
    pub(crate) fn start_estimate(&self, default: Duration) -> Duration {
        self.start.unwrap_or(default)
    }

    /// What a start from a zygote of the version is expected to take.
    pub(crate) fn fork_estimate(&self) -> Duration {
        self.fork.unwrap_or(FORK_EXPECTED)
    }

    /// Whether another instance should be started now.
    pub(crate) fn wants_instance(&self, situation: Situation) -> bool {
        let Situation { waiting, longest_wait, slots, slots_starting, running_for, start } = situation;
        if waiting <= slots_starting {
            return false;
        }
        if slots == 0 || longest_wait >= start {
            return true;
        }
        // What takes longer than usual is expected to take as long again.
        if running_for > start && self.is_unusually_long(running_for) {
            return true;
        }
        let Some(service) = self.service else { return true };
        let rounds = u32::try_from(waiting.div_ceil(slots + slots_starting)).unwrap_or(u32::MAX);
        service.saturating_mul(rounds) > start
    }
}

fn average(before: Option<Duration>, sample: Duration) -> Duration {
    match before {
        Some(before) => (before * (SAMPLE_WEIGHT - 1) + sample) / SAMPLE_WEIGHT,
        None => sample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_millis(50);

    fn situation(waiting: usize, slots: usize, slots_starting: usize) -> Situation {
        let (longest_wait, running_for) = (Duration::ZERO, Duration::ZERO);
        Situation { waiting, longest_wait, slots, slots_starting, running_for, start: START }
    }

    #[test]
    fn a_cold_version_gets_as_many_as_the_line_needs_and_not_one_more() {
        let observed = Observed::default();
        assert!(observed.wants_instance(situation(1, 0, 0)));
        assert!(observed.wants_instance(situation(3, 0, 2)));
        assert!(!observed.wants_instance(situation(2, 0, 2)));
    }

    #[test]
    fn short_calls_queue_and_long_calls_grow() {
        let mut short = Observed::default();
        short.call_took(Duration::from_micros(100));
        assert!(!short.wants_instance(situation(64, 1, 0)));
        let mut long = Observed::default();
        long.call_took(Duration::from_millis(80));
        assert!(long.wants_instance(situation(1, 1, 0)));
    }

    #[test]
    fn calls_are_sent_ahead_only_where_all_are_short() {
        let mut observed = Observed::default();
        assert_eq!(observed.ahead_max(), 0, "nothing is known yet");
        observed.call_took(Duration::from_micros(300));
        assert_eq!(observed.ahead_max(), 3);
        (0..100).for_each(|_| observed.call_took(Duration::from_micros(10)));
        assert_eq!(observed.ahead_max(), AHEAD_MAX);
        observed.call_took(Duration::from_millis(100));
        (0..40).for_each(|_| observed.call_took(Duration::from_micros(100)));
        assert_eq!(observed.ahead_max(), 0, "the average is short, but one of them was not");
        (0..64).for_each(|_| observed.call_took(Duration::from_micros(100)));
        assert_eq!(observed.ahead_max(), AHEAD_MAX);
    }

    #[test]
    fn a_call_that_is_longer_than_a_start_and_than_all_before_is_not_waited_for() {
        let mut observed = Observed::default();
        observed.call_took(Duration::from_millis(1));
        let behind = |running_for| Situation { running_for, ..situation(1, 1, 0) };
        assert!(!observed.wants_instance(behind(START)), "it may end any moment");
        assert!(observed.wants_instance(behind(START + Duration::from_millis(1))));
        (0..100).for_each(|_| observed.call_took(Duration::from_millis(1)));
        observed.call_took(START * 3);
        assert!(!observed.wants_instance(behind(START * 2)), "one of the last took as long");
    }

    #[test]
    fn starts_from_a_zygote_are_an_average_of_their_own() {
        let mut observed = Observed::default();
        observed.start_took(Tier::Cold, Duration::from_secs(1));
        assert_eq!(observed.fork_estimate(), FORK_EXPECTED);
        observed.start_took(Tier::Zygote, Duration::from_millis(3));
        assert_eq!(observed.fork_estimate(), Duration::from_millis(3));
        assert_eq!(observed.start_estimate(START), Duration::from_secs(1));
    }

    #[test]
    fn a_wait_that_has_become_as_long_as_a_start_is_enough() {
        let mut observed = Observed::default();
        observed.call_took(Duration::from_micros(100));
        let stuck = Situation { longest_wait: START, ..situation(1, 1, 0) };
        assert!(observed.wants_instance(stuck));
    }
}
