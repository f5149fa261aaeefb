//! Instances that were started with what does not hold any more, and those that take their place.
//!
//! An outdated instance ends the calls that it runs and gets others only as long as no newer one is there, so no call waits
//! longer or fails because of the replacement. Starts that had begun before are outdated when they arrive.

use std::sync::Arc;

use alula_runtime::Instance;

use super::{State, VersionPool, breeding};

impl VersionPool {
    /// What is there and what is being started is outdated from now on, the zygote too; says how many instances are.
    pub(crate) fn outdate(&self) -> usize {
        let mut state = self.state();
        state.era += 1;
        state.breeding = breeding::Breeding::None;
        state.entries.iter_mut().for_each(|entry| entry.is_outdated = true);
        state.entries.len()
    }

    /// What a start that begins now belongs to.
    pub(crate) fn era(&self) -> u64 {
        self.state().era
    }

    /// Removes the outdated instances that are not needed any more: those without calls, once a newer one is there or none
    /// of the version has calls. The caller stops them. Says too whether a newer one must be started.
    pub(crate) fn take_outdated(&self) -> (Vec<Arc<dyn Instance>>, bool) {
        let mut state = self.state();
        let has_calls = state.entries.iter().any(|entry| entry.taken > 0) || !state.line.is_empty();
        let has_newer = state.has_newer();
        let mut taken = Vec::new();
        if has_newer || !has_calls {
            let outdated = state.entries.extract_if(.., |entry| entry.is_outdated && entry.taken == 0);
            taken = outdated.map(|entry| entry.instance).collect();
        }
        let needs_newer =
            !has_newer && state.starting == 0 && state.entries.iter().any(|entry| entry.is_outdated);
        (taken, needs_newer)
    }
}

impl State {
    /// Whether an instance is there that is not outdated.
    pub(super) fn has_newer(&self) -> bool {
        self.entries.iter().any(|entry| !entry.is_outdated && !entry.instance.is_gone())
    }

    /// Instances that count against what the spec allows: outdated ones are about to go.
    pub(super) fn counted(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_outdated).count()
    }
}
