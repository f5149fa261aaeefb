//! How many attempts end in a second, by lane: what operators see of the queue's work.
//!
//! Two windows, the last whole one and the present one, weighted so that they span one window together: no timer, and
//! two numbers a lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Lane;

/// What a rate is measured over.
const WINDOW: Duration = Duration::from_secs(60);

/// The rates of all lanes. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    meters: Arc<Mutex<HashMap<Lane, Meter>>>,
}

#[derive(Debug, Clone, Copy)]
struct Meter {
    /// When the present window began.
    since: Instant,
    before: u32,
    now: u32,
}

impl Meter {
    fn turn(&mut self, now: Instant) {
        let windows = now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs();
        match windows {
            0 => return,
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.since += WINDOW * u32::try_from(windows).unwrap_or(u32::MAX);
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let gone = now.saturating_duration_since(self.since).as_secs_f64() / WINDOW.as_secs_f64();
        (f64::from(self.before) * (1.0 - gone) + f64::from(self.now)) / WINDOW.as_secs_f64()
    }
}

impl Rates {
    fn meters(&self) -> MutexGuard<'_, HashMap<Lane, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt of a lane has ended.
    pub(crate) fn ended(&self, lane: &Lane, now: Instant) {
        let mut meters = self.meters();
        if let Some(meter) = meters.get_mut(lane) {
            meter.turn(now);
            meter.now = meter.now.saturating_add(1);
        } else {
            meters.insert(lane.clone(), Meter { since: now, before: 0, now: 1 });
        }
    }

    /// Attempts of a lane that ended in a second.
    pub(crate) fn of(&self, lane: &Lane, now: Instant) -> f64 {
        self.meters().get_mut(lane).map_or(0.0, |meter| meter.per_second(now))
    }

    /// Forgets lanes of which nothing has ended for a while.
    pub(crate) fn forget_idle(&self, now: Instant) {
        self.meters().retain(|_, meter| {
            meter.turn(now);
            meter.before + meter.now > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (rates, begin) = (Rates::default(), Instant::now());
        let lane = Lane::parse("a/f/general").unwrap();
        let at = |seconds| begin + Duration::from_secs(seconds);
        (0..120).for_each(|second| (0..2).for_each(|_| rates.ended(&lane, at(second))));
        let rate = rates.of(&lane, at(120));
        assert!((1.9..2.1).contains(&rate), "{rate}");
        let rate = rates.of(&lane, at(150));
        assert!((0.9..1.1).contains(&rate), "half of the minute was quiet: {rate}");
        rates.forget_idle(at(150));
        assert!(rates.of(&lane, at(150)) > 0.0);
        rates.forget_idle(at(240));
        assert!(rates.meters().is_empty());
    }
}
