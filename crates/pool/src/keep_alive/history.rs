//! What one function's past says: how long it was idle between calls, and whether there is a beat in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::population::Like;
use super::scale::{BINS, bin_of};

/// Idle times that are remembered before all counts are halved, so that old habits fade.
const REMEMBERED_MAX: u16 = 240;

/// Weight of a new idle time in the usual one.
const USUAL_WEIGHT: f32 = 0.2;

/// How far an idle time may be from the beat and still belong to it, as a share of the beat.
const BEAT_TOLERANCE: f32 = 0.1;
/// Deviations around the beat that are expected; three cover nearly all of a bell curve.
const BEAT_DEVIATIONS: f32 = 3.0;
/// Least width of the expected interval on each side, as a share of the beat: clocks of timers drift.
const BEAT_MARGIN: f32 = 0.005;
/// Least width of the expected interval on each side, in seconds: a timer's call is not started on the dot.
const BEAT_MARGIN_S: f32 = 1.0;
/// Idle times on the beat before it is believed.
const BEAT_HITS_MIN: u8 = 2;
/// Idle times on the beat that count: a beat that has stopped is forgotten after four misses.
const BEAT_HITS_MAX: u8 = 15;
/// Weight of a new idle time in the beat's averages.
const BEAT_WEIGHT: f32 = 0.25;

/// The idle times of one function. A hundred bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    counts: [u8; BINS],
    total: u16,
    /// The newest idle time and the usual one, as bins.
    recent: Option<Recent>,
    beat: Beat,
}

/// How long a function was idle lately, as bins.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Recent {
    last: u8,
    usual: f32,
}

/// A period that idle times keep to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Beat {
    period_s: f32,
    deviation_s: f32,
    hits: u8,
}

/// The interval of idle times in which a beat expects the next call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    pub(crate) from_s: f32,
    pub(crate) until_s: f32,
    /// Share of the idle times near the beat that are on it.
    pub(crate) share: f32,
}

/// A history as it is written down: the occupied bins, and what else it knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    counts: Vec<(u8, u8)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u8>,
    #[serde(default)]
    usual: f32,
    #[serde(default)]
    period_s: f32,
    #[serde(default)]
    deviation_s: f32,
    #[serde(default)]
    hits: u8,
}

impl From<&History> for HistoryRecord {
    fn from(history: &History) -> Self {
        let occupied = history.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            counts: occupied.filter_map(|(bin, count)| Some((u8::try_from(bin).ok()?, *count))).collect(),
            last: history.recent.map(|recent| recent.last),
            usual: history.recent.map_or(0.0, |recent| recent.usual),
            period_s: history.beat.period_s,
            deviation_s: history.beat.deviation_s,
            hits: history.beat.hits,
        }
    }
}

/// What is out of bounds in a record is left out.
impl From<&HistoryRecord> for History {
    fn from(record: &HistoryRecord) -> Self {
        let mut history = Self::default();
        for (bin, count) in record.counts.iter().filter(|(bin, _)| usize::from(*bin) < BINS) {
            history.add((*bin).into(), *count);
        }
        let last = record.last.filter(|bin| usize::from(*bin) < BINS);
        let usual = record.usual.clamp(0.0, (BINS - 1) as f32);
        history.recent = last.map(|last| Recent { last, usual });
        let (period_s, deviation_s) = (record.period_s, record.deviation_s);
        if period_s.is_finite() && deviation_s.is_finite() && period_s > 0.0 && deviation_s >= 0.0 {
            history.beat = Beat { period_s, deviation_s, hits: record.hits.min(BEAT_HITS_MAX) };
        }
        history
    }
}

impl Default for History {
    fn default() -> Self {
        Self { counts: [0; BINS], total: 0, recent: None, beat: Beat::default() }
    }
}

