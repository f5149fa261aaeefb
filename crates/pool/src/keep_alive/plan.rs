//! From what is known of an idle time to the spans that are worth their memory.
//!
//! The scale is cut into pieces; each has a chance that the call comes in it and a cost, which is the memory held for
//! those who are still idle then. Holding over a piece gains its chance less its cost, starting ahead costs a start, and
//! the best choice of spans is found by going through the pieces from the end.

use super::history::{Expected, History};
use super::population::Shares;
use super::scale::{BINS, STARTS_S};
use super::windows::{SPANS_MAX, Span, Windows};

/// Idle times of its own that the population is worth to a function.
const POPULATION_WEIGHT: f32 = 2.5;

/// What a start ahead costs, in cold starts: the same work, but nobody waits for it.
const AHEAD_COST: f32 = 0.1;

/// How far an idle time may be from those that were seen: the weights of its own bin and of those on either side, so
/// that a gap between a few observations is not taken for a time at which no call ever comes.
const KERNEL: [f32; 3] = [0.4, 0.2, 0.1];

/// The bins, and the most that a beat adds: two more pieces for each of the bins that it may lie in.
const PIECES_MAX: usize = BINS + 16;

/// A piece of the scale within which the chance of a call is the same everywhere.
#[derive(Clone, Copy, Default)]
struct Piece {
    from_s: f32,
    until_s: f32,
    /// Idle times that end in it.
    ending: f32,
    /// Idle times that are longer than its start.
    left: f32,
}

/// What the choice is bounded by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Cold starts avoided that a second of holding must be worth.
    pub(super) worth_min: f32,
    /// The first span is at least this long.
    pub(super) min_s: u32,
    /// No span is longer.
    pub(super) max_s: u32,
}

/// The spans that are worth it.
pub(super) fn choose(history: &History, shares: &Shares, terms: Terms) -> Windows {
    let mut pieces = Pieces { list: [Piece::default(); PIECES_MAX], count: 0, left: 0.0 };
    pieces.cut(history, shares);
    pieces.best_spans(terms)
}

struct Pieces {
    list: [Piece; PIECES_MAX],
    count: usize,
    left: f32,
}

impl Pieces {
    fn cut(&mut self, history: &History, shares: &Shares) {
        let expected = history.expected();
        self.left = f32::from(history.remembered()) + POPULATION_WEIGHT;
        let counts = history.counts();
        let smoothed = smoothed(counts, expected);
        for bin in 0..BINS {
            let others = shares[bin] * POPULATION_WEIGHT;
            let (start_s, end_s) = (STARTS_S[bin] as f32, STARTS_S[bin + 1] as f32);
            match expected.filter(|beat| beat.from_s < end_s && beat.until_s > start_s) {
                Some(beat) => self.cut_at(beat, (start_s, end_s), f32::from(counts[bin]), others),
                None => self.push(start_s, end_s, smoothed[bin] + others),
            }
        }
    }

    /// A bin in which a beat expects the call: there, and hardly anywhere else in the bin, the function's own are.
    fn cut_at(&mut self, beat: Expected, (start_s, end_s): (f32, f32), own: f32, others: f32) {
        let (from_s, until_s) = (beat.from_s.max(start_s), beat.until_s.min(end_s));
        let anywhere = (others + own * (1.0 - beat.share)) / (end_s - start_s);
        self.push(start_s, from_s, anywhere * (from_s - start_s));
        self.push(from_s, until_s, anywhere * (until_s - from_s) + own * beat.share);
        self.push(until_s, end_s, anywhere * (end_s - until_s));
    }

    fn push(&mut self, from_s: f32, until_s: f32, ending: f32) {
        if until_s > from_s
            && let Some(place) = self.list.get_mut(self.count)
        {
            *place = Piece { from_s, until_s, ending, left: self.left };
            self.left = (self.left - ending).max(0.0);
            self.count += 1;
        }
    }

    fn best_spans(&self, terms: Terms) -> Windows {
        let pieces = &self.list[..self.count];
        // From the end: the gain from here on where the instance is there before the piece, and where it is not.
        let (mut there, mut away) = (0.0_f32, 0.0_f32);
        let mut holds = [(false, false); PIECES_MAX];
        for (piece, hold) in pieces.iter().zip(&mut holds).rev() {
            // Who is called in the middle of the piece is held for half of it.
            let cost = terms.worth_min * (piece.until_s - piece.from_s) * (piece.left - piece.ending / 2.0);
            let held = piece.ending - cost + there;
            let started = held - AHEAD_COST * piece.left;
            *hold = (held > away, started > away);
            there = held.max(away);
            away = away.max(started);
        }
        let mut spans =
            Spans { windows: Windows::default(), current: Some(Span { from_s: 0, until_s: terms.min_s }) };
        for (piece, (if_there, if_away)) in pieces.iter().zip(holds) {
            let (from_s, until_s) = (piece.from_s as u32, whole(piece.until_s));
            spans.piece(from_s, until_s, if_there, if_away, terms.max_s);
        }
        spans.finish(terms.max_s)
    }
}

/// Rounded up. Not `ceil`, which calls a function on the oldest processors, and this is asked a hundred million times in a
/// simulation.
fn whole(seconds: f32) -> u32 {
    let down = seconds as u32;
    down + u32::from(seconds > down as f32)
}

/// Spans in the making.
struct Spans {
    windows: Windows,
    /// The span that the last piece was held in.
    current: Option<Span>,
}

impl Spans {
    fn piece(&mut self, from_s: u32, until_s: u32, if_there: bool, if_away: bool, max_s: u32) {
        match &mut self.current {
            Some(span) if from_s < span.until_s || if_there => {
                span.until_s = span.until_s.max(if if_there { until_s } else { 0 })
            }
            Some(_) => self.close(max_s),
            None if if_away && self.windows.spans().len() < SPANS_MAX => {
                self.current = Some(Span { from_s, until_s })
            }
            None => {}
        }
    }

    fn close(&mut self, max_s: u32) {
        if let Some(Span { from_s, until_s }) = self.current.take() {
            self.windows.push(Span { from_s, until_s: until_s.min(from_s.saturating_add(max_s)) });
        }
    }

    fn finish(mut self, max_s: u32) -> Windows {
        self.close(max_s);
        self.windows
    }
}

/// The counts with something of their neighbours' in each, the bins of a beat left out.
fn smoothed(counts: &[u8; BINS], expected: Option<Expected>) -> [f32; BINS] {
    let mut padded = [0.0_f32; BINS + 4];
    for (place, count) in padded[2..].iter_mut().zip(counts) {
        *place = f32::from(*count);
    }
    if let Some(beat) = expected {
        let on_beat =
            |bin: usize| beat.from_s < STARTS_S[bin + 1] as f32 && beat.until_s > STARTS_S[bin] as f32;
        (0..BINS).filter(|bin| on_beat(*bin)).for_each(|bin| padded[bin + 2] = 0.0);
    }
    let [own, next, second] = KERNEL;
    std::array::from_fn(|bin| {
        let near = &padded[bin..bin + 5];
        near[2] * own + (near[1] + near[3]) * next + (near[0] + near[4]) * second
    })
}
