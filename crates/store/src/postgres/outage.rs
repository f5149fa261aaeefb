//! While the server is gone: callers are refused at once, and one of them asks now and then.
//!
//! A breaker of the simplest kind, shared by all connections of a store. It opens when connections could not be made several
//! times in a row, so that a server that is only restarted is waited for, and stays open for longer each time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// Attempts to connect in a row that fail before callers are refused: as many as one caller makes.
const FAILURES_MAX: u32 = 3;
/// How long callers are refused the first time; each failed attempt after it doubles that.
const REFUSED_FIRST: Duration = Duration::from_millis(100);
/// How long at the most: so soon it is noticed that the server is back.
const REFUSED_LONGEST: Duration = Duration::from_secs(1);

/// Whether the server is there, as far as attempts to connect tell.
#[derive(Debug, Default)]
pub(super) struct Outage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when callers are refused, and with what.
    refused: Option<(Instant, Error)>,
}

impl Outage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses whoever comes while the server is known to be gone. Who comes after that asks for all: others are refused
    /// for as long as one attempt may take.
    pub(super) fn check(&self, now: Instant, attempt: Duration) -> Result<(), Error> {
        let mut state = self.lock();
        match &mut state.refused {
            Some((until, error)) if now < *until => Err(error.clone()),
            Some((until, _)) => {
                *until = now + attempt;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether callers are refused.
    pub(super) fn is_known(&self) -> bool {
        self.lock().refused.is_some()
    }

    /// A connection could not be made.
    pub(super) fn failed(&self, now: Instant, error: &Error) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if let Some(doublings) = state.failures.checked_sub(FAILURES_MAX) {
            let wait = REFUSED_FIRST.saturating_mul(1 << doublings.min(8)).min(REFUSED_LONGEST);
            state.refused = Some((now + wait, error.clone()));
        }
    }

    /// A connection was made.
    pub(super) fn is_over(&self) {
        *self.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: Duration = Duration::from_secs(5);

    #[test]
    fn after_three_failures_one_caller_asks_for_all_and_more_and_more_rarely() {
        let (outage, mut now) = (Outage::default(), Instant::now());
        let gone = Error::Unavailable { detail: "gone".to_owned() };
        for _ in 0..FAILURES_MAX {
            assert_eq!(outage.check(now, ATTEMPT), Ok(()));
            outage.failed(now, &gone);
        }
        for wait_ms in [100, 200, 400, 800, 1_000, 1_000] {
            now += Duration::from_millis(wait_ms - 1);
            assert_eq!(outage.check(now, ATTEMPT), Err(gone.clone()), "before {wait_ms} ms");
            now += Duration::from_millis(1);
            assert_eq!(outage.check(now, ATTEMPT), Ok(()));
            assert_eq!(outage.check(now, ATTEMPT), Err(gone.clone()), "somebody asks already");
            outage.failed(now, &gone);
        }
        now += REFUSED_LONGEST;
        assert_eq!(outage.check(now, ATTEMPT), Ok(()));
        outage.is_over();
        assert_eq!(outage.check(now, ATTEMPT), Ok(()));
    }

    #[test]
    fn an_attempt_that_nobody_hears_of_again_keeps_others_only_for_its_time() {
        let (outage, now) = (Outage::default(), Instant::now());
        let gone = Error::Unavailable { detail: "gone".to_owned() };
        (0..FAILURES_MAX).for_each(|_| outage.failed(now, &gone));
        let later = now + REFUSED_LONGEST;
        assert_eq!(outage.check(later, ATTEMPT), Ok(()));
        assert_eq!(outage.check(later + ATTEMPT, ATTEMPT), Ok(()));
    }
}
