//! Traces out of thin air: mixtures of the kinds of functions that the published traces show, the same for the same
//! seed.
//!
//! Most functions are called rarely, a few nearly all the time; a third are timers; some sleep for long and then get
//! a burst; memory and durations have heavy tails. The numbers follow what Shahrad et al. report of a large cloud.

use super::trace::{FUNCTIONS_MAX, MINUTES_MAX, Trace, Traits};

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// How many functions, five million at the most.
    pub functions: usize,
    /// How long, in minutes, thirty days at the most.
    pub minutes: usize,
    /// What the dice begin with.
    pub seed: u64,
    /// Which kinds of functions.
    pub mix: Mix,
}

/// Which kinds of functions a trace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// All of them, in the proportions of a large cloud.
    Cloud,
    /// Mostly functions that are called a few times a day.
    Rare,
    /// Mostly timers, from every minute to once a day.
    Timers,
    /// Mostly functions that sleep for a long time and are then called in bursts.
    Bursty,
    /// Mostly functions called at random, at rates over five orders of magnitude.
    HeavyTailed,
}

impl Mix {
    /// Out of a hundred functions, how many are rare, timers, bursty; the rest are called at random.
    const fn parts(self) -> [u64; 3] {
        match self {
            Self::Cloud => [25, 30, 20],
            Self::Rare => [85, 5, 5],
            Self::Timers => [10, 80, 5],
            Self::Bursty => [10, 5, 80],
            Self::HeavyTailed => [5, 5, 5],
        }
    }
}

/// Periods of timers in minutes; the shorter ones are the commoner ones.
const PERIODS: [u32; 12] = [1, 1, 5, 5, 5, 10, 15, 30, 60, 60, 360, 1_440];

/// Calls a minute of the busiest function: beyond a few a second it is never idle anyway.
const RATE_MAX: f64 = 600.0;

/// Makes a trace.
#[must_use]
pub fn generate(recipe: Recipe) -> Trace {
    let functions = recipe.functions.min(FUNCTIONS_MAX);
    let minutes = recipe.minutes.min(MINUTES_MAX);
    let mut trace = Trace::new(minutes);
    let mut dice = Dice(recipe.seed);
    let [rare, timers, bursty] = recipe.mix.parts();
    for _ in 0..functions {
        // Each function has dice of its own: more functions do not change those before them.
        let mut own = Dice(dice.next());
        let function = trace.push(traits(&mut own));
        let mut calls = Calls { trace: &mut trace, minutes, function };
        match own.below(100) {
            kind if kind < rare => calls.rare(&mut own),
            kind if kind < rare + timers => calls.timer(&mut own),
            kind if kind < rare + timers + bursty => calls.bursty(&mut own),
            _ => calls.random(&mut own),
        }
    }
    trace.shrink();
    trace
}

fn traits(dice: &mut Dice) -> Traits {
    let memory_mb = (170.0 * (0.65 * dice.normal()).exp()).clamp(20.0, 4_096.0);
    let duration_ms = (600.0 * (1.6 * dice.normal()).exp()).clamp(1.0, 300_000.0);
    Traits { memory_mb: memory_mb as f32, duration_ms: duration_ms as f32 }
}

/// The calls of one function in the making.
struct Calls<'a> {
    trace: &'a mut Trace,
    minutes: usize,
    function: usize,
}

