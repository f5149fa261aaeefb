//! The rule: from samples of latency to a limit.

use std::time::Duration;

use alula_model::AdaptiveSpec;
use tokio::time::Instant;

/// Samples are gathered for so long, and until there are so many, before the limit moves: single calls differ too much.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOW_SAMPLES: u32 = 10;
/// Windows over which the usual latency is averaged.
const USUAL_WINDOWS: f64 = 600.0;
/// Windows at the beginning whose plain mean it is.
const WARM_UP_WINDOWS: u32 = 10;
/// Calls that may wait inside of the function beside those that it works on, so that the limit can grow.
const QUEUED: f64 = 4.0;
/// How much of a new limit is taken over at once.
const SMOOTHING: f64 = 0.2;
/// The limit is at the most halved at a time.
const LEAST_GRADIENT: f64 = 0.5;
/// When the usual latency is so many times the present one, it was learned under load and is brought down.
const STALE_USUAL: f64 = 2.0;
const STALE_DECAY: f64 = 0.95;

/// The limit of one function.
#[derive(Debug, Clone)]
pub struct Gradient {
    limit: f64,
    min: f64,
    max: f64,
    tolerance: f64,
    /// The usual latency in microseconds.
    usual_us: f64,
    windows: u32,
    since: Instant,
    samples: u32,
    sum_us: f64,
    /// Most calls at once that a sample of this window saw.
    in_flight: u32,
}

impl Gradient {
    /// A limit that knows no latency yet.
    #[must_use]
    pub fn new(spec: &AdaptiveSpec, now: Instant) -> Self {
        Self {
            limit: spec.initial.into(),
            min: spec.min.into(),
            max: spec.max.into(),
            tolerance: f64::from(spec.tolerance_percent) / 100.0,
            usual_us: 0.0,
            windows: 0,
            since: now,
            samples: 0,
            sum_us: 0.0,
            in_flight: 0,
        }
    }

    /// Calls that may run at once.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between min and max")]
    pub const fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// The usual latency, in microseconds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a latency is not negative")]
    pub const fn usual_us(&self) -> u64 {
        self.usual_us as u64
    }

    /// A call took so long while so many ran.
    pub fn sample(&mut self, now: Instant, latency: Duration, in_flight: u32) {
        self.samples += 1;
        self.sum_us += latency.as_secs_f64() * 1e6;
        self.in_flight = self.in_flight.max(in_flight);
        if now.saturating_duration_since(self.since) < WINDOW || self.samples < WINDOW_SAMPLES {
            return;
        }
        let present_us = (self.sum_us / f64::from(self.samples)).max(1.0);
        let in_flight = f64::from(self.in_flight);
        (self.samples, self.sum_us, self.in_flight, self.since) = (0, 0.0, 0, now);
        self.learn(present_us);
        // A function that is not asked for as much as it may have says nothing about its limit.
        if in_flight >= self.limit / 2.0 {
            self.step(present_us);
        }
    }

    fn learn(&mut self, present_us: f64) {
        self.windows = self.windows.saturating_add(1);
        let weight = if self.windows <= WARM_UP_WINDOWS {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / (USUAL_WINDOWS + 1.0)
        };
        self.usual_us += (present_us - self.usual_us) * weight;
        if self.usual_us / present_us > STALE_USUAL {
            self.usual_us *= STALE_DECAY;
        }
    }

    fn step(&mut self, present_us: f64) {
        let gradient = (self.tolerance * self.usual_us / present_us).clamp(LEAST_GRADIENT, 1.0);
        let wanted = self.limit * gradient + QUEUED;
        self.limit = (self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING).clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that works on `capacity` calls at once, each for `work`, and lets the rest wait in line. Callers always ask
    /// for as much as the limit allows. Returns the limit after `seconds`.
    fn saturate(gradient: &mut Gradient, start: Instant, seconds: u64, capacity: f64, work: Duration) -> u32 {
        for tick in 0..seconds * 20 {
            let now = start + Duration::from_millis(50 * (tick + 1));
            let in_flight = gradient.limit();
            let latency = work.mul_f64((f64::from(in_flight) / capacity).max(1.0));
            gradient.sample(now, latency, in_flight);
        }
        gradient.limit()
    }

    const WORK: Duration = Duration::from_millis(20);

    #[test]
    fn the_limit_grows_to_what_the_server_can_do_and_stays_near_it() {
        let start = Instant::now();
        let mut gradient = Gradient::new(&AdaptiveSpec::default(), start);
        let limit = saturate(&mut gradient, start, 300, 50.0, WORK);
        // By its tolerance a half more than the capacity is fine; a few wait besides.
        assert!((50..=120).contains(&limit), "{limit}");
    }

    #[test]
    fn it_shrinks_when_the_server_gets_slow_and_grows_again() {
        let start = Instant::now();
        let mut gradient = Gradient::new(&AdaptiveSpec::default(), start);
        let before = saturate(&mut gradient, start, 120, 50.0, WORK);
        let later = start + Duration::from_secs(120);
        let slow = saturate(&mut gradient, later, 30, 5.0, WORK);
        assert!(slow < before / 2, "{before} before, {slow} while it was slow");
        let well = start + Duration::from_secs(150);
        let after = saturate(&mut gradient, well, 120, 50.0, WORK);
        assert!(after > 2 * slow, "{slow} while it was slow, {after} after");
    }

    #[test]
    fn bounds_hold_whatever_the_latency_is() {
        let start = Instant::now();
        let spec = AdaptiveSpec { min: 3, max: 7, initial: 5, ..AdaptiveSpec::default() };
        for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(86_400)] {
            let mut gradient = Gradient::new(&spec, start);
            for second in 1..500 {
                for _ in 0..WINDOW_SAMPLES {
                    gradient.sample(start + Duration::from_secs(second), latency * (second % 7) as u32, 7);
                }
                assert!((3..=7).contains(&gradient.limit()));
            }
        }
    }

    #[test]
    fn a_function_that_is_hardly_asked_keeps_its_limit() {
        let start = Instant::now();
        let mut gradient = Gradient::new(&AdaptiveSpec::default(), start);
        for second in 1..100 {
            for _ in 0..WINDOW_SAMPLES {
                gradient.sample(start + Duration::from_secs(second), WORK * second as u32, 1);
            }
        }
        assert_eq!(gradient.limit(), AdaptiveSpec::default().initial);
    }
}
