//! The policy by itself.

use super::*;

const MB: u64 = 1024 * 1024;

/// A function that was called after each of these idle times, in seconds.
fn called(policy: &mut KeepAlive, idles_s: &[u64]) -> History {
    let mut history = History::default();
    policy.first_call(&history);
    idles_s.iter().for_each(|idle| policy.called_after(&mut history, Duration::from_secs(*idle)));
    history
}

fn held_s(windows: &Windows) -> u32 {
    windows.spans().iter().map(|span| span.until_s - span.from_s).sum()
}

#[test]
fn a_timer_is_let_go_and_made_ready_just_before_the_next_call() {
    let mut policy = KeepAlive::default();
    let history = called(&mut policy, &[3_600; 8]);
    let windows = policy.windows(&history, 256 * MB, 5.0);
    let [first, ahead] = windows.spans() else { panic!("{windows:?}") };
    assert!(first.until_s < 900, "{windows:?}");
    assert!(ahead.from_s > 3_500 && ahead.from_s < 3_600, "{windows:?}");
    assert!(ahead.until_s > 3_600 && ahead.until_s < 4_200, "{windows:?}");
}

#[test]
fn what_is_called_every_minute_is_held_until_the_next_call() {
    let mut policy = KeepAlive::default();
    let history = called(&mut policy, &[55, 62, 48, 70, 58, 61, 66]);
    let windows = policy.windows(&history, 256 * MB, 1.0);
    for idle_s in [1, 30, 60, 75] {
        assert!(windows.is_held_at(Duration::from_secs(idle_s)), "{windows:?}");
    }
}

#[test]
fn the_dearer_memory_is_the_shorter_it_is_held() {
    let mut policy = KeepAlive::default();
    let history = called(&mut policy, &[20, 400, 90, 1_500, 30, 5_000]);
    let held = |memory, scarcity| held_s(&policy.windows(&history, memory, scarcity));
    assert!(held(128 * MB, 1.0) > held(1024 * MB, 1.0));
    assert!(held(128 * MB, 1.0) > held(128 * MB, 20.0));
    assert_eq!(held(1024 * MB, 1e9), 10, "the least is kept at any price");
}

#[test]
fn no_span_is_longer_than_the_bound() {
    let options = KeepAliveOptions { max: Duration::from_secs(120), ..KeepAliveOptions::default() };
    let mut policy = KeepAlive::new(options);
    let history = called(&mut policy, &[300, 400, 500, 600, 700]);
    let windows = policy.windows(&history, MB, 0.0);
    assert!(windows.spans().iter().all(|span| span.until_s - span.from_s <= 120), "{windows:?}");
}

#[test]
fn a_new_function_is_treated_as_those_before_it_were() {
    let (mut soon, mut never) = (KeepAlive::default(), KeepAlive::default());
    for _ in 0..200 {
        called(&mut soon, &[240]);
        called(&mut never, &[]);
    }
    let new = History::default();
    let at = Duration::from_secs(240);
    assert!(soon.windows(&new, 256 * MB, 1.0).is_held_at(at));
    assert!(!never.windows(&new, 256 * MB, 1.0).is_held_at(at));
}
