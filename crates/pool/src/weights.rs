//! How much of the CPU an instance gets when there is not enough for all, from what it has been doing.
//!
//! An owner states memory, and the CPU weight follows from it. That weight is adjusted while the instance lives, within
//! half and twice of it:
//!
//! - an instance that could use more of a core than it gets while the node has some to spare is given more, so that what
//!   else wakes up does not take its part at once;
//! - one that nobody has called for a while is given less, down to half, and has all of it back with its next call;
//! - where the node has nothing to spare nobody is preferred: what the owners have stated decides.
//!
//! Weights matter only where processes wait for the CPU; nothing here takes CPU away that nobody else wants.

use std::time::Duration;

/// The weight that follows from the memory, in percent.
pub(crate) const STATED: u32 = 100;
/// Bounds of the adjustment, in percent of what was stated: large enough to be felt, too small to starve anybody.
const LEAST: u32 = 50;
const MOST: u32 = 200;
/// A step of the adjustment, in percent of the weight: four looks from what was stated to either bound.
const STEP: u32 = 20;
/// From so long an idle time on an instance is given less.
const QUIET_AFTER: Duration = Duration::from_secs(30);
/// Share of all cores from which on the node has nothing to spare.
const SPARE_BELOW: f32 = 0.8;

/// What an instance has been doing since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Nothing for so long.
    Idle(Duration),
    /// Something.
    Working,
    /// As much as a core can do.
    Pressed,
}

/// Whether the node has CPU that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spare {
    Some,
    None,
}

impl Spare {
    /// `used` cores of `cores`.
    pub(crate) fn of(used: f32, cores: usize) -> Self {
        if used < cores as f32 * SPARE_BELOW { Self::Some } else { Self::None }
    }
}

/// The next weight after `weight`, both in percent of what follows from the memory.
pub(crate) fn next(weight: u32, doing: Doing, spare: Spare) -> u32 {
    match (doing, spare) {
        (Doing::Idle(idle), _) if idle >= QUIET_AFTER => (weight - weight * STEP / 100).clamp(LEAST, MOST),
        (Doing::Pressed, Spare::Some) => (weight.max(STATED) + weight * STEP / 100).clamp(STATED, MOST),
        (Doing::Idle(_) | Doing::Working | Doing::Pressed, _) if weight > STATED => {
            (weight - weight * STEP / 100).max(STATED)
        }
        _ => STATED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight after many equal looks.
    fn after(weight: u32, doing: Doing, spare: Spare) -> u32 {
        (0..20).fold(weight, |weight, _| next(weight, doing, spare))
    }

    #[test]
    fn every_weight_stays_within_its_bounds_and_goes_where_it_belongs() {
        let quiet = Doing::Idle(QUIET_AFTER);
        for from in [LEAST, STATED, MOST] {
            assert_eq!(after(from, Doing::Pressed, Spare::Some), MOST);
            assert_eq!(after(from, Doing::Pressed, Spare::None), STATED);
            assert_eq!(after(from, Doing::Working, Spare::Some), STATED);
            assert_eq!(after(from, quiet, Spare::Some), LEAST);
        }
    }

    #[test]
    fn a_call_brings_everything_back_at_once_and_what_was_won_goes_by_steps() {
        assert_eq!(next(LEAST, Doing::Working, Spare::None), STATED);
        let down = next(MOST, Doing::Working, Spare::None);
        assert!(down > STATED && down < MOST, "{down}");
        assert_eq!(next(STATED, Doing::Idle(Duration::from_secs(1)), Spare::Some), STATED);
    }

    #[test]
    fn a_node_has_cpu_to_spare_until_most_cores_are_in_use() {
        assert_eq!((Spare::of(1.5, 2), Spare::of(1.7, 2)), (Spare::Some, Spare::None));
    }
}
