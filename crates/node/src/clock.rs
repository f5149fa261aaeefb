//! The two sources from outside that everything else is handed: the wall clock and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use alula_model::{Clock, Timestamp};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// 128 random bits.
#[must_use]
pub(crate) fn random() -> u128 {
    u128::from_ne_bytes(uuid::Uuid::new_v4().into_bytes())
}
