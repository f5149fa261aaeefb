//! Tallies of equal spans of time, the last so many of them. Spans in which nothing happened take no memory.

use std::collections::VecDeque;

use super::tally::Tally;

/// The last spans.
#[derive(Debug)]
pub(super) struct Ring {
    span_ms: i64,
    spans_max: i64,
    spans: VecDeque<(i64, Tally)>,
}

impl Ring {
    /// Spans of `span_ms`, of which the open one and `spans_max` before it are kept.
    pub(super) const fn new(span_ms: i64, spans_max: i64) -> Self {
        Self { span_ms, spans_max, spans: VecDeque::new() }
    }

    /// Adds to the span of `now_ms`; where the clock went back, to the last one.
    pub(super) fn add(&mut self, now_ms: i64, tally: &Tally, add: fn(&mut Tally, &Tally)) {
        let index = now_ms.div_euclid(self.span_ms);
        match self.spans.back_mut() {
            Some((last, open)) if *last >= index => add(open, tally),
            _ => {
                let mut open = Tally::default();
                add(&mut open, tally);
                self.spans.push_back((index, open));
            }
        }
        while self.spans.front().is_some_and(|(first, _)| *first < index - self.spans_max) {
            self.spans.pop_front();
        }
    }

    /// Adds to a span that may be before others.
    pub(super) fn add_at(&mut self, at_ms: i64, tally: &Tally) {
        let index = at_ms.div_euclid(self.span_ms);
        match self.spans.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(place) => self.spans[place].1.add_ends(tally),
            Err(place) => self.spans.insert(place, (index, tally.clone())),
        }
    }

    /// What was counted in the open span and the `spans` before it.
    pub(super) fn sum(&self, now_ms: i64, spans: i64, add: fn(&mut Tally, &Tally)) -> Tally {
        let from = now_ms.div_euclid(self.span_ms) - spans;
        let mut sum = Tally::default();
        for (_, tally) in self.spans.iter().rev().take_while(|(index, _)| *index >= from) {
            add(&mut sum, tally);
        }
        sum
    }

    /// The index of the last span in which anything happened.
    pub(super) fn last_ms(&self) -> Option<i64> {
        self.spans.back().map(|(index, _)| index * self.span_ms)
    }
}
