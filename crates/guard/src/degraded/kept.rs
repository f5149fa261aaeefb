//! Things kept by function and key: bounded in number and bytes for each function, and in bytes for the node. What was not
//! asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::Name;
use tokio::time::Instant;

/// Everything that is kept on a node, in bytes: a share of memory that is never missed.
const NODE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Longest key, in bytes: what has more in its path and query is not asked for again.
const KEY_BYTES_MAX: usize = 8 * 1024;
/// What an entry costs beside its key and its content.
const ENTRY_BYTES: u64 = 256;

/// What one function may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes of them all.
    pub bytes: u64,
}

/// What is kept. A value is cheap to clone.
#[derive(Debug)]
pub struct Kept<V> {
    inner: Mutex<Inner<V>>,
}

#[derive(Debug)]
struct Inner<V> {
    functions: HashMap<(Name, Name), Shelf<V>>,
    bytes: u64,
    /// Counts uses, so that the last one is known of each entry.
    uses: u64,
}

/// What is kept of one function.
#[derive(Debug)]
struct Shelf<V> {
    entries: HashMap<String, Entry<V>>,
    /// Keys by their last use.
    order: BTreeMap<u64, String>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: u64,
    kept_at: Instant,
    used: u64,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { functions: HashMap::new(), bytes: 0, uses: 0 }) }
    }
}

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), bytes: 0 }
    }
}

impl<V: Clone> Kept<V> {
    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a value of `bytes`, in place of the one before of the same key. Answers whether there was room for it.
    pub fn put(
        &self,
        of: &(Name, Name),
        key: String,
        (value, bytes): (V, u64),
        bounds: Bounds,
        now: Instant,
    ) -> bool {
        let bytes = bytes.saturating_add(key.len() as u64 + ENTRY_BYTES);
        let mut inner = self.lock();
        inner.remove(of, &key);
        if key.len() > KEY_BYTES_MAX || bytes > bounds.bytes.min(NODE_BYTES_MAX) || bounds.entries == 0 {
            return false;
        }
        inner.make_room_in(of, bytes, bounds);
        inner.make_room(bytes);
        inner.uses += 1;
        let used = inner.uses;
        inner.bytes += bytes;
        let shelf = inner.functions.entry(of.clone()).or_default();
        shelf.bytes += bytes;
        shelf.order.insert(used, key.clone());
        shelf.entries.insert(key, Entry { value, bytes, kept_at: now, used });
        true
    }

    /// What is kept under a key and how old it is; `None` where there is nothing, or nothing young enough.
    pub fn get(
        &self,
        of: &(Name, Name),
        key: &str,
        max_age: Duration,
        now: Instant,
    ) -> Option<(V, Duration)> {
        let mut inner = self.lock();
        inner.uses += 1;
        let used = inner.uses;
        let shelf = inner.functions.get_mut(of)?;
        let entry = shelf.entries.get_mut(key)?;
        let age = now.saturating_duration_since(entry.kept_at);
        if age > max_age {
            inner.remove(of, key);
            return None;
        }
        if let Some(name) = shelf.order.remove(&entry.used) {
            shelf.order.insert(used, name);
        }
        entry.used = used;
        Some((entry.value.clone(), age))
    }

    /// Lets go of what is kept of functions that are no more.
    pub fn retain(&self, is_there: impl Fn(&Name, &Name) -> bool) {
        let mut inner = self.lock();
        inner.functions.retain(|(namespace, function), _| is_there(namespace, function));
        inner.bytes = inner.functions.values().map(|shelf| shelf.bytes).sum();
    }

    /// Bytes that are kept in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }
}

impl<V> Inner<V> {
    fn remove(&mut self, of: &(Name, Name), key: &str) {
        let Some(shelf) = self.functions.get_mut(of) else { return };
        let Some(entry) = shelf.entries.remove(key) else { return };
        shelf.order.remove(&entry.used);
        shelf.bytes -= entry.bytes;
        self.bytes -= entry.bytes;
        if shelf.entries.is_empty() {
            self.functions.remove(of);
        }
    }

