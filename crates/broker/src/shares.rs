//! Which node watches a trigger where several share a store: one of them, so that its broker sees one client, its calls stay
//! within their number, and what every listener gets is delivered once.
//!
//! A node that is alive changes a record of its own again and again. A trigger's record names the node that watches it, and
//! stays as it is. Another node takes it over by compare-and-set when the first has not changed its own record for
//! [`GONE_AFTER`], by the taker's monotonic clock: wall clocks may differ. A node that cannot reach the store goes on as
//! before. Should the others reach it meanwhile, a trigger is watched twice until it can again; that a record may come twice
//! is promised anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alula_store::{Batch, Error, Expect, Key, Record, Records, Result, Revision, SCAN_LEN_MAX};
use alula_trigger::TriggerKey;
use tokio::time::Instant;

/// A node that has shown no sign of life for so long is gone: some times as long as a node that is alive takes for one.
const GONE_AFTER: Duration = Duration::from_secs(20);
const NODE: &str = "broker-node";
const WATCH: &str = "broker-watch";

/// One node's part in it.
#[derive(Debug)]
pub struct Shares {
    records: Arc<dyn Records>,
    node: String,
    beats: u64,
    /// The last sign of life of each other node, and when it was seen.
    seen: BTreeMap<String, (Revision, Instant)>,
}

/// What is known of who watches a trigger.
struct Watcher {
    node: String,
    revision: Revision,
}

impl Shares {
    /// The part of a node, whose name must be its alone: a random one.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, node: String) -> Self {
        Self { records, node, beats: 0, seen: BTreeMap::new() }
    }

    /// Shows a sign of life, and tells which of the triggers in force this node watches from now on. Triggers that it watched
    /// and that are no longer in force are nobody's afterwards.
    pub(crate) async fn take(&mut self, in_force: &BTreeSet<TriggerKey>) -> Result<BTreeSet<TriggerKey>> {
        self.beats += 1;
        let beat = Batch::default().put(Key::new(&[NODE, &self.node]), self.beats.to_string(), Expect::Any);
        self.records.commit(beat).await?;
        self.look().await?;
        let mut watchers = self.watchers().await?;
        let mut ours = BTreeSet::new();
        for key in in_force {
            let expect = match watchers.remove(key) {
                Some(watcher) if watcher.node == self.node => {
                    ours.insert(key.clone());
                    continue;
                }
                Some(watcher) if self.is_alive(&watcher.node) => continue,
                Some(watcher) => Expect::At(watcher.revision),
                None => Expect::Absent,
            };
            if self.write(Batch::default().put(key.record(WATCH), self.node.clone(), expect)).await? {
                ours.insert(key.clone());
            }
        }
        for (key, watcher) in watchers.into_iter().filter(|(_, watcher)| watcher.node == self.node) {
            self.write(Batch::default().delete(key.record(WATCH), Expect::At(watcher.revision))).await?;
        }
        Ok(ours)
    }

    /// Leaves everything to the others, at once.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        self.records
            .commit(Batch::default().delete(Key::new(&[NODE, &self.node]), Expect::Any))
            .await
            .map(drop)
    }

    /// Whether the change was made; `false` where another node was faster.
    async fn write(&self, change: Batch) -> Result<bool> {
        match self.records.commit(change).await {
            Ok(_) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks for signs of life.
    async fn look(&mut self) -> Result<()> {
        let mut seen = BTreeMap::new();
        for record in self.all(NODE).await? {
            let Some(node) = record.key.segments().nth(1).map(str::to_owned) else { continue };
            let known = self.seen.get(&node).filter(|(revision, _)| *revision == record.revision);
            let at = known.map_or_else(Instant::now, |(_, at)| *at);
            seen.insert(node, (record.revision, at));
        }
        self.seen = seen;
        // Of nodes that ended without a word nobody else speaks any more.
        let gone = self.seen.iter().filter(|(_, (_, at))| at.elapsed() > GONE_AFTER * 10);
        for (node, (revision, _)) in gone {
            self.write(Batch::default().delete(Key::new(&[NODE, node]), Expect::At(*revision))).await?;
        }
        Ok(())
    }

    fn is_alive(&self, node: &str) -> bool {
        self.seen.get(node).is_some_and(|(_, at)| at.elapsed() <= GONE_AFTER)
    }

    async fn watchers(&self) -> Result<BTreeMap<TriggerKey, Watcher>> {
        let watcher = |record: Record| {
            let node = String::from_utf8_lossy(&record.value).into_owned();
            Some((TriggerKey::of_record(&record.key)?, Watcher { node, revision: record.revision }))
        };
        Ok(self.all(WATCH).await?.into_iter().filter_map(watcher).collect())
    }

    async fn all(&self, kind: &str) -> Result<Vec<Record>> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map(|record| record.key.clone());
            let page = self.records.scan(&Key::new(&[kind]), after.as_ref(), SCAN_LEN_MAX).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use alula_model::Name;
    use alula_store::MemoryStore;

    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<TriggerKey> {
        let name = |text: &str| Name::new(text).unwrap();
        let key =
            |text: &&str| TriggerKey { namespace: name("shop"), function: name("pay"), trigger: name(text) };
        names.iter().map(key).collect()
    }

    fn nodes() -> (Shares, Shares) {
        let records: Arc<dyn Records> = Arc::new(MemoryStore::default());
        (Shares::new(Arc::clone(&records), "one".to_owned()), Shares::new(records, "two".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_watches_and_another_takes_over_when_it_is_gone() {
        let (mut one, mut two) = nodes();
        let wanted = keys(&["a", "b"]);
        assert_eq!(one.take(&wanted).await.unwrap(), wanted);
        for _ in 0..10 {
            tokio::time::sleep(GONE_AFTER / 2).await;
            assert_eq!(one.take(&wanted).await.unwrap(), wanted);
            assert_eq!(two.take(&wanted).await.unwrap(), keys(&[]));
        }
        tokio::time::sleep(GONE_AFTER / 2).await;
        assert_eq!(two.take(&wanted).await.unwrap(), keys(&[]));
        tokio::time::sleep(GONE_AFTER).await;
        assert_eq!(two.take(&wanted).await.unwrap(), wanted);
        assert_eq!(one.take(&wanted).await.unwrap(), keys(&[]), "who was gone learns that others watch now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_is_followed_at_once_and_what_is_not_in_force_is_nobodys() {
        let (mut one, mut two) = nodes();
        let (both, a) = (keys(&["a", "b"]), keys(&["a"]));
        assert_eq!(one.take(&both).await.unwrap(), both);
        assert_eq!(one.take(&a).await.unwrap(), a);
        assert_eq!(two.take(&both).await.unwrap(), keys(&["b"]));
        one.leave().await.unwrap();
        assert_eq!(two.take(&both).await.unwrap(), both);
    }
}
