//! One lock for each of many keys: work on the same thing waits, work on different things does not.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Locks by key. A key without a holder takes no memory for longer than until the next lock.
#[derive(Debug)]
pub(crate) struct KeyedLock<K> {
    locks: StdMutex<HashMap<K, Weak<Mutex<()>>>>,
}

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self { locks: StdMutex::default() }
    }
}

impl<K: Eq + Hash> KeyedLock<K> {
    /// Waits for the lock of `key`; it is free again when the guard is dropped. Fair: first come, first served.
    pub(crate) async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let lock = locks.get(&key).and_then(Weak::upgrade).unwrap_or_default();
            locks.insert(key, Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }
}
