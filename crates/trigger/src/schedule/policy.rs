//! Which of the slots that have come run, and which are skipped. Pure.
//!
//! A slot that is a little late runs. One that is late by more than that is *missed*: nobody was there for it, because the
//! platform was down or the clock jumped ahead, and the owner has said what becomes of those.

use alula_model::Timestamp;
use alula_model::trigger::{Missed, ScheduleSource};

use super::plan::Plan;

/// Slots that one decision names as late: more come within the time after which they count as missed only where that time
/// was set to minutes.
const LATE_MAX: usize = 1_000;

/// What to do about a schedule now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Decision {
    /// Slots that were missed and do not run: the first and the last of them.
    pub(super) skipped: Option<(Timestamp, Timestamp)>,
    /// The slot that runs.
    pub(super) slot: Option<Timestamp>,
    /// The slot after that one; it may have come already.
    pub(super) next: Option<Timestamp>,
}

/// Decides about a schedule whose next slot is `next`.
pub(super) fn decide(
    plan: &Plan,
    source: &ScheduleSource,
    next: Timestamp,
    now: Timestamp,
    missed_after_ms: i64,
) -> Decision {
    let before = next.plus_millis(-1);
    let missed_until = now.plus_millis(-missed_after_ms - 1);
    let mut runs = plan.slots(before.max(missed_until), now, LATE_MAX).slots;
    let missed_runs = match source.missed {
        Missed::Skip => 0,
        // A slot that has come since makes up for all before.
        Missed::Latest => usize::from(runs.is_empty()),
        Missed::All => source.missed_max as usize,
    };
    let missed = plan.slots(before, missed_until, missed_runs + 1);
    let (mut slots, has_older) = (missed.slots, missed.has_older);
    let skips = slots.len() > missed_runs;
    let last_skipped = skips.then(|| slots.remove(0));
    debug_assert!(skips || !has_older, "what is older than the last skipped is skipped");
    slots.append(&mut runs);
    let slot = slots.first().copied();
    let following = slots.get(1).copied().or_else(|| plan.next(slot.unwrap_or(now)));
    Decision { skipped: last_skipped.map(|last| (next, last)), slot, next: following }
}

#[cfg(test)]
mod tests {
    use alula_model::trigger::Missed;

    use super::*;

    const MISSED_AFTER_MS: i64 = 10_000;

    fn source(missed: Missed, missed_max: u32) -> ScheduleSource {
        let stated: ScheduleSource = serde_json::from_str(r#"{"every": "5s"}"#).unwrap();
        ScheduleSource { missed, missed_max, ..stated }
    }

    /// Decides again and again at the same moment, as after admissions; seconds in, seconds out.
    fn runs(missed: Missed, missed_max: u32, next: i64, now: i64) -> (Vec<i64>, Option<(i64, i64)>, i64) {
        let source = source(missed, missed_max);
        let plan = Plan::parse(&source).unwrap();
        let (mut next, now) = (Timestamp(next * 1_000), Timestamp(now * 1_000));
        let (mut slots, mut skipped) = (Vec::new(), None);
        while next <= now {
            let decision = decide(&plan, &source, next, now, MISSED_AFTER_MS);
            skipped = skipped.or(decision.skipped.map(|(first, last)| (first.0 / 1_000, last.0 / 1_000)));
            slots.extend(decision.slot.map(|slot| slot.0 / 1_000));
            next = decision.next.unwrap();
        }
        (slots, skipped, next.0 / 1_000)
    }

    #[test]
    fn what_is_late_runs_whatever_is_said_about_the_missed() {
        for missed in [Missed::Skip, Missed::Latest, Missed::All] {
            assert_eq!(runs(missed, 10, 100, 100), (vec![100], None, 105));
            assert_eq!(runs(missed, 10, 100, 110), (vec![100, 105, 110], None, 115));
        }
    }

    #[test]
    fn missed_slots_are_skipped_made_up_by_one_or_by_some() {
        assert_eq!(runs(Missed::Skip, 10, 100, 203), (vec![195, 200], Some((100, 190)), 205));
        assert_eq!(runs(Missed::Latest, 10, 100, 203), (vec![195, 200], Some((100, 190)), 205));
        assert_eq!(runs(Missed::All, 3, 100, 203), (vec![180, 185, 190, 195, 200], Some((100, 175)), 205));
        assert_eq!(runs(Missed::All, 1_000, 100, 117), (vec![100, 105, 110, 115], None, 120));
    }

    #[test]
    fn the_latest_missed_runs_where_nothing_has_come_since() {
        let daily = |missed| {
            let stated: ScheduleSource = serde_json::from_str(r#"{"cron": "0 3 * * *"}"#).unwrap();
            ScheduleSource { missed, ..stated }
        };
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let (next, now) = (at("2026-03-01T03:00:00Z"), at("2026-03-04T12:00:00Z"));
        let tomorrow = Some(at("2026-03-05T03:00:00Z"));
        let decided = |missed| {
            let source = daily(missed);
            decide(&Plan::parse(&source).unwrap(), &source, next, now, MISSED_AFTER_MS)
        };
        let latest = decided(Missed::Latest);
        assert_eq!(latest.slot, Some(at("2026-03-04T03:00:00Z")));
        assert_eq!((latest.skipped, latest.next), (Some((next, at("2026-03-03T03:00:00Z"))), tomorrow));
        let skip = decided(Missed::Skip);
        assert_eq!(
            skip,
            Decision { skipped: Some((next, at("2026-03-04T03:00:00Z"))), slot: None, next: tomorrow }
        );
    }

    #[test]
    fn a_single_moment_that_was_missed_runs_or_not_and_is_over() {
        let stated: ScheduleSource = serde_json::from_str(r#"{"at": "1970-01-01T00:01:00Z"}"#).unwrap();
        let plan = Plan::parse(&stated).unwrap();
        let (at, later) = (Timestamp(60_000), Timestamp(3_600_000));
        let run = decide(&plan, &stated, at, later, MISSED_AFTER_MS);
        assert_eq!(run, Decision { skipped: None, slot: Some(at), next: None });
        let source = ScheduleSource { missed: Missed::Skip, ..stated };
        let skipped = decide(&plan, &source, at, later, MISSED_AFTER_MS);
        assert_eq!(skipped, Decision { skipped: Some((at, at)), slot: None, next: None });
    }
}
