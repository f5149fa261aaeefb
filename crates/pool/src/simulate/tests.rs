//! Whole simulations.

use super::*;

const DAY: usize = 1_440;

fn report(recipe: Recipe) -> Report {
    simulate(&generate(recipe), KeepAliveOptions::default(), 1, &mut |_| {})
}

#[test]
fn the_same_trace_gives_the_same_report() {
    let recipe = Recipe { functions: 150, minutes: DAY / 2, seed: 11, mix: Mix::Cloud };
    let on_three = simulate(&generate(recipe), KeepAliveOptions::default(), 3, &mut |_| {});
    assert_eq!(report(recipe), on_three);
}

#[test]
fn ours_has_fewer_cold_starts_than_every_other_at_equal_memory() {
    for mix in [Mix::Cloud, Mix::Rare, Mix::Timers, Mix::Bursty, Mix::HeavyTailed] {
        let report = report(Recipe { functions: 80, minutes: DAY, seed: 1, mix });
        assert_eq!(report.comparisons.len(), 4);
        for Comparison { other, ours } in &report.comparisons {
            let (theirs, ours) = (&other.outcome, &ours.outcome);
            assert!(
                ours.wasted_gb_s <= theirs.wasted_gb_s && ours.cold_starts < theirs.cold_starts,
                "{mix:?}, {:?}: {theirs:?} and ours {ours:?}",
                other.policy
            );
        }
    }
}

#[test]
fn a_budget_is_kept() {
    let trace = generate(Recipe { functions: 200, minutes: DAY, seed: 2, mix: Mix::Cloud });
    let usual = simulate(&trace, KeepAliveOptions::default(), 1, &mut |_| {}).usual.outcome;
    let budget_gb = usual.average_gb * 0.8;
    let line = within_budget(&trace, KeepAliveOptions::default(), budget_gb, 1, &mut |_| {}).unwrap();
    assert!(line.outcome.average_gb <= budget_gb * 1.01, "{line:?}");
    assert!(line.outcome.average_gb > budget_gb * 0.9, "{line:?}");
    assert_eq!(within_budget(&trace, KeepAliveOptions::default(), 0.0, 1, &mut |_| {}), None);
}

#[test]
fn a_trace_of_nothing_is_simulated() {
    let report = report(Recipe { functions: 0, minutes: 0, seed: 1, mix: Mix::Cloud });
    assert_eq!(report.usual.outcome, Outcome::default());
}