impl History {
    /// A call came after the function had been idle for `idle`.
    pub fn record(&mut self, idle: Duration) {
        let bin = bin_of(idle);
        self.add(bin, 1);
        let last = u8::try_from(bin).unwrap_or(u8::MAX);
        let usual = self
            .recent
            .map_or(f32::from(last), |recent| recent.usual + (f32::from(last) - recent.usual) * USUAL_WEIGHT);
        self.recent = Some(Recent { last, usual });
        self.beat.record(idle.as_secs_f32());
    }

    /// Idle times that are remembered.
    #[must_use]
    pub fn remembered(&self) -> u16 {
        self.total
    }

    /// The period that the function is called in, if there is one.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        self.beat.is_believed().then(|| Duration::from_secs_f32(self.beat.period_s.max(0.0)))
    }

    /// Which functions this one is like now.
    pub(crate) fn like(&self) -> Like {
        self.recent.map_or(Like::NEW, |Recent { last, usual }| Like::new(usual as u8, last))
    }

    pub(crate) fn counts(&self) -> &[u8; BINS] {
        &self.counts
    }

    pub(crate) fn expected(&self) -> Option<Expected> {
        self.beat.is_believed().then(|| self.beat.expected())
    }

    fn add(&mut self, bin: usize, count: u8) {
        self.counts[bin] = self.counts[bin].saturating_add(count);
        self.total += u16::from(count);
        if self.total >= REMEMBERED_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u16::from(*count)).sum();
        }
    }
}

impl Beat {
    fn record(&mut self, idle_s: f32) {
        let off = idle_s - self.period_s;
        if self.hits > 0 && off.abs() <= self.period_s * BEAT_TOLERANCE {
            self.period_s += off * BEAT_WEIGHT;
            self.deviation_s += (off.abs() - self.deviation_s) * BEAT_WEIGHT;
            self.hits = (self.hits + 1).min(BEAT_HITS_MAX);
        } else if self.hits > 1 {
            self.hits /= 2;
        } else {
            *self = Self { period_s: idle_s, deviation_s: 0.0, hits: 1 };
        }
    }

    fn is_believed(self) -> bool {
        self.hits >= BEAT_HITS_MIN
    }

    fn expected(self) -> Expected {
        let margin = (self.deviation_s * BEAT_DEVIATIONS).max(self.period_s * BEAT_MARGIN).max(BEAT_MARGIN_S);
        let hits = f32::from(self.hits);
        Expected {
            from_s: (self.period_s - margin).max(0.0),
            until_s: self.period_s + margin,
            share: hits / (hits + 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(idles_s: &[u64]) -> History {
        let mut history = History::default();
        idles_s.iter().for_each(|idle| history.record(Duration::from_secs(*idle)));
        history
    }

    #[test]
    fn a_timer_has_a_beat_and_chance_has_none() {
        assert_eq!(after(&[900, 900]).period(), Some(Duration::from_secs(900)));
        assert_eq!(after(&[900]).period(), None);
        assert_eq!(after(&[10, 500, 77, 3_000, 20, 900]).period(), None);
    }

    #[test]
    fn a_beat_survives_a_miss_and_follows_a_new_period() {
        let mut idles = vec![300; 8];
        idles.push(1_000);
        assert!(after(&idles).period().is_some());
        idles.extend([3_600; 8]);
        assert_eq!(after(&idles).period(), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn old_habits_fade() {
        let mut idles = vec![60; 500];
        idles.extend([7_200; 200]);
        let history = after(&idles);
        let often = |idle_s| history.counts[bin_of(Duration::from_secs(idle_s))];
        assert!(often(7_200) > often(60), "{} and {}", often(7_200), often(60));
        assert!(history.remembered() < REMEMBERED_MAX);
    }

    #[test]
    fn a_record_brings_everything_back() {
        let history = after(&[60, 900, 900, 900, 12, 7_200, 900]);
        assert_eq!(History::from(&HistoryRecord::from(&history)), history);
    }

    #[test]
    fn a_history_is_small() {
        assert!(std::mem::size_of::<History>() <= 100);
    }
}
