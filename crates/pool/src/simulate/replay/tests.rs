//! Traces small enough to be worked out by hand.

use crate::simulate::policies::Fixed;
use crate::simulate::trace::Traits;

use super::*;

/// A trace of functions of one gigabyte whose calls take no time; for each the minutes and numbers of its calls.
fn trace(minutes: usize, functions: &[&[(usize, u32)]]) -> Trace {
    let traits = Traits { memory_mb: 1024.0, duration_ms: 0.0 };
    let mut trace = Trace::new(minutes);
    for calls in functions {
        let function = trace.push(traits);
        calls.iter().for_each(|(minute, times)| trace.add(*minute, function, *times));
    }
    trace
}

fn fixed(trace: &Trace, seconds: u32) -> Outcome {
    replay(trace, |_| Fixed(seconds), 2, &mut |_| {})
}

#[test]
fn three_calls_five_and_twenty_minutes_apart() {
    let outcome = fixed(&trace(60, &[&[(0, 1), (5, 1), (25, 1)]]), 600);
    assert_eq!((outcome.calls, outcome.cold_starts, outcome.ahead_starts), (3, 2, 0));
    // Held through the first pause (300 s), ten minutes of the second, and ten minutes after the last call.
    assert_eq!(outcome.wasted_gb_s, 300.0 + 600.0 + 600.0);
    assert_eq!(outcome.used_gb_s, 0.0);
    assert!((outcome.average_gb - 1_500.0 / 3_600.0).abs() < 1e-9);
    assert!((outcome.peak_gb - 1.0).abs() < 1e-9);
}

#[test]
fn an_idle_time_as_long_as_the_instance_is_kept_is_still_warm() {
    assert_eq!(fixed(&trace(10, &[&[(0, 1), (1, 1), (2, 1)]]), 60).cold_starts, 1);
    assert_eq!(fixed(&trace(10, &[&[(0, 1), (1, 1), (2, 1)]]), 59).cold_starts, 3);
}

#[test]
fn calls_of_a_minute_are_spread_over_it() {
    // Four calls, fifteen seconds apart, and the next after fifteen more.
    let calls = trace(2, &[&[(0, 4), (1, 1)]]);
    let outcome = fixed(&calls, 15);
    assert_eq!((outcome.calls, outcome.cold_starts, outcome.wasted_gb_s), (5, 1, 75.0));
    let outcome = fixed(&calls, 10);
    assert_eq!((outcome.cold_starts, outcome.wasted_gb_s), (5, 50.0));
}

#[test]
fn who_is_still_busy_is_not_cold() {
    let mut long = trace(10, &[&[(0, 1), (1, 1)]]);
    long.traits_mut(0).unwrap().duration_ms = 90_000.0;
    let outcome = fixed(&long, 0);
    assert_eq!((outcome.cold_starts, outcome.wasted_gb_s), (1, 0.0));
    // From the start of the first call to the end of the second one, the minute in which both run counted once.
    assert!((outcome.average_gb - 150.0 / 600.0).abs() < 1e-9);
}

#[test]
fn what_is_held_at_the_end_is_counted_to_the_end() {
    assert_eq!(fixed(&trace(3, &[&[(1, 1)]]), 600).wasted_gb_s, 120.0);
}

#[test]
fn the_fullest_minute_is_the_peak_and_each_function_counts_by_itself() {
    let outcome = fixed(&trace(10, &[&[(0, 1)], &[(1, 1)], &[]]), 120);
    assert!((outcome.peak_gb - 2.0).abs() < 1e-9, "{outcome:?}");
    assert_eq!((outcome.calls, outcome.cold_starts, outcome.cold_share_p75), (2, 2, 1.0));
}

#[test]
fn nothing_is_nothing() {
    let outcome = fixed(&trace(0, &[]), 60);
    assert_eq!((outcome.cold_share(), outcome.average_gb, outcome.cold_share_p75), (0.0, 0.0, 0.0));
}

#[test]
fn parts_add_up_and_every_minute_is_told() {
    use crate::simulate::trace::PART_FUNCTIONS;
    let mut trace = Trace::new(3);
    for _ in 0..=PART_FUNCTIONS {
        trace.push(Traits { memory_mb: 1024.0, duration_ms: 0.0 });
    }
    for function in [0, PART_FUNCTIONS] {
        (0..3).for_each(|minute| trace.add(minute, function, 1));
    }
    let mut told = Vec::new();
    let outcome = replay(&trace, |_| Fixed(60), 2, &mut |minute| told.push(minute));
    assert_eq!((outcome.calls, outcome.cold_starts, outcome.wasted_gb_s), (6, 2, 360.0));
    assert!((outcome.peak_gb - 2.0).abs() < 1e-9);
    assert_eq!(told, [0, 1, 1, 2, 2, 3]);
}
