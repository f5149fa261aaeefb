//! Who makes room for an instance when a ceiling is reached.
//!
//! Only idle instances do, and never below a floor. Functions called by the clock come first, the one whose next run is
//! furthest away before the others; then those called through the queue, for whom nobody waits; then those that
//! somebody waits for. Among equals it is the one that has been idle longest.

use std::cmp::Reverse;
use std::time::Duration;

use alula_model::Class;
use tokio::time::Instant;

use crate::version_pool::Idle;

/// The order of giving way: the least goes first. `next_call` is the time to the next run where it is known; a run that
/// nobody knows of is furthest away.
pub(crate) fn order(idle: Idle, next_call: Option<Duration>) -> (u8, Reverse<Duration>, Instant) {
    let (rank, distance) = match idle.class {
        Class::Scheduled => (0, next_call.unwrap_or(Duration::MAX)),
        Class::Async => (1, Duration::ZERO),
        Class::Sync => (2, Duration::ZERO),
    };
    (rank, Reverse(distance), idle.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn scheduled_far_to_near_then_queued_then_waited_for() {
        let start = Instant::now();
        let of = |name, class, idle_s: u64, next_s: Option<u64>| {
            let since = start + Duration::from_secs(1_000 - idle_s);
            (name, order(Idle { class, since }, next_s.map(Duration::from_secs)))
        };
        let mut all = [
            of("sync, long", Class::Sync, 900, None),
            of("async, short", Class::Async, 1, None),
            of("async, long", Class::Async, 500, None),
            of("scheduled, near", Class::Scheduled, 800, Some(60)),
            of("sync, short", Class::Sync, 2, None),
            of("scheduled, far", Class::Scheduled, 5, Some(7_200)),
            of("scheduled, unknown", Class::Scheduled, 1, None),
        ];
        all.sort_by_key(|(_, order)| *order);
        let names = all.map(|(name, _)| name);
        let expected = [
            "scheduled, unknown",
            "scheduled, far",
            "scheduled, near",
            "async, long",
            "async, short",
            "sync, long",
            "sync, short",
        ];
        assert_eq!(names, expected);
    }
}