impl Calls<'_> {
    fn add(&mut self, minute: f64, times: u32) {
        if minute >= 0.0 && minute < self.minutes as f64 {
            self.trace.add(minute as usize, self.function, times);
        }
    }

    fn end(&self) -> f64 {
        self.minutes as f64
    }

    /// A few times a day or less; sometimes a person tries it twice.
    fn rare(&mut self, dice: &mut Dice) {
        let mean = 60.0 * (6.0 * dice.normal().exp()).clamp(0.7, 100.0);
        let mut minute = mean * dice.exponential();
        while minute < self.end() {
            self.add(minute, 1);
            let again = dice.unit() < 0.3;
            minute += 1.0 + if again { 4.0 * dice.exponential() } else { mean * dice.exponential() };
        }
    }

    /// A period, most of them to the minute; a few calls are lost.
    fn timer(&mut self, dice: &mut Dice) {
        let period = f64::from(PERIODS[dice.below(PERIODS.len() as u64) as usize]);
        let jitter = if dice.unit() < 0.2 { period * 0.05 } else { 0.0 };
        let mut due = (period * dice.unit()).floor();
        while due < self.end() {
            if dice.unit() < 0.99 {
                self.add(due + jitter * dice.unit(), 1);
            }
            due += period;
        }
    }

    /// Long pauses by a Pareto law, then some minutes of calls.
    fn bursty(&mut self, dice: &mut Dice) {
        let (pause, length, rate) = (
            20.0 * dice.pareto(1.2).min(20.0),
            1.0 + 10.0 * dice.exponential(),
            0.3 + 5.0 * dice.exponential(),
        );
        let mut minute = pause * dice.pareto(1.3) * dice.unit();
        while minute < self.end() {
            let until = (minute + 1.0 + length * dice.exponential()).min(self.end());
            while minute < until {
                self.add(minute, dice.poisson(rate).max(1));
                minute += 1.0 + dice.exponential() * 0.5;
            }
            minute += pause * dice.pareto(1.3).min(100.0);
        }
    }

    /// At random, at a rate that rises and falls over the day.
    fn random(&mut self, dice: &mut Dice) {
        let rate = (0.02 * (2.5 * dice.normal()).exp()).clamp(0.0005, RATE_MAX);
        let phase = dice.unit();
        let at =
            |minute: f64| rate * (1.0 + 0.6 * (std::f64::consts::TAU * (minute / 1_440.0 + phase)).sin());
        let mut minute = if rate < 0.5 { dice.exponential() / rate } else { 0.0 };
        while minute < self.end() {
            if rate < 0.5 {
                // Thinning: candidates at the highest rate, of which the share that the hour has is taken.
                if dice.unit() * rate * 1.6 < at(minute) {
                    self.add(minute, 1);
                }
                minute += dice.exponential() / (rate * 1.6);
            } else {
                self.add(minute, dice.poisson(at(minute)));
                minute += 1.0;
            }
        }
    }
}

/// Seeded randomness: Vigna's `SplitMix64` and what is drawn from it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From zero to below one.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    fn pareto(&mut self, exponent: f64) -> f64 {
        (1.0 - self.unit()).powf(-1.0 / exponent)
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// By counting exponentials, or by the bell curve where the mean is large.
    fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u32;
        }
        let (mut count, mut sum) = (0, self.exponential());
        while sum < mean {
            count += 1;
            sum += self.exponential();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_trace_and_another_one_another() {
        let recipe = Recipe { functions: 200, minutes: 1_440, seed: 7, mix: Mix::Cloud };
        assert_eq!(generate(recipe), generate(recipe));
        assert_ne!(generate(recipe), generate(Recipe { seed: 8, ..recipe }));
    }

    #[test]
    fn more_functions_do_not_change_those_before_them() {
        let few = generate(Recipe { functions: 50, minutes: 600, seed: 1, mix: Mix::Cloud });
        let many = generate(Recipe { functions: 60, minutes: 600, seed: 1, mix: Mix::Cloud });
        for minute in 0..600 {
            let same: Vec<_> = many.called(minute).filter(|called| called.function < 50).collect();
            assert_eq!(few.called(minute).collect::<Vec<_>>(), same);
        }
    }

    #[test]
    fn tails_are_heavy() {
        let trace = generate(Recipe { functions: 2_000, minutes: 1_440, seed: 3, mix: Mix::Cloud });
        let mut calls = vec![0_u64; trace.functions()];
        for called in (0..trace.minutes()).flat_map(|minute| trace.called(minute)) {
            calls[called.function as usize] += u64::from(called.times);
        }
        calls.sort_unstable();
        let busiest: u64 = calls[1_900..].iter().sum();
        assert!(busiest * 2 > trace.calls(), "a twentieth of the functions have most calls");
        assert!(calls[1_000] < 300, "half of the functions are called rarely: {}", calls[1_000]);
    }
}
