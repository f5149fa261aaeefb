//! The zygote of a version: the process that its instances are forked from, where it has one.
//!
//! One is made when a version has been started twice and loading its code took long enough that a fork is worth the
//! memory of one more process. It counts as memory of this node but never makes anybody give way for it, and is the
//! first that gives way to an instance. A version whose code cannot be forked is not tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alula_model::Tier;
use alula_runtime::{Started, Zygote};
use tokio::time::Instant;

use super::VersionPool;
use crate::ledger::Share;
use crate::view::{InstanceState, InstanceView};

/// Loading that takes less than this is not worth a process that is held for it: a fork takes some milliseconds too.
const INIT_WORTH: Duration = Duration::from_millis(50);
/// Starts of a version from which on it is likely to be started again.
const STARTS_WORTH: u32 = 2;
/// How long a zygote is held without an instance and without a start.
const UNUSED_MAX: Duration = Duration::from_secs(10 * 60);
/// All that one zygote forks have the layout of their memory in common, so another one takes its place after so long...
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// ... or after so many forks.
const FORKS_MAX: u32 = 1_000;

/// Where a version is with its zygote.
#[derive(Debug, Default)]
pub(super) enum Breeding {
    #[default]
    None,
    Making,
    Ready(Bred),
}

impl Breeding {
    /// Whether the next start comes from a zygote.
    pub(super) fn has_zygote(&self) -> bool {
        matches!(self, Self::Ready(bred) if !bred.zygote.is_gone())
    }
}

/// A zygote and what it takes.
#[derive(Debug)]
pub(super) struct Bred {
    zygote: Arc<dyn Zygote>,
    share: Share,
    made_at: Instant,
    used_at: Instant,
    forks: u32,
}

/// How often a version was started, and whether it can have a zygote: remembered while it has no instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forking {
    pub(crate) version: u64,
    count: u32,
    is_unfit: bool,
}

impl Forking {
    /// One more start of `version`; the first of a version that follows another one forgets that.
    pub(crate) fn count(&mut self, version: u64, started: &Started) {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        self.count = match started.tier {
            Tier::Zygote => self.count,
            _ => self.count.saturating_add(1),
        };
    }

    /// Whether a zygote of `version` is worth its memory, by what `started` took.
    pub(crate) fn are_worth_a_zygote(self, version: u64, started: &Started) -> bool {
        self.version == version
            && !self.is_unfit
            && self.count >= STARTS_WORTH
            && started.tier != Tier::Zygote
            && started.init >= INIT_WORTH
    }

    /// `version` can have no zygote.
    pub(crate) fn unfit(&mut self, version: u64) {
        *self = Self { version, is_unfit: true, ..*self };
    }

    /// The zygote could not be made or used this time: there must be further starts before it is tried again.
    pub(crate) fn start_over(&mut self) {
        self.count = 0;
    }
}

impl VersionPool {
    /// Whether nobody else makes a zygote or has made one; from now on somebody does.
    pub(crate) fn claim_breeding(&self) -> bool {
        let mut state = self.state();
        let claimed = !state.is_closed && matches!(state.breeding, Breeding::None);
        if claimed {
            state.breeding = Breeding::Making;
        }
        claimed
    }

    /// The zygote that was claimed is here, begun in `era`, or there is none.
    pub(crate) fn bred(&self, made: Option<(Arc<dyn Zygote>, Share)>, era: u64, now: Instant) {
        let mut state = self.state();
        let is_wanted = !state.is_closed && matches!(state.breeding, Breeding::Making) && era == state.era;
        state.breeding = match made.filter(|_| is_wanted) {
            Some((zygote, share)) => {
                Breeding::Ready(Bred { zygote, share, made_at: now, used_at: now, forks: 0 })
            }
            None => Breeding::None,
        };
    }

    /// The zygote, for one start.
    pub(crate) fn zygote(&self, now: Instant) -> Option<Arc<dyn Zygote>> {
        let mut state = self.state();
        let Breeding::Ready(bred) = &mut state.breeding else { return None };
        if bred.zygote.is_gone() {
            state.breeding = Breeding::None;
            return None;
        }
        (bred.used_at, bred.forks) = (now, bred.forks + 1);
        Some(Arc::clone(&bred.zygote))
    }

    /// Since when the zygote has not been used, where there is one.
    pub(crate) fn zygote_used_at(&self) -> Option<Instant> {
        match &self.state().breeding {
            Breeding::Ready(bred) => Some(bred.used_at),
            Breeding::None | Breeding::Making => None,
        }
    }

    /// Lets the zygote go; false where there was none.
    pub(crate) fn let_zygote_go(&self) -> bool {
        let mut state = self.state();
        let has_one = matches!(state.breeding, Breeding::Ready(_));
        if has_one {
            state.breeding = Breeding::None;
        }
        has_one
    }

    /// Looks at the zygote: counts its memory, and lets it go where it is worn or not used any more.
    pub(crate) fn look_at_zygote(&self, now: Instant) -> Option<ZygoteEnd> {
        // What it uses is asked of the kernel: not under the lock that calls need.
        let zygote = match &self.state().breeding {
            Breeding::Ready(bred) => Arc::clone(&bred.zygote),
            Breeding::None | Breeding::Making => return None,
        };
        let usage = zygote.usage();
        let mut state = self.state();
        let has_instances = !state.entries.is_empty();
        let Breeding::Ready(bred) = &mut state.breeding else { return None };
        bred.share.observe(usage.memory_bytes);
        let end = if zygote.is_gone() {
            ZygoteEnd::Gone
        } else if now.duration_since(bred.made_at) >= AGE_MAX || bred.forks >= FORKS_MAX {
            ZygoteEnd::Worn
        } else if !has_instances && now.duration_since(bred.used_at) >= UNUSED_MAX {
            ZygoteEnd::Unused
        } else {
            return None;
        };
        state.breeding = Breeding::None;
        Some(end)
    }

    pub(super) fn zygote_view(&self, now: Instant) -> Option<InstanceView> {
        let state = self.state();
        let Breeding::Ready(bred) = &state.breeding else { return None };
        let millis =
            |since: Instant| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        Some(InstanceView {
            key: self.plan.key.clone(),
            id: bred.zygote.id().clone(),
            tier: Tier::Cold,
            state: InstanceState::Zygote,
            in_flight: 0,
            calls: 0,
            age_ms: millis(bred.made_at),
            idle_ms: millis(bred.used_at),
            usage: bred.zygote.usage(),
        })
    }
}

/// Why a zygote is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZygoteEnd {
    /// An instance needed the memory.
    GaveWay,
    /// Nothing was started for a long time.
    Unused,
    /// It has forked often or for long, and is replaced.
    Worn,
    /// It has ended by itself, or did not fork.
    Gone,
}

impl fmt::Display for ZygoteEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GaveWay => "the zygote gave way: an instance needed the memory",
            Self::Unused => "let the zygote go: nothing was started for ten minutes",
            Self::Worn => "let the zygote go: it has served long; the next start makes another",
            Self::Gone => "the zygote has ended or could not be forked; starts load the code again",
        })
    }
}
