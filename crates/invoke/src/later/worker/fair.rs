//! Whose turn it is: stride scheduling, in levels.
//!
//! Everybody has a pass. The lowest pass is next, and what is taken moves a pass on by the amount over its weight, so that
//! over time everybody gets by weight, however much waits behind them. Who was away comes back at the present, with
//! no credit. Waldspurger and Weihl, "Stride Scheduling" (1995).

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use alula_model::Name;

use crate::later::{Lane, LaneClass};

/// Steps of a pass for one unit at weight one: fine enough for weights up to thousands.
const STRIDE: u64 = 1 << 20;

/// One level.
#[derive(Debug)]
struct Turns<K> {
    ready: BTreeSet<(u64, K)>,
    passes: HashMap<K, u64>,
    /// The pass of who was last served: where newcomers begin.
    present: u64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { ready: BTreeSet::new(), passes: HashMap::new(), present: 0 }
    }
}

impl<K: Ord + Hash + Clone> Turns<K> {
    fn enter(&mut self, key: &K) {
        let pass = self.passes.entry(key.clone()).or_insert(0);
        // Who is in line already keeps its place: a second one would outlive the first.
        if !self.ready.contains(&(*pass, key.clone())) {
            *pass = self.present.max(*pass);
            self.ready.insert((*pass, key.clone()));
        }
    }

    fn leave(&mut self, key: &K) {
        if let Some(pass) = self.passes.get(key) {
            self.ready.remove(&(*pass, key.clone()));
        }
    }

    fn charge(&mut self, key: &K, amount: u64, weight: u64) {
        let Some(pass) = self.passes.get_mut(key) else { return };
        let was_ready = self.ready.remove(&(*pass, key.clone()));
        self.present = self.present.max(*pass);
        *pass += (amount * STRIDE / weight.max(1)).max(1);
        if was_ready {
            self.ready.insert((*pass, key.clone()));
        }
        self.forget_the_idle();
    }

    fn order(&self) -> impl Iterator<Item = &K> {
        self.ready.iter().map(|(_, key)| key)
    }

    /// Who is not ahead of the present needs no memory: newcomers begin there as well.
    fn forget_the_idle(&mut self) {
        /// Passes without a turn that are kept before it is worth going through them.
        const IDLE_MAX: usize = 1_024;
        if self.passes.len() > 2 * self.ready.len() + IDLE_MAX {
            let (ready, present) = (&self.ready, self.present);
            self.passes.retain(|key, pass| *pass > present || ready.contains(&(*pass, key.clone())));
        }
    }
}

/// Chooses among lanes: first the class, then the namespace, then the function.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    classes: Turns<LaneClass>,
    namespaces: HashMap<LaneClass, Turns<Name>>,
    functions: HashMap<(LaneClass, Name), Turns<Name>>,
}

/// The shares by which a lane is charged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) namespace: u64,
    pub(super) function: u64,
}

impl Chooser {
    /// A lane has something to claim.
    pub(super) fn enter(&mut self, lane: &Lane) {
        let namespace = (lane.class, lane.namespace.clone());
        self.functions.entry(namespace).or_default().enter(&lane.function);
        self.namespaces.entry(lane.class).or_default().enter(&lane.namespace);
        self.classes.enter(&lane.class);
    }

    /// A lane has nothing to claim, or may not.
    pub(super) fn leave(&mut self, lane: &Lane) {
        let namespace = (lane.class, lane.namespace.clone());
        let Some(functions) = self.functions.get_mut(&namespace) else { return };
        functions.leave(&lane.function);
        if !functions.ready.is_empty() {
            return;
        }
        let Some(namespaces) = self.namespaces.get_mut(&lane.class) else { return };
        namespaces.leave(&lane.namespace);
        if namespaces.ready.is_empty() {
            self.classes.leave(&lane.class);
        }
    }

    /// The lane whose turn it is, of the classes that may.
    pub(super) fn next(&self, may: impl Fn(LaneClass) -> bool) -> Option<Lane> {
        let class = *self.classes.order().find(|class| may(**class))?;
        let namespace = self.namespaces.get(&class)?.order().next()?.clone();
        let function = self.functions.get(&(class, namespace.clone()))?.order().next()?.clone();
        Some(Lane { namespace, function, class })
    }

