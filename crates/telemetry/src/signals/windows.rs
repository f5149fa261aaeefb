//! The windows of one subject: what happened in the last minute, five minutes, hour and day.
//!
//! A window is the open span and the closed ones before it, so it may be longer than its name by one span: 5 seconds for a
//! minute, one minute for five and for an hour, an hour for a day.

use alula_model::alarm::Window;

use super::ring::Ring;
use super::tally::{Kept, Tally};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Spans of a minute, for the shortest window.
const SHORT_SPANS: i64 = 12;
/// Hours of the longest objective.
const OBJECTIVE_HOURS: i64 = alula_model::limits::SLO_WINDOW_DAYS_MAX as i64 * 24;

/// What is kept of one subject.
#[derive(Debug)]
pub(super) struct Windows {
    short: Ring,
    minutes: Ring,
    hours: Ring,
    objective: Option<Box<Objective>>,
}

/// Counts without durations for the windows that only objectives look at.
#[derive(Debug)]
struct Objective {
    tens: Ring,
    hours: Ring,
}

/// A span that burn rates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Whole minutes, 60 at the most.
    Minutes(u32),
    /// Whole hours.
    Hours(u32),
}

impl Windows {
    pub(super) const fn new() -> Self {
        Self {
            short: Ring::new(5 * SECOND_MS, SHORT_SPANS),
            minutes: Ring::new(MINUTE_MS, 60),
            hours: Ring::new(HOUR_MS, 24),
            objective: None,
        }
    }

    pub(super) fn add(&mut self, now_ms: i64, tally: &Tally) {
        for ring in [&mut self.short, &mut self.minutes, &mut self.hours] {
            ring.add(now_ms, tally, Tally::add);
        }
        if let Some(objective) = &mut self.objective {
            objective.tens.add(now_ms, tally, Tally::add_ends);
            objective.hours.add(now_ms, tally, Tally::add_ends);
        }
    }

    pub(super) fn over(&self, now_ms: i64, window: Window) -> Tally {
        let (ring, spans) = match window {
            Window::Minute => (&self.short, SHORT_SPANS),
            Window::FiveMinutes => (&self.minutes, 5),
            Window::Hour => (&self.minutes, 60),
            Window::Day => (&self.hours, 24),
        };
        ring.sum(now_ms, spans, Tally::add)
    }

    /// Keeps from now on what objectives look at.
    pub(super) fn keep_objective(&mut self) {
        let rings = || {
            Box::new(Objective {
                tens: Ring::new(10 * MINUTE_MS, 36),
                hours: Ring::new(HOUR_MS, OBJECTIVE_HOURS),
            })
        };
        self.objective.get_or_insert_with(rings);
    }

    /// Adds what an earlier process has counted in the hour of `at_ms`.
    pub(super) fn remember(&mut self, at_ms: i64, kept: Kept) {
        self.keep_objective();
        let good = kept.judged.saturating_sub(kept.failed);
        let tally = Tally { ends: [good, 0, 0, kept.failed, 0], slow: kept.slow, ..Tally::default() };
        if let Some(objective) = &mut self.objective {
            objective.hours.add_at(at_ms, &tally);
        }
    }

    pub(super) fn kept(&self, now_ms: i64, span: Span) -> Kept {
        let sum = |ring: &Ring, spans| ring.sum(now_ms, spans, Tally::add_ends).kept();
        match (span, &self.objective) {
            (Span::Minutes(minutes), _) => sum(&self.minutes, minutes.into()),
            (Span::Hours(1), _) => sum(&self.minutes, 60),
            (Span::Hours(hours), Some(objective)) if hours <= 6 => sum(&objective.tens, i64::from(hours) * 6),
            (Span::Hours(hours), Some(objective)) => sum(&objective.hours, hours.into()),
            (Span::Hours(hours), None) => sum(&self.hours, i64::from(hours).min(24)),
        }
    }

    /// Whether nothing has happened for longer than anybody looks back.
    pub(super) fn is_empty(&self, now_ms: i64) -> bool {
        let days = if self.objective.is_some() { OBJECTIVE_HOURS } else { 25 };
        let last =
            self.objective.as_ref().map_or(self.hours.last_ms(), |objective| objective.hours.last_ms());
        last.is_none_or(|last_ms| last_ms < now_ms - days * HOUR_MS)
    }
}
