//! One instance in the pool of its version, and which of them takes a call.

use std::sync::Arc;
use std::time::Duration;

use alula_model::Tier;
use alula_runtime::{Instance, Usage, VersionPlan};
use tokio::time::Instant;

use super::State;
use crate::lease::Place;
use crate::ledger::Share;
use crate::view::{InstanceState, InstanceView};
use crate::weights::{self, Doing, Spare};

/// Share of an instance's memory, or of a core, from which on it is under load.
const LOAD_SHARE: f32 = 0.8;
/// How often an instance without calls is asked what it uses.
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) instance: Arc<dyn Instance>,
    /// What it was made from.
    pub(super) tier: Tier,
    pub(super) taken: u32,
    pub(super) calls: u64,
    pub(super) ready_at: Instant,
    /// When it got a call while it had none.
    pub(super) busy_since: Instant,
    /// When its last call ended.
    pub(super) idle_since: Instant,
    /// Whether a call that was sent ahead came back, and no other has ended since.
    pub(super) is_held_up: bool,
    pub(super) share: Share,
    /// The last look at what it uses; none before the first one.
    pub(super) look: Option<Look>,
    /// Its CPU weight, in percent of what follows from its memory.
    pub(super) weight: u32,
    /// Whether it used most of its memory or of a core at the last look.
    pub(super) is_loaded: bool,
    /// Whether it was started with what does not hold any more.
    pub(super) is_outdated: bool,
    /// Whether it was told that no call comes, and none has come since.
    pub(super) is_resting: bool,
}

/// What an instance was found to use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    cpu_us: u64,
    /// Cores that it used up to this look from the one before.
    cores: f32,
}

impl State {
    /// The instance that takes the next call, and where. A free slot is better than a place behind a call. Calls are kept
    /// together, so that what is not needed becomes idle and can go, but for instances under load: they get one only
    /// where the others have no slot, and among them the one with the fewest calls does.
    pub(super) fn find_place(&self, concurrency: u32, now: Instant) -> Option<(usize, Place)> {
        let (mut loaded, mut ahead): (Option<(u32, usize)>, _) = (None, None);
        for (index, entry) in self.entries.iter().enumerate() {
            match self.place_in(index, concurrency, now) {
                Some(Place::Slot) if entry.is_loaded && entry.taken > 0 => {
                    let this = (entry.taken, index);
                    loaded = Some(loaded.map_or(this, |best| this.min(best)));
                }
                Some(Place::Slot) => return Some((index, Place::Slot)),
                Some(Place::Ahead) if ahead.is_none() => ahead = Some((index, Place::Ahead)),
                _ => {}
            }
        }
        loaded.map(|(_, index)| (index, Place::Slot)).or(ahead)
    }

    /// What the instance has room for.
    pub(super) fn place_in(&self, index: usize, concurrency: u32, now: Instant) -> Option<Place> {
        let entry = &self.entries[index];
        if entry.instance.is_gone() || (entry.is_outdated && self.has_newer()) {
            None
        } else if entry.taken < concurrency {
            Some(Place::Slot)
        } else {
            let takes_another = entry.taken - concurrency < self.observed.ahead_max()
                && !entry.is_held_up
                && !self.observed.is_unusually_long(entry.running_for(now))
                && entry.instance.takes_ahead();
            takes_another.then_some(Place::Ahead)
        }
    }
}

impl Entry {
    pub(super) fn take(&mut self, now: Instant) -> Arc<dyn Instance> {
        if self.taken == 0 {
            self.busy_since = now;
        }
        self.taken += 1;
        self.is_resting = false;
        self.calls += 1;
        Arc::clone(&self.instance)
    }

    /// How long the calls have been running, at least, that it runs: since it was idle, or since another one ended.
    pub(super) fn running_for(&self, now: Instant) -> Duration {
        match self.taken {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.busy_since.max(self.idle_since)),
        }
    }

    /// Whether to ask the kernel again what it uses: what has had no call since the last time is left alone for a while.
    pub(super) fn is_look_due(&self, now: Instant) -> bool {
        let Some(look) = self.look else { return true };
        self.taken > 0 || self.idle_since >= look.at || now.duration_since(look.at) >= LOOK_IDLE_EVERY
    }

    /// Takes in what it uses; says how many cores it has used since the last look.
    pub(super) fn looked_at(&mut self, usage: Usage, stated_bytes: u64, now: Instant) -> f32 {
        // What its start took is no load, so the first look only counts from then on.
        let cores = self.look.map_or(0.0, |last| {
            let passed_us = now.duration_since(last.at).as_micros() as f32;
            if passed_us > 0.0 {
                usage.cpu_us.saturating_sub(last.cpu_us) as f32 / passed_us
            } else {
                last.cores
            }
        });
        self.look = Some(Look { at: now, cpu_us: usage.cpu_us, cores });
        self.is_loaded =
            usage.memory_bytes as f64 >= stated_bytes as f64 * f64::from(LOAD_SHARE) || cores >= LOAD_SHARE;
        if usage.memory_bytes > 0 {
            self.share.observe(usage.memory_bytes);
        }
        cores
    }

    /// Adjusts the CPU weight; the new one where it is another.
    pub(super) fn weigh(&mut self, spare: Spare, now: Instant) -> Option<(Arc<dyn Instance>, u32)> {
        let is_pressed = self.look.is_some_and(|look| look.cores >= LOAD_SHARE);
        let doing = match self.taken {
            0 => Doing::Idle(now.duration_since(self.idle_since)),
            _ if is_pressed => Doing::Pressed,
            _ => Doing::Working,
        };
        let weight = weights::next(self.weight, doing, spare);
        let is_other = weight != self.weight;
        self.weight = weight;
        is_other.then(|| (Arc::clone(&self.instance), weight))
    }

    /// As operators see it, but for what it uses.
    pub(super) fn view(&self, plan: &VersionPlan, now: Instant) -> InstanceView {
        let is_busy = self.taken > 0;
        let millis =
            |since: Instant| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        InstanceView {
            key: plan.key.clone(),
            id: self.instance.id().clone(),
            tier: self.tier,
            state: if is_busy { InstanceState::Busy } else { InstanceState::Idle },
            in_flight: self.taken,
            calls: self.calls,
            age_ms: millis(self.ready_at),
            idle_ms: if is_busy { 0 } else { millis(self.idle_since) },
            usage: Usage::default(),
        }
    }
}