    /// `amount` messages of a lane were taken.
    pub(super) fn charge(&mut self, lane: &Lane, amount: u64, weights: Weights) {
        self.classes.charge(&lane.class, amount, lane.class.weight());
        if let Some(namespaces) = self.namespaces.get_mut(&lane.class) {
            namespaces.charge(&lane.namespace, amount, weights.namespace);
        }
        if let Some(functions) = self.functions.get_mut(&(lane.class, lane.namespace.clone())) {
            functions.charge(&lane.function, amount, weights.function);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn lane(text: &str) -> Lane {
        Lane::parse(text).unwrap()
    }

    const EVEN: Weights = Weights { namespace: 10, function: 10 };

    /// Serves `turns` single messages and counts whose they were.
    fn serve(
        chooser: &mut Chooser,
        turns: usize,
        weights: impl Fn(&Lane) -> Weights,
    ) -> BTreeMap<String, usize> {
        let mut served = BTreeMap::new();
        for _ in 0..turns {
            let next = chooser.next(|_| true).expect("somebody is ready");
            chooser.charge(&next, 1, weights(&next));
            *served.entry(next.to_string()).or_default() += 1;
        }
        served
    }

    #[test]
    fn a_namespace_with_many_functions_gets_no_more_than_one_with_a_single_one() {
        let mut chooser = Chooser::default();
        (0..9).for_each(|n| chooser.enter(&lane(&format!("big/f{n}/general"))));
        chooser.enter(&lane("small/f/general"));
        let served = serve(&mut chooser, 1_800, |_| EVEN);
        assert_eq!(served["small/f/general"], 900);
        assert!((0..9).all(|n| served[&format!("big/f{n}/general")] == 100), "{served:?}");
    }

    #[test]
    fn who_comes_later_waits_for_one_turn_not_for_what_others_have_had() {
        let mut chooser = Chooser::default();
        chooser.enter(&lane("flood/f/general"));
        serve(&mut chooser, 10_000, |_| EVEN);
        chooser.enter(&lane("late/f/general"));
        let served = serve(&mut chooser, 10, |_| EVEN);
        assert!((4..=6).contains(&served["late/f/general"]), "{served:?}");
    }

    #[test]
    fn being_away_gives_no_credit() {
        let mut chooser = Chooser::default();
        let (steady, idle) = (lane("a/steady/general"), lane("a/idle/general"));
        chooser.enter(&steady);
        chooser.enter(&idle);
        chooser.leave(&idle);
        serve(&mut chooser, 5_000, |_| EVEN);
        chooser.enter(&idle);
        let served = serve(&mut chooser, 100, |_| EVEN);
        assert!((49..=51).contains(&served["a/idle/general"]), "{served:?}");
    }

    #[test]
    fn weights_divide_and_classes_have_their_own() {
        let mut chooser = Chooser::default();
        chooser.enter(&lane("a/heavy/general"));
        chooser.enter(&lane("a/light/general"));
        let weights = |lane: &Lane| Weights {
            function: if lane.function.as_str() == "heavy" { 30 } else { 10 },
            ..EVEN
        };
        let served = serve(&mut chooser, 400, weights);
        assert!((299..=301).contains(&served["a/heavy/general"]), "{served:?}");
        chooser.enter(&lane("b/x/retry"));
        let served = serve(&mut chooser, 500, |_| EVEN);
        assert!((99..=101).contains(&served["b/x/retry"]), "retries get one turn in five: {served:?}");
    }

    #[test]
    fn entering_again_leaves_no_place_behind() {
        let mut chooser = Chooser::default();
        let (one, two) = (lane("a/one/general"), lane("a/two/general"));
        chooser.enter(&one);
        serve(&mut chooser, 10, |_| EVEN);
        chooser.enter(&lane("b/other/general"));
        serve(&mut chooser, 10, |_| EVEN);
        // The namespace is in line for its first function when the second one comes.
        chooser.enter(&two);
        chooser.leave(&one);
        chooser.leave(&two);
        assert_eq!(chooser.next(|_| true), Some(lane("b/other/general")));
    }

    proptest::proptest! {
        /// Lanes enter, leave and are served in any order: somebody is next exactly while somebody is in line.
        #[test]
        fn somebody_is_next_while_somebody_is_in_line(steps in proptest::collection::vec((0..3_u8, 0..12_usize), 1..200)) {
            let lanes: Vec<_> = (0..12)
                .map(|n| lane(&format!("n{}/f{}/{}", n % 2, n % 3, ["general", "retry"][n % 4 / 2])))
                .collect();
            let (mut chooser, mut in_line) = (Chooser::default(), std::collections::BTreeSet::new());
            for (what, which) in steps {
                let lane = &lanes[which];
                match what {
                    0 => {
                        chooser.enter(lane);
                        in_line.insert(lane.to_string());
                    }
                    1 => {
                        chooser.leave(lane);
                        in_line.remove(&lane.to_string());
                    }
                    _ => {
                        if let Some(next) = chooser.next(|_| true) {
                            chooser.charge(&next, 1 + which as u64, EVEN);
                        }
                    }
                }
                let next = chooser.next(|_| true).map(|lane| lane.to_string());
                proptest::prop_assert_eq!(next.is_some(), !in_line.is_empty());
                proptest::prop_assert!(next.is_none_or(|next| in_line.contains(&next)));
            }
        }
    }

    #[test]
    fn a_class_that_may_not_is_passed_over() {
        let mut chooser = Chooser::default();
        chooser.enter(&lane("a/f/scheduled"));
        chooser.enter(&lane("a/f/retry"));
        assert_eq!(chooser.next(|class| class != LaneClass::Scheduled), Some(lane("a/f/retry")));
        chooser.leave(&lane("a/f/retry"));
        assert_eq!(chooser.next(|class| class != LaneClass::Scheduled), None);
    }
}
