//! What was seen of the files of a trigger: a record a file, and one that says what is watched and since when.

use std::collections::BTreeMap;
use std::sync::Arc;

use alula_model::Timestamp;
use alula_model::trigger::FolderSource;
use alula_store::{BATCH_LEN_MAX, Batch, Expect, Key, Record, Records, Result, Revision, SCAN_LEN_MAX};
use serde::{Deserialize, Serialize};

use super::look::{Found, Mark};
use crate::TriggerKey;

const FOLDER: &str = "folder";
const SEEN: &str = "folder-seen";

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) mark: Mark,
    pub(super) digest: String,
}

/// The record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `None` where it cannot be read: such a file is looked at as if it was written.
    pub(super) seen: Option<Seen>,
    revision: Revision,
}

/// What a trigger watches, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    path: String,
    prefix: String,
    suffix: String,
    since: Timestamp,
}

/// What is known of one trigger's files.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) records: Arc<dyn Records>,
    pub(super) trigger: TriggerKey,
}

impl From<&Found> for Seen {
    fn from(found: &Found) -> Self {
        Self { mark: found.mark.clone(), digest: found.digest.clone() }
    }
}

impl Memory {
    /// Since when the trigger watches these files: `now`, where it watches others so far or none.
    pub(super) async fn begin(&self, source: &FolderSource, now: Timestamp) -> Result<Timestamp> {
        let key = self.trigger.record(FOLDER);
        let found = self.records.get(&key).await?;
        let known: Option<Begun> = found.and_then(|record| serde_json::from_slice(&record.value).ok());
        let FolderSource { path, prefix, suffix, .. } = source.clone();
        match known {
            Some(known) if (&known.path, &known.prefix, &known.suffix) == (&path, &prefix, &suffix) => {
                Ok(known.since)
            }
            _ => {
                self.forget_files().await?;
                let value =
                    serde_json::to_vec(&Begun { path, prefix, suffix, since: now }).unwrap_or_default();
                self.records.commit(Batch::default().put(key, value, Expect::Any)).await?;
                Ok(now)
            }
        }
    }

    /// A file, if it was seen.
    pub(super) async fn get(&self, name: &[u8]) -> Result<Option<Known>> {
        Ok(self.records.get(&self.file(name)).await?.map(|record| Known::of(&record)))
    }

    /// Every file that was seen.
    pub(super) async fn all(&self) -> Result<BTreeMap<Vec<u8>, Known>> {
        let (mut all, mut after): (_, Option<Key>) = (BTreeMap::new(), None);
        loop {
            let page = self.records.scan(&self.trigger.record(SEEN), after.as_ref(), SCAN_LEN_MAX).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            let name = |record: &Record| decode(record.key.segments().last()?);
            all.extend(page.iter().filter_map(|record| Some((name(record)?, Known::of(record)))));
        }
    }

    /// Adds to `batch` that a file was seen, which was `known` before.
    pub(super) fn put(&self, batch: Batch, name: &[u8], known: Option<&Known>, found: &Found) -> Batch {
        let value = serde_json::to_vec(&Seen::from(found)).unwrap_or_default();
        batch.put(self.file(name), value, expect(known))
    }

    /// Adds to `batch` that a file, which was `known` before, is not there any more.
    pub(super) fn delete(&self, batch: Batch, name: &[u8], known: Option<&Known>) -> Batch {
        batch.delete(self.file(name), expect(known))
    }

    /// Forgets everything about the trigger.
    pub(super) async fn forget(&self) -> Result<()> {
        self.forget_files().await?;
        let batch = Batch::default().delete(self.trigger.record(FOLDER), Expect::Any);
        self.records.commit(batch).await.map(drop)
    }

    async fn forget_files(&self) -> Result<()> {
        loop {
            let page = self.records.scan(&self.trigger.record(SEEN), None, BATCH_LEN_MAX).await?;
            if page.is_empty() {
                return Ok(());
            }
            let forget = |batch: Batch, record: Record| batch.delete(record.key, Expect::Any);
            self.records.commit(page.into_iter().fold(Batch::default(), forget)).await?;
        }
    }

    fn file(&self, name: &[u8]) -> Key {
        let TriggerKey { namespace, function, trigger } = &self.trigger;
        Key::new(&[SEEN, namespace.as_str(), function.as_str(), trigger.as_str(), &encode(name)])
    }
}

impl Known {
    fn of(record: &Record) -> Self {
        Self { seen: serde_json::from_slice(&record.value).ok(), revision: record.revision }
    }
}

fn expect(known: Option<&Known>) -> Expect {
    known.map_or(Expect::Absent, |known| Expect::At(known.revision))
}

/// Every trigger of which something is known.
pub(super) async fn known_triggers(records: &dyn Records) -> Result<Vec<TriggerKey>> {
    let (mut known, mut after): (_, Option<Key>) = (Vec::new(), None);
    loop {
        let page = records.scan(&Key::new(&[FOLDER]), after.as_ref(), SCAN_LEN_MAX).await?;
        let Some(last) = page.last() else { return Ok(known) };
        after = Some(last.key.clone());
        known.extend(page.iter().filter_map(|record| TriggerKey::of_record(&record.key)));
    }
}

/// A name as a segment: names of files may hold every byte but two.
fn encode(name: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut encoded = String::with_capacity(name.len());
    for &byte in name {
        match plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

fn decode(segment: &str) -> Option<Vec<u8>> {
    let (mut name, mut rest) = (Vec::with_capacity(segment.len()), segment.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            name.push(byte);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    Some(name)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [&b"a.txt"[..], b"a b\n%41", b"\xff\xfe", "ü".as_bytes(), b"%"] {
            let encoded = encode(name);
            assert!(!encoded.contains(['/', '\0', '\n']));
            assert_eq!(decode(&encoded).as_deref(), Some(name));
        }
        let longest = encode(&[0xff; 255]);
        let names = "n".repeat(63);
        assert!(
            Key::new(&[SEEN, &names, &names, &names, &longest]).as_str().len() < alula_store::KEY_BYTES_MAX
        );
    }

    #[test]
    fn what_was_seen_survives_its_record() {
        let mark =
            Mark { bytes: u64::MAX, inode: 7, modified_ns: -1, changed_ns: i128::from(i64::MAX) * 1_000 };
        let seen = Seen { mark, digest: "d".to_owned() };
        assert_eq!(serde_json::from_slice::<Seen>(&serde_json::to_vec(&seen).unwrap()).unwrap(), seen);
    }
}
