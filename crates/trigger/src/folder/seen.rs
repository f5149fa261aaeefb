//! What was seen of the files of a trigger: a record a file, and one that says that the folder was looked at.

use std::collections::BTreeSet;

use alula_store::{Batch, Expect, Key, Record, Records, Revision, SCAN_LEN_MAX};
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

/// The folder of a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Baseline {
    path: String,
}

impl From<&Found> for Seen {
    fn from(found: &Found) -> Self {
        Self { mark: found.mark.clone(), digest: found.digest.clone() }
    }
}

/// The record of a file.
pub(super) fn file(trigger: &TriggerKey, name: &[u8]) -> Key {
    let TriggerKey { namespace, function, trigger } = trigger;
    Key::new(&[SEEN, namespace.as_str(), function.as_str(), trigger.as_str(), &encode(name)])
}

/// A file that was seen, with its record's revision.
pub(super) async fn get(
    records: &dyn Records,
    key: &Key,
) -> alula_store::Result<Option<(Option<Seen>, Revision)>> {
    let found = records.get(key).await?;
    // A record that cannot be read is one of a file that is to be looked at anew.
    Ok(found.map(|record| (serde_json::from_slice(&record.value).ok(), record.revision)))
}

pub(super) fn put(batch: Batch, key: Key, seen: &Seen, expect: Expect) -> Batch {
    batch.put(key, serde_json::to_vec(seen).unwrap_or_default(), expect)
}

/// Whether the trigger's folder was looked at before, and was this one.
pub(super) async fn has_baseline(
    records: &dyn Records,
    trigger: &TriggerKey,
    path: &str,
) -> alula_store::Result<bool> {
    let found = records.get(&trigger.record(FOLDER)).await?;
    let known: Option<Baseline> = found.and_then(|record| serde_json::from_slice(&record.value).ok());
    Ok(known.is_some_and(|known| known.path == path))
}

pub(super) async fn set_baseline(
    records: &dyn Records,
    trigger: &TriggerKey,
    path: &str,
) -> alula_store::Result<()> {
    let value = serde_json::to_vec(&Baseline { path: path.to_owned() }).unwrap_or_default();
    records.commit(Batch::default().put(trigger.record(FOLDER), value, Expect::Any)).await.map(drop)
}

/// The names of the files that were seen.
pub(super) async fn names(
    records: &dyn Records,
    trigger: &TriggerKey,
) -> alula_store::Result<BTreeSet<Vec<u8>>> {
    let (mut names, mut after): (_, Option<Key>) = (BTreeSet::new(), None);
    loop {
        let page = records.scan(&trigger.record(SEEN), after.as_ref(), SCAN_LEN_MAX).await?;
        let Some(last) = page.last() else { return Ok(names) };
        after = Some(last.key.clone());
        names.extend(page.iter().filter_map(|record| decode(record.key.segments().last()?)));
    }
}

/// Forgets everything about a trigger.
pub(super) async fn forget(records: &dyn Records, trigger: &TriggerKey) -> alula_store::Result<()> {
    loop {
        let page = records.scan(&trigger.record(SEEN), None, SCAN_LEN_MAX / 2).await?;
        if page.is_empty() {
            break;
        }
        let forget = |batch: Batch, record: Record| batch.delete(record.key, Expect::Any);
        records.commit(page.into_iter().fold(Batch::default(), forget)).await?;
    }
    records.commit(Batch::default().delete(trigger.record(FOLDER), Expect::Any)).await.map(drop)
}

/// Every trigger of which something is known.
pub(super) async fn known(records: &dyn Records) -> alula_store::Result<Vec<TriggerKey>> {
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
    }
}
