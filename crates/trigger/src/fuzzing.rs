//! Entrances for fuzzers: statements of strangers that decide what fires. Each function panics where a promise is broken
//! and returns otherwise. Not part of any build that serves.

use alula_model::Timestamp;
use alula_model::trigger::ScheduleSource;

use crate::schedule::plan::Plan;

/// Slots that are looked at.
const SLOTS: usize = 8;
/// Some moment that is not special.
const BEGIN: Timestamp = Timestamp(1_767_225_600_123);

/// A cron pattern, with its zone on the second line: slots are strictly ordered, and what `next` finds `last` finds too.
pub fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (cron, zone) =
        text.split_once('\n').map_or((text, None), |(cron, zone)| (cron, Some(zone.to_owned())));
    let sources = [
        ScheduleSource { cron: Some(cron.to_owned()), zone, ..ScheduleSource::default() },
        ScheduleSource { every: Some(text.to_owned()), ..ScheduleSource::default() },
        ScheduleSource { at: Some(text.to_owned()), ..ScheduleSource::default() },
    ];
    for plan in sources.iter().filter_map(|source| Plan::parse(source).ok()) {
        let mut after = BEGIN;
        for _ in 0..SLOTS {
            let Some(slot) = plan.next(after) else { break };
            assert!(slot > after, "the slot {slot:?} after {after:?} is not after it");
            let slots = plan.slots(after, slot, SLOTS);
            assert_eq!(
                slots.slots.last(),
                Some(&slot),
                "{text:?} has the slot {slot:?} for one and not for the other"
            );
            after = slot;
        }
    }
}
