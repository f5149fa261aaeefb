//! A schedule as it is stated, read: when it fires. Pure: no clock, no store.
//!
//! A *slot* is a moment at which a schedule fires. Slots of one schedule are strictly ordered, and which moments they are
//! depends on the statement alone, so every replica and every restart finds the same ones.

use std::sync::LazyLock;

use alula_model::Timestamp;
use alula_model::trigger::ScheduleSource;
use croner::parser::CronParser;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, SpanRelativeTo};

use super::cron::ZonedCron;

/// Longest cron pattern, in bytes: every minute of an hour and every hour of a day listed by number fit several times.
const CRON_BYTES_MAX: usize = 1_024;
/// Shortest distance of `every`: a second, as in cron.
const EVERY_MS_MIN: i64 = 1_000;
/// Longest distance of `every`: a leap year.
const EVERY_MS_MAX: i64 = 366 * 86_400_000;

/// The zones that came with this program, so that all replicas of one version agree on every slot, whatever their
/// machines have installed.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A schedule that can fire.
#[derive(Debug, Clone)]
pub struct Plan {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    /// Boxed, for it is some kilobytes: a bit for every year.
    Cron(Box<ZonedCron>),
    /// Slots are the multiples of the distance since the Unix epoch.
    Every {
        distance_ms: i64,
    },
    At(Timestamp),
}

/// A schedule cannot be understood, or would never fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PlanError {
    /// The field of the trigger.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Slots of an interval.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    /// The newest ones, the oldest of them first.
    pub slots: Vec<Timestamp>,
    /// Whether there are older ones in the interval.
    pub has_older: bool,
}

impl Plan {
    /// Reads a schedule.
    pub fn parse(source: &ScheduleSource) -> Result<Self, PlanError> {
        let rule = match (&source.cron, &source.every, &source.at) {
            (Some(cron), None, None) => read_cron(cron, source.zone.as_deref())?,
            (None, Some(every), None) => Rule::Every { distance_ms: read_every(every)? },
            (None, None, Some(at)) => Rule::At(read_at(at)?),
            _ => return Err(wrong("cron", "a schedule states one of cron, every and at")),
        };
        Ok(Self { rule })
    }

    /// The first slot after `after`, if there is one within a hundred years.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(cron) => cron.next(to_jiff(after)?).map(from_jiff),
            Rule::Every { distance_ms } => {
                let passed = after.as_millis().div_euclid(*distance_ms);
                passed.checked_add(1)?.checked_mul(*distance_ms).map(Timestamp)
            }
            Rule::At(at) => (*at > after).then_some(*at),
        }
    }

    /// The last slot up to `until`, itself included.
    #[must_use]
    pub fn last(&self, until: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(cron) => cron.last(to_jiff(until)?).map(from_jiff),
            Rule::Every { distance_ms } => {
                until.as_millis().div_euclid(*distance_ms).checked_mul(*distance_ms).map(Timestamp)
            }
            Rule::At(at) => (*at <= until).then_some(*at),
        }
    }

    /// The newest `limit` slots after `after` and up to `until`, that one included. However long the interval is, no
    /// more than these are computed.
    #[must_use]
    pub fn slots(&self, after: Timestamp, until: Timestamp, limit: usize) -> Slots {
        let mut slots = Vec::new();
        let mut until = until;
        while let Some(slot) = self.last(until).filter(|slot| *slot > after) {
            if slots.len() == limit {
                slots.reverse();
                return Slots { slots, has_older: true };
            }
            slots.push(slot);
            until = slot.plus_millis(-1);
        }
        slots.reverse();
        Slots { slots, has_older: false }
    }

    /// The slots to come after `after`, in their order.
    pub fn upcoming(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |slot| self.next(*slot))
    }
}

/// What a schedule says, in words: `at 03:00, Europe/Berlin`, `every 1m 30s`, `once at 2030-01-01T00:00:00Z`.
pub fn describe(source: &ScheduleSource) -> Result<String, PlanError> {
    Ok(match Plan::parse(source)?.rule {
        Rule::Cron(cron) => {
            let words = cron.describe();
            let (first, rest) = words.split_at_checked(1).unwrap_or_default();
            let zone = source.zone.as_deref().unwrap_or("UTC");
            format!("{}{}, {zone}", first.to_lowercase(), rest.trim_end_matches('.'))
        }
        Rule::Every { distance_ms } => format!("every {}", jiff_span(distance_ms)),
        Rule::At(at) => format!("once at {}", rfc3339(at)),
    })
}

/// A moment in RFC 3339, in UTC.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    to_jiff(at).map_or_else(|| at.as_millis().to_string(), |at| at.to_string())
}

fn jiff_span(millis: i64) -> String {
    format!("{:#}", jiff::SignedDuration::from_millis(millis))
}

fn read_cron(text: &str, zone: Option<&str>) -> Result<Rule, PlanError> {
    let zone = read_zone(zone.unwrap_or("UTC"))?;
    if text.len() > CRON_BYTES_MAX {
        let reason = format!("{} bytes are too long, at most {CRON_BYTES_MAX} are allowed", text.len());
        return Err(wrong("cron", reason));
    }
    let pattern = if text.trim().eq_ignore_ascii_case("@midnight") { "@daily" } else { text };
    let pattern = CronParser::new().parse(pattern).map_err(|error| {
        let remedy = "write five fields (minute hour day month weekday), six with seconds first, seven with years \
                      last, or one of @hourly, @daily, @weekly, @monthly, @yearly";
        wrong("cron", format!("{text:?} is no cron pattern ({}): {remedy}", lower_case(&error.to_string())))
    })?;
    let cron = ZonedCron::new(pattern, zone);
    if cron.next(jiff::Timestamp::UNIX_EPOCH).is_none() {
        return Err(wrong(
            "cron",
            format!("{text:?} never comes: no such day exists; correct day and month"),
        ));
    }
    Ok(Rule::Cron(Box::new(cron)))
}

fn read_zone(name: &str) -> Result<TimeZone, PlanError> {
    ZONES.get(name).map_err(|_| {
        let reason = format!(
            "no time zone {name:?} is known: use a name of the IANA database such as Europe/Berlin or UTC"
        );
        wrong("zone", reason)
    })
}

fn read_every(text: &str) -> Result<i64, PlanError> {
    let remedy = "write a distance such as 90s, 15m, 1h 30m or 7d";
    let unreadable = || wrong("every", format!("{text:?} is no distance: {remedy}"));
    let span: Span = text.parse().map_err(|_| unreadable())?;
    let distance = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| {
        let reason = format!("{text:?} has no fixed length: {remedy}, or use cron for months and years");
        wrong("every", reason)
    })?;
    let millis = i64::try_from(distance.as_millis()).map_err(|_| unreadable())?;
    if distance.subsec_nanos() % 1_000_000 != 0 || !(EVERY_MS_MIN..=EVERY_MS_MAX).contains(&millis) {
        let reason = format!("{text:?} is out of bounds, allowed are 1s to 366d in whole milliseconds");
        return Err(wrong("every", reason));
    }
    Ok(millis)
}

fn read_at(text: &str) -> Result<Timestamp, PlanError> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        let reason =
            format!("{text:?} is no time: write it as 2030-01-31T08:00:00Z or 2030-01-31T08:00:00+01:00");
        wrong("at", reason)
    })?;
    Ok(from_jiff(at))
}

fn wrong(field: &'static str, reason: impl Into<String>) -> PlanError {
    PlanError { field, reason: reason.into() }
}

fn lower_case(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

fn to_jiff(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.as_millis()).ok()
}

fn from_jiff(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
