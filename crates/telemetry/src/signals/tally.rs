//! What was counted over a span of time: how calls ended, and how long the answered ones took.

/// How a call ended, by who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// It was answered well.
    Good,
    /// The caller: the request was wrong, was answered 4xx, or its caller went away.
    Caller,
    /// A limit: it was answered 429.
    Throttled,
    /// The function: it failed, or answered 5xx by itself.
    Function,
    /// The platform.
    Platform,
}

/// How many ends there are.
pub(super) const ENDS: usize = 5;
/// Bins of durations: four to an octave, so that a quantile is out by a tenth at the most.
pub(super) const BINS: usize = 105;
/// Durations below 2 to this power, in microseconds, share the first bin: faster than a call can be.
const FIRST_OCTAVE: u32 = 5;
/// Bins to an octave, as a power of two.
const OCTAVE_BITS: u32 = 2;

/// What was counted over a span of time. It takes the memory of the bins that were hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) ends: [u64; ENDS],
    /// Answered calls that took longer than the function's objective allows.
    pub(super) slow: u64,
    pub(super) answered_us: u64,
    /// Bins of the durations of answered calls that were hit, by their number.
    pub(super) bins: Vec<(u8, u32)>,
}

/// The bin of a duration.
pub(super) fn bin_of(us: u64) -> usize {
    let octave = us.max(1).ilog2();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let within = (us >> (octave - OCTAVE_BITS)) & ((1 << OCTAVE_BITS) - 1);
    let bin = 1 + u64::from((octave - FIRST_OCTAVE) << OCTAVE_BITS) + within;
    usize::try_from(bin).unwrap_or(BINS).min(BINS - 1)
}

/// The shortest duration of a bin, in microseconds.
fn floor_of(bin: usize) -> u64 {
    let Some(above) = bin.checked_sub(1) else { return 0 };
    let (octave, within) = (above >> OCTAVE_BITS, above & ((1 << OCTAVE_BITS) - 1));
    ((1 << OCTAVE_BITS) + within as u64) << (octave + (FIRST_OCTAVE - OCTAVE_BITS) as usize)
}

impl Tally {
    /// Calls that ended so.
    #[must_use]
    pub const fn ended(&self, end: End) -> u64 {
        self.ends[end as usize]
    }

    /// Calls that ended.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// Calls that say something about function and platform: all but those that went wrong by their callers' fault.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.ended(End::Good) + self.ended(End::Function) + self.ended(End::Platform)
    }

    /// The part of the judged calls that succeeded; `None` where there were none.
    #[must_use]
    pub fn success(&self) -> Option<f64> {
        share(self.ended(End::Good), self.judged())
    }

    /// The part of all calls that ended so; `None` where there were none.
    #[must_use]
    pub fn share(&self, end: End) -> Option<f64> {
        share(self.ended(end), self.calls())
    }

    /// The time in which the part `part` (0 to 1) of the answered calls was answered, in microseconds; `None` where none
    /// was.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and far below 2^52"
    )]
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let count: u64 = self.bins.iter().map(|(_, count)| u64::from(*count)).sum();
        let wanted = part * count as f64;
        let mut below = 0.0;
        for &(bin, count) in &self.bins {
            let (count, bin) = (f64::from(count), usize::from(bin));
            if below + count >= wanted {
                let (low, high) = (floor_of(bin) as f64, floor_of(bin + 1) as f64);
                return Some((low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0)) as u64);
            }
            below += count;
        }
        None
    }

    /// The mean time of the answered calls, in microseconds.
    #[must_use]
    pub fn mean_us(&self) -> Option<u64> {
        let answered: u64 = self.bins.iter().map(|(_, count)| u64::from(*count)).sum();
        self.answered_us.checked_div(answered)
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        self.add_ends(other);
        self.answered_us += other.answered_us;
        let mut merged = Vec::with_capacity(self.bins.len().max(other.bins.len()));
        let (mut ours, mut theirs) =
            (self.bins.iter().copied().peekable(), other.bins.iter().copied().peekable());
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) if a == b => {
                    let (bin, count) = ours.next().unwrap_or_default();
                    let (_, more) = theirs.next().unwrap_or_default();
                    (bin, count.saturating_add(more))
                }
                (Some((a, _)), Some((b, _))) if a < b => ours.next().unwrap_or_default(),
                (Some(_), None) => ours.next().unwrap_or_default(),
                (_, Some(_)) => theirs.next().unwrap_or_default(),
                (None, None) => break,
            };
            merged.push(next);
        }
        self.bins = merged;
    }

    /// The same without the durations.
    pub(super) fn add_ends(&mut self, other: &Self) {
        for (ours, theirs) in self.ends.iter_mut().zip(other.ends) {
            *ours += theirs;
        }
        self.slow += other.slow;
    }

    /// What objectives are about.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept { judged: self.judged(), failed: self.judged() - self.ended(End::Good), slow: self.slow }
    }
}

/// What an objective is about: judged calls, and those that broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Calls that succeeded or failed by function or platform.
    pub judged: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that succeeded too slowly.
    pub slow: u64,
}

impl std::ops::AddAssign for Kept {
    fn add_assign(&mut self, other: Self) {
        self.judged += other.judged;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_follow_each_other_without_a_gap() {
        assert_eq!(floor_of(0), 0);
        for bin in 1..BINS - 1 {
            assert_eq!(bin_of(floor_of(bin)), bin, "the first of bin {bin}");
            assert_eq!(bin_of(floor_of(bin + 1) - 1), bin, "the last of bin {bin}");
        }
        assert_eq!(bin_of(u64::MAX), BINS - 1);
        assert!(floor_of(BINS - 1) > 900_000_000, "a quarter of an hour has a bin of its own");
    }

    fn of(durations: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for us in durations {
            let one = Tally {
                bins: vec![(u8::try_from(bin_of(*us)).unwrap(), 1)],
                answered_us: *us,
                ..Tally::default()
            };
            tally.add(&one);
        }
        tally
    }

    #[test]
    fn quantiles_are_out_by_a_tenth_at_the_most() {
        let durations: Vec<u64> = (1..=1_000).map(|n| n * 1_000).collect();
        let tally = of(&durations);
        for (part, exact) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let found = tally.quantile_us(part).unwrap() as f64;
            assert!((found / exact - 1.0).abs() < 0.1, "{part}: {found} instead of {exact}");
        }
        assert_eq!(tally.mean_us(), Some(500_500));
        assert_eq!(Tally::default().quantile_us(0.5), None);
        assert_eq!(Tally::default().success(), None);
    }

    #[test]
    fn callers_faults_do_not_spoil_the_success() {
        let tally = Tally { ends: [90, 500, 500, 6, 4], ..Tally::default() };
        assert_eq!(tally.success(), Some(0.9));
        assert_eq!(tally.kept(), Kept { judged: 100, failed: 10, slow: 0 });
        assert_eq!(tally.share(End::Function), Some(6.0 / 1_100.0));
    }
}
