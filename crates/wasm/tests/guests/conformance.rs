//! The suite that every back end passes.

use alula_runtime::conformance::{Fixtures, Traits, check};

use crate::world::{World, program};

#[tokio::test]
async fn the_back_end_keeps_the_contract() {
    let world = World::new();
    let plan = world.plan(&program(), |spec| {
        spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
    });
    let fixtures = Fixtures {
        plan,
        broken: None,
        never_ready: None,
        log: world.log.clone(),
        has: Traits {
            processes: true,
            streams_both_ways: true,
            limits_responses: false,
            refuses_garbage: true,
        },
    };
    check(&world.backend, &fixtures).await;
}

#[tokio::test]
async fn guests_that_run_several_calls_keep_the_contract_too() {
    let world = World::new();
    let plan = world.plan(&program(), |spec| {
        spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
        spec.calls_per_guest = 1_000;
    });
    let fixtures = Fixtures {
        plan,
        broken: None,
        never_ready: None,
        log: world.log.clone(),
        has: Traits {
            processes: true,
            streams_both_ways: true,
            limits_responses: false,
            refuses_garbage: true,
        },
    };
    check(&world.backend, &fixtures).await;
}
