//! What all functions of a node have in common: how long functions stay idle that were idle like this before.
//!
//! It is what is known of a function that has been called once or twice, and steadies what is known of the others. For
//! every pair of how long a function was idle last and how long it usually is there is a row of how long it was the next
//! time; idle times that have not ended yet count as longer than all that have. A row with little in it leans on the
//! row of the usual idle time alone, that on what is known of all functions, and that on a law with a heavy tail.

use super::scale::{BINS, STARTS_S};

/// Idle times that the law below is worth against what was seen.
const LAW_WEIGHT: f32 = 20.0;
/// Idle times that a wider row is worth against what was seen in a narrower one.
const WIDER_WEIGHT: f32 = 10.0;
/// Idle times in a row before its counts are halved.
const ROW_MAX: u32 = 1 << 20;

/// Half of the idle times are said to be longer than a minute, a fifth longer than an hour.
const LAW_SCALE_S: f32 = 6.0;
/// How fast longer idle times get rarer.
const LAW_EXPONENT: f32 = 0.25;

/// Steps of the scale that rows tell apart: one for every doubling, and one for functions that were called once.
const LEVELS: usize = BINS / 4 + 1;

/// For each bin the share of idle times that end in it; what is missing to one never ends.
pub(crate) type Shares = [f32; BINS];

/// Which functions a function is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Like {
    usual: u8,
    last: u8,
}

impl Like {
    /// Like functions that were called once.
    pub(crate) const NEW: Self = Self { usual: (LEVELS - 1) as u8, last: (LEVELS - 1) as u8 };

    /// Like functions that are usually idle for as long as `usual`, a bin, and were for as long as `last`.
    pub(crate) fn new(usual: u8, last: u8) -> Self {
        let level = |bin: u8| (bin / 4).min((LEVELS - 2) as u8);
        Self { usual: level(usual), last: level(last) }
    }

    /// The step of the scale that the last idle time is in.
    pub(crate) fn level(self) -> usize {
        self.last.into()
    }

    fn row(self) -> usize {
        usize::from(self.usual) * LEVELS + usize::from(self.last)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Population {
    rows: Vec<Row>,
    usual: Vec<Row>,
    all: Row,
}

#[derive(Debug, Clone)]
struct Row {
    begun: u32,
    ended: [u32; BINS],
    shares: Shares,
    /// When the shares are computed anew: they change little with every further idle time.
    refresh_at: u32,
}

impl Default for Population {
    fn default() -> Self {
        let row = Row { begun: 0, ended: [0; BINS], shares: law(), refresh_at: 1 };
        Self { rows: vec![row.clone(); LEVELS * LEVELS], usual: vec![row.clone(); LEVELS], all: row }
    }
}

impl Population {
    /// A function like this has become idle.
    pub(crate) fn begun(&mut self, like: Like) {
        let Self { rows, usual, all } = self;
        let (row, usual) = (&mut rows[like.row()], &mut usual[usize::from(like.usual)]);
        if all.begun() {
            all.refresh(&law(), LAW_WEIGHT);
        }
        if usual.begun() {
            usual.refresh(&all.shares, WIDER_WEIGHT);
        }
        if row.begun() {
            row.refresh(&usual.shares, WIDER_WEIGHT);
        }
    }

    /// The idle time of a function like this ended in `bin`.
    pub(crate) fn ended(&mut self, like: Like, bin: usize) {
        self.all.ended[bin] += 1;
        self.usual[usize::from(like.usual)].ended[bin] += 1;
        self.rows[like.row()].ended[bin] += 1;
    }

    /// How idle times of functions like this end.
    pub(crate) fn shares(&self, like: Like) -> &Shares {
        &self.rows[like.row()].shares
    }
}

impl Row {
    /// Counts an idle time; true where the shares are to be computed anew.
    fn begun(&mut self) -> bool {
        self.begun += 1;
        self.begun >= self.refresh_at
    }

    fn refresh(&mut self, wider: &Shares, weight: f32) {
        if self.begun >= ROW_MAX {
            self.begun /= 2;
            self.ended.iter_mut().for_each(|count| *count /= 2);
        }
        let all = self.begun as f32 + weight;
        for ((share, ended), wider) in self.shares.iter_mut().zip(self.ended).zip(wider) {
            *share = (ended as f32 + weight * wider) / all;
        }
        self.refresh_at = self.begun + 1 + self.begun / 16;
    }
}

/// A Lomax law: the share of idle times longer than t is (1 + t / scale) ^ -exponent.
fn law() -> Shares {
    let longer = |start_s: u32| (1.0 + start_s as f32 / LAW_SCALE_S).powf(-LAW_EXPONENT);
    std::array::from_fn(|bin| longer(STARTS_S[bin]) - longer(STARTS_S[bin + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_anything_is_seen_a_heavy_tail_is_assumed() {
        let population = Population::default();
        let shares = population.shares(Like::NEW);
        assert!(shares.iter().all(|share| *share > 0.0));
        let sum: f32 = shares.iter().sum();
        assert!(sum > 0.9 && sum < 1.0, "{sum}");
    }

    #[test]
    fn what_is_seen_in_a_row_prevails_there() {
        let mut population = Population::default();
        let (often, other) = (Like::new(30, 30), Like::new(5, 5));
        for _ in 0..1_000 {
            population.begun(often);
            population.ended(often, 30);
        }
        assert!(population.shares(often)[30] > 0.95);
        assert!(population.shares(other)[30] < 0.9);
    }

    #[test]
    fn idle_times_that_never_end_lower_every_share() {
        let mut population = Population::default();
        (0..1_000).for_each(|_| population.begun(Like::NEW));
        assert!(population.shares(Like::NEW).iter().sum::<f32>() < 0.1);
    }
}
