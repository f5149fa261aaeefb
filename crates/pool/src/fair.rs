//! What is kept of the node for namespaces that have less than their share, so that one that floods does not take the last
//! instance or the last of the memory.
//!
//! A call that runs is never ended for another, and the instances of a namespace that floods are never idle. So what
//! others are to have must not be taken in the first place: beyond its share, an equal part with one more for who comes
//! next, a namespace leaves a part of the node alone, and makes room for its instances among its own. As long as only one
//! namespace has functions nothing is kept.

use crate::ledger::Scope;

/// This part of the node is for those below their share: one that floods alone loses an eighth by it, and those who come
/// find some instances at once.
const KEPT_PART: u64 = 8;

/// How far the node may be filled, and whose idle instances give way for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) most: u64,
    pub(crate) gives_way: Scope,
}

/// How far the namespace of `own_scope`, which has `own` of a node's `ceiling`, may fill it. `active` namespaces have
/// instances, itself included; `namespaces` have functions.
pub(crate) fn reach(ceiling: u64, own: u64, active: u64, namespaces: u64, own_scope: &Scope) -> Reach {
    let share = ceiling / (active + 1);
    if namespaces <= 1 || own < share {
        return Reach { most: ceiling, gives_way: Scope::Node };
    }
    Reach { most: ceiling - ceiling / KEPT_PART, gives_way: own_scope.clone() }
}

#[cfg(test)]
mod tests {
    use alula_model::Name;
    use proptest::prelude::*;

    use super::*;

    fn scope(number: usize) -> Scope {
        Scope::Namespace(Name::new(&format!("n{number}")).unwrap())
    }

    #[test]
    fn a_namespace_alone_takes_all_and_one_of_several_leaves_a_part() {
        assert_eq!(reach(800, 799, 1, 1, &scope(0)).most, 800);
        assert_eq!(reach(800, 399, 1, 2, &scope(0)).most, 800);
        assert_eq!(reach(800, 400, 1, 2, &scope(0)), Reach { most: 700, gives_way: scope(0) });
        assert_eq!(reach(800, 399, 1, 2, &scope(0)).gives_way, Scope::Node);
    }

    proptest! {
        /// Whatever the first one does: as long as the others together hold less than what is kept, each of them that is
        /// below its share gets what it asks for.
        #[test]
        fn who_is_below_its_share_finds_what_is_kept(
            ceiling in 16_u64..2_000, asks in prop::collection::vec(0_usize..6, 1..4_000),
        ) {
            let mut own = [0_u64; 6];
            for who in asks {
                let active = own.iter().enumerate().filter(|(other, own)| *other == who || **own > 0).count() as u64;
                let reach = reach(ceiling, own[who], active, 6, &scope(who));
                let total: u64 = own.iter().sum();
                let is_let = total < reach.most;
                let quiet: u64 = own[1..].iter().sum();
                if who > 0 && own[who] < ceiling / (active + 1) && quiet < ceiling / KEPT_PART {
                    prop_assert!(is_let, "{own:?} of {ceiling}");
                }
                own[who] += u64::from(is_let);
                prop_assert!(own.iter().sum::<u64>() <= ceiling);
            }
        }
    }
}