    fn remove_oldest(&mut self, of: &(Name, Name)) {
        let oldest = self.functions.get(of).and_then(|shelf| shelf.order.values().next().cloned());
        if let Some(oldest) = oldest {
            self.remove(of, &oldest);
        }
    }

    fn make_room_in(&mut self, of: &(Name, Name), bytes: u64, bounds: Bounds) {
        let is_full =
            |shelf: &Shelf<V>| shelf.entries.len() >= bounds.entries || shelf.bytes + bytes > bounds.bytes;
        while self.functions.get(of).is_some_and(is_full) {
            self.remove_oldest(of);
        }
    }

    /// Room on the node, at the cost of whoever keeps most.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes + bytes > NODE_BYTES_MAX {
            let largest = self.functions.iter().max_by_key(|(_, shelf)| shelf.bytes);
            let Some(of) = largest.map(|(of, _)| of.clone()) else { return };
            self.remove_oldest(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn of(function: &str) -> (Name, Name) {
        (Name::default_namespace(), Name::new(function).unwrap())
    }

    #[test]
    fn the_one_that_was_not_asked_for_longest_goes_first() {
        let (kept, now) = (Kept::default(), Instant::now());
        let bounds = Bounds { entries: 2, bytes: 10_000 };
        for key in ["a", "b"] {
            assert!(kept.put(&of("f"), key.to_owned(), (key, 1), bounds, now));
        }
        assert_eq!(kept.get(&of("f"), "a", HOUR, now), Some(("a", Duration::ZERO)));
        kept.put(&of("f"), "c".to_owned(), ("c", 1), bounds, now);
        assert_eq!(kept.get(&of("f"), "b", HOUR, now), None);
        assert!(["a", "c"].iter().all(|key| kept.get(&of("f"), key, HOUR, now).is_some()));
        assert_eq!(kept.get(&of("g"), "a", HOUR, now), None);
    }

    #[test]
    fn what_is_too_large_or_too_old_is_not_kept() {
        let (kept, now) = (Kept::default(), Instant::now());
        let bounds = Bounds { entries: 2, bytes: 1_000 };
        assert!(kept.put(&of("f"), "a".to_owned(), ("old", 1), bounds, now));
        // A newer one that has no place takes the older one's all the same: it is no longer the last.
        assert!(!kept.put(&of("f"), "a".to_owned(), ("new", 1_000), bounds, now));
        assert!(!kept.put(&of("f"), "x".repeat(KEY_BYTES_MAX + 1), ("x", 1), bounds, now));
        assert_eq!(kept.bytes(), 0);
        kept.put(&of("f"), "a".to_owned(), ("a", 1), bounds, now);
        assert_eq!(kept.get(&of("f"), "a", HOUR, now + HOUR + HOUR), None);
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn what_is_gone_keeps_nothing() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.put(&of("f"), "a".to_owned(), ("a", 1), Bounds { entries: 2, bytes: 1_000 }, now);
        kept.retain(|_, function| function.as_str() != "f");
        assert_eq!(kept.bytes(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_books_balance(steps in proptest::collection::vec((0..3_u8, 0..8_u8, 0..2_000_u64), 0..200)) {
            let (kept, now) = (Kept::default(), Instant::now());
            let bounds = Bounds { entries: 3, bytes: 4_000 };
            for (function, key, bytes) in steps {
                let of = of(&format!("f{function}"));
                if bytes % 3 == 0 {
                    kept.get(&of, &key.to_string(), HOUR, now);
                } else {
                    kept.put(&of, key.to_string(), ((), bytes), bounds, now);
                }
                let inner = kept.lock();
                for shelf in inner.functions.values() {
                    prop_assert!(shelf.entries.len() <= bounds.entries && shelf.bytes <= bounds.bytes);
                    prop_assert_eq!(shelf.entries.len(), shelf.order.len());
                    prop_assert_eq!(shelf.bytes, shelf.entries.values().map(|entry| entry.bytes).sum::<u64>());
                }
                prop_assert_eq!(inner.bytes, inner.functions.values().map(|shelf| shelf.bytes).sum::<u64>());
            }
        }
    }
}
