//! A map that everybody reads and hardly anybody adds to.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

/// Parts with a lock each, so that readers on many threads seldom touch the same one.
const SHARDS: usize = 16;

/// What is counted of each `K`. It has as many entries as there are names in use.
#[derive(Debug)]
pub(crate) struct Registry<K, V> {
    hasher: RandomState,
    shards: [RwLock<HashMap<K, Arc<V>>>; SHARDS],
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl<K: Hash + Eq + Clone, V: Default> Registry<K, V> {
    /// What is counted of `key`, from now on.
    pub(crate) fn of(&self, key: &K) -> Arc<V> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        if let Some(found) = shard.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(found);
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shard.entry(key.clone()).or_default())
    }

    /// Forgets what nobody holds and `is_idle` says is not worth remembering.
    pub(crate) fn forget(&self, is_idle: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, value| Arc::strong_count(value) > 1 || !is_idle(value));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).is_empty())
    }
}
