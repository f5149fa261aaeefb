//! Many threads at once: bounds hold exactly and nothing is lost.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Call, guard};

#[tokio::test]
async fn bounds_hold_on_many_threads_and_all_is_given_back() {
    let guard = guard(r#"{"node": {"in_flight": 40}, "namespaces": {"small": {"in_flight": 3}}}"#);
    let (small, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (guard, small, most) = (&guard, &small, &most);
            scope.spawn(move || {
                let name = if thread % 2 == 0 { "small/f" } else { "large/f" };
                let call = Call::of(name).limited(r#"{"per_caller": {"in_flight": 100}}"#);
                for _ in 0..2_000 {
                    let Ok(admission) = call.admit(guard) else { continue };
                    if name == "small/f" {
                        most.fetch_max(small.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        small.fetch_sub(1, Ordering::SeqCst);
                    }
                    drop(admission);
                }
            });
        }
    });
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(guard.in_flight(), 0);
    let all: Vec<_> = (0..3).map(|_| Call::of("small/f").admit(&guard).unwrap()).collect();
    assert!(Call::of("small/f").admit(&guard).is_err());
    drop(all);
}
