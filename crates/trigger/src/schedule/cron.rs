//! Cron patterns in a time zone, and what happens where the zone's clock jumps.
//!
//! The pattern is only ever matched against wall-clock times (croner's part); how those become instants is decided here:
//!
//! - A *fixed-time* pattern names its hours and minutes (neither field holds `*`). Each wall-clock time that it names
//!   happens once: the first time where the clock is put back, and right after the gap where the clock is put forward
//!   over it. Several that fall into one gap are one slot.
//! - A *wildcard* pattern (`*` in the hours or the minutes) follows the clock on the wall: it happens at every instant
//!   at which the clock shows a time that matches, so a repeated hour counts twice and a skipped one not at all.
//!
//! This is the rule of Vixie cron, except that it holds for changes of any length, a skipped day included.

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Years that are searched for a slot: the rarest pattern of days, a leap day on a given weekday, may take forty.
const HORIZON_YEARS: i16 = 100;

/// A pattern in a zone.
#[derive(Debug, Clone)]
pub(super) struct ZonedCron {
    pattern: Cron,
    zone: TimeZone,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    FixedTime,
    Wildcard,
}

impl ZonedCron {
    pub(super) fn new(pattern: Cron, zone: TimeZone) -> Self {
        let fields = &pattern.pattern;
        let is_wildcard = fields.hours.from_wildcard || fields.minutes.from_wildcard;
        let kind = if is_wildcard { Kind::Wildcard } else { Kind::FixedTime };
        Self { pattern, zone, kind }
    }

    /// In words, without the zone.
    pub(super) fn describe(&self) -> String {
        self.pattern.describe()
    }

    /// The first slot after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self.kind {
            Kind::FixedTime => self.next_fixed(after),
            Kind::Wildcard => self.next_wildcard(after),
        }
    }

    /// The last slot up to `until`, itself included.
    pub(super) fn last(&self, until: Timestamp) -> Option<Timestamp> {
        match self.kind {
            Kind::FixedTime => self.last_fixed(until),
            Kind::Wildcard => self.last_wildcard(until),
        }
    }

    /// Wall-clock times become instants in their own order, so the first whose instant lies ahead is the one.
    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut shown = self.zone.to_datetime(after);
        loop {
            shown = self.shown_after(shown, Bound::Exclusive)?;
            let instant = self.instant_of(shown)?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    fn last_fixed(&self, until: Timestamp) -> Option<Timestamp> {
        let shown = self.zone.to_datetime(until);
        let offset = self.zone.to_offset(until);
        let last = match self.zone.to_ambiguous_timestamp(shown).offset() {
            // The clock shows this for the second time: all that it repeats has happened.
            AmbiguousOffset::Fold { before, after } if offset == after => {
                let put_back_at = self.zone.preceding(just_after(until)).next()?.timestamp();
                self.shown_before(before.to_datetime(put_back_at), Bound::Exclusive)
            }
            _ => self.shown_before(shown, Bound::Inclusive),
        };
        self.instant_of(last?)
    }

    /// When a wall-clock time happens: the first time, or right after the gap that it lies in.
    fn instant_of(&self, shown: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the later offset, what lies in the gap lies shortly before the jump.
                let before_the_jump = after.to_timestamp(shown).ok()?;
                self.zone.following(before_the_jump).next().map(|jump| jump.timestamp())
            }
        }
    }

    /// Between two changes of the zone the clock goes evenly, so the search goes from change to change.
    fn next_wildcard(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut from, mut bound) = (after, Bound::Exclusive);
        loop {
            let offset = self.zone.to_offset(from);
            let instant = offset.to_timestamp(self.shown_after(shown_at(from, offset), bound)?).ok()?;
            match self.zone.following(from).next() {
                Some(change) if change.timestamp() <= instant => {
                    (from, bound) = (change.timestamp(), Bound::Inclusive);
                }
                _ => return Some(instant),
            }
        }
    }

    fn last_wildcard(&self, until: Timestamp) -> Option<Timestamp> {
        let mut until = until;
        loop {
            let offset = self.zone.to_offset(until);
            let shown = self.shown_before(shown_at(until, offset), Bound::Inclusive)?;
            let instant = offset.to_timestamp(shown).ok()?;
            match self.zone.preceding(just_after(until)).next() {
                Some(change) if instant < change.timestamp() => until = just_before(change.timestamp()),
                _ => return Some(instant),
            }
        }
    }

    fn shown_after(&self, shown: DateTime, bound: Bound) -> Option<DateTime> {
        let found = self.pattern.find_next_occurrence(&shown, bound == Bound::Inclusive).ok()?;
        (found.year() - shown.year() <= HORIZON_YEARS).then_some(found)
    }

    fn shown_before(&self, shown: DateTime, bound: Bound) -> Option<DateTime> {
        let found = self.pattern.find_previous_occurrence(&shown, bound == Bound::Inclusive).ok()?;
        (shown.year() - found.year() <= HORIZON_YEARS).then_some(found)
    }
}

/// Whether a search may find where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Inclusive,
    Exclusive,
}

fn shown_at(instant: Timestamp, offset: Offset) -> DateTime {
    offset.to_datetime(instant)
}

fn just_after(instant: Timestamp) -> Timestamp {
    instant.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(instant)
}

fn just_before(instant: Timestamp) -> Timestamp {
    instant.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(instant)
}
