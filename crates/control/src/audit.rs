//! The audit record: who changed what, in a chain of hashes for each namespace.
//!
//! ```text
//! audit-log/<ns>/<number> Link: an entry, its number, the hash before it, its own; numbers count down, the newest first
//! audit-head/<ns>         the newest link's number and hash
//! ```
//!
//! Every link is written in the batch of what it tells of, so that neither is there without the other, and names the hash of
//! the link before it, so that none can be changed, left out or put in without the rest saying so. Old links are let go from
//! the far end; what stays is still a chain. Who keeps a copy of a hash elsewhere can tell that nothing before it was rewritten.

use std::collections::HashMap;
use std::sync::Arc;

use alula_model::{AuditChange, AuditEntry, Digest, Fault, Name};
use alula_store::{
    BATCH_LEN_MAX, Batch, Committed, Error as StoreError, Expect, Key, Record, Records, Revision,
    SCAN_LEN_MAX,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::error;

const ENTRIES: &str = "audit-log";
const HEADS: &str = "audit-head";
/// Entries that one query looks at: with a subject that is rarely named, older entries are not found.
const SCANNED_MAX: usize = 50_000;
/// How often a commit is tried again whose chain another process has gone on with.
const TRIES: usize = 8;

/// An entry in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLink {
    /// What was done.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// Which it is in its namespace, from 1.
    pub number: u64,
    /// The hash of the one before; zeros for the first.
    pub previous: Digest,
    /// SHA-256 of [`AuditLink::hashed`].
    pub hash: Digest,
}

/// What was found of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Links that are there.
    pub entries: u64,
    /// The oldest one's number; those before were let go.
    pub first: u64,
    /// The newest one's number.
    pub last: u64,
    /// The newest one's hash.
    pub head: Option<Digest>,
    /// What is wrong, and where.
    pub fault: Option<String>,
}

/// The newest link of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    number: u64,
    hash: Digest,
}

const NO_HEAD: Head = Head { number: 0, hash: Digest::from_bytes([0; 32]) };

/// A head and the revision of its record.
type KnownHead = (Head, Option<Revision>);

/// Writes and reads the chains.
#[derive(Debug)]
pub(crate) struct AuditLog {
    records: Arc<dyn Records>,
    /// The heads as this process knows them, by namespace; held while a link is added.
    heads: Mutex<HashMap<String, KnownHead>>,
}

impl AuditLink {
    fn new(entry: AuditEntry, before: Head) -> Self {
        let (number, previous) = (before.number + 1, before.hash);
        let hash = hash_of(&entry, number, &previous);
        Self { entry, number, previous, hash }
    }

    /// What the hash is taken of: a JSON array, without spaces, of the hash before in hexadecimal, the number, the moment in
    /// milliseconds, actor, from, action, subject and detail; and what it was and is, where the entry says that.
    #[must_use]
    pub fn hashed(entry: &AuditEntry, number: u64, previous: &Digest) -> String {
        let AuditEntry { at, actor, from, action, subject, detail, change } = entry;
        let fields = (previous.to_string(), number, at.as_millis(), actor, from, action, subject, detail);
        let hashed = match change {
            Some(change) => {
                let (previous, number, at, actor, from, action, subject, detail) = fields;
                let AuditChange { before, after } = change;
                serde_json::to_string(&(
                    previous, number, at, actor, from, action, subject, detail, before, after,
                ))
            }
            None => serde_json::to_string(&fields),
        };
        hashed.unwrap_or_default()
    }
}

fn hash_of(entry: &AuditEntry, number: u64, previous: &Digest) -> Digest {
    Digest::from_bytes(Sha256::digest(AuditLink::hashed(entry, number, previous).as_bytes()).into())
}

impl AuditLog {
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        Self { records, heads: Mutex::default() }
    }

    /// Commits a batch with the links of what it does.
    pub(crate) async fn commit(&self, batch: Batch, entries: &[AuditEntry]) -> Result<Committed, StoreError> {
        let mut heads = self.heads.lock().await;
        let mut tries = 0;
        loop {
            let (linked, ahead) = self.link(&mut heads, batch.clone(), entries).await?;
            match self.records.commit(linked).await {
                Ok(committed) => {
                    let known = ahead.into_iter().map(|(of, head)| (of, (head, Some(committed.revision))));
                    heads.extend(known);
                    return Ok(committed);
                }
                // Another process has gone on with the chain; what it wrote is read, and this is linked behind it.
                Err(StoreError::Conflict { key }) if is_of_chain(&key) && tries < TRIES => {
                    tries += 1;
                    heads.clear();
                }
                // Whether it was committed is not known, so neither is what the heads are.
                Err(error) => {
                    heads.clear();
                    return Err(error);
                }
            }
        }
    }

    /// The batch with the links, and the heads that it would bring.
    async fn link(
        &self,
        heads: &mut HashMap<String, KnownHead>,
        mut batch: Batch,
        entries: &[AuditEntry],
    ) -> Result<(Batch, HashMap<String, Head>), StoreError> {
        let mut ahead: HashMap<String, Head> = HashMap::new();
        for entry in entries {
            let namespace = namespace_of(entry);
            let before = match ahead.get(namespace) {
                Some(head) => *head,
                None => self.head(heads, namespace).await?.0,
            };
            let link = AuditLink::new(entry.clone(), before);
            ahead.insert(namespace.to_owned(), Head { number: link.number, hash: link.hash });
            batch = batch.put(link_key(namespace, link.number), json(&link), Expect::Absent);
        }
        for (namespace, head) in &ahead {
            let expect = self.head(heads, namespace).await?.1.map_or(Expect::Absent, Expect::At);
            batch = batch.put(Key::new(&[HEADS, namespace]), json(head), expect);
        }
        Ok((batch, ahead))
    }

    async fn head(
        &self,
        heads: &mut HashMap<String, KnownHead>,
        namespace: &str,
    ) -> Result<KnownHead, StoreError> {
        if let Some(known) = heads.get(namespace) {
            return Ok(*known);
        }
        let record = self.records.get(&Key::new(&[HEADS, namespace])).await?;
        let read =
            |record: Record| Some((serde_json::from_slice(&record.value).ok()?, Some(record.revision)));
        let known = record.and_then(read).unwrap_or((NO_HEAD, None));
        heads.insert(namespace.to_owned(), known);
        Ok(known)
    }

    /// The newest links of a namespace, those before `before` where it is given, on `subject`
    /// (`namespace/function[:version]`) alone if one is named: a function's name stands for its versions too.
    pub(crate) async fn newest(
        &self,
        namespace: &Name,
        subject: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditLink>, Fault> {
        let mut after = before.map(|number| link_key(namespace.as_str(), number));
        let (mut found, mut scanned) = (Vec::new(), 0);
        while found.len() < limit && scanned < SCANNED_MAX {
            let page = self.page(namespace, after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            scanned += page.len();
            let links = page.iter().filter_map(read);
            let fits =
                |link: &AuditLink| subject.is_none_or(|subject| is_about(&link.entry, namespace, subject));
            found.extend(links.filter(fits).take(limit - found.len()));
        }
        Ok(found)
    }

    /// Looks through a whole chain, from its head as it is now; it may grow meanwhile.
    pub(crate) async fn verify(&self, namespace: &Name) -> Result<AuditReport, Fault> {
        // A link comes with its head, so a head that is read later is not behind it.
        let newest = self.newest(namespace, None, None, 1).await?.first().map_or(0, |link| link.number);
        let head = self.head(&mut HashMap::new(), namespace.as_str()).await;
        let (head, _) = head.map_err(|error| error::store(&error))?;
        let mut report = AuditReport { last: head.number, ..AuditReport::default() };
        report.head = (head.number > 0).then_some(head.hash);
        if newest > head.number {
            report.fault = Some(format!("entry {newest} was put in behind the last one"));
            return Ok(report);
        }
        let (mut expected, mut after) = (head, Some(link_key(namespace.as_str(), head.number + 1)));
        loop {
            let page = self.page(namespace, after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for record in &page {
                match check(record, expected) {
                    Ok(link) => {
                        (report.entries, report.first) = (report.entries + 1, link.number);
                        expected = Head { number: link.number - 1, hash: link.previous };
                    }
                    Err(fault) => {
                        report.fault = Some(fault);
                        return Ok(report);
                    }
                }
            }
        }
        if report.entries == 0 && head.number > 0 {
            report.fault = Some(format!("entry {} is missing", head.number));
        }
        Ok(report)
    }

    /// Lets the links beyond the newest `keep` go. Returns how many.
    pub(crate) async fn trim(&self, namespace: &Name, keep: usize) -> Result<usize, Fault> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(namespace, after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            keys.extend(page.into_iter().map(|record| record.key));
        }
        let old = keys.get(keep..).unwrap_or_default();
        // The oldest first: what breaks off leaves no gap.
        for some in old.rchunks(BATCH_LEN_MAX) {
            let batch =
                some.iter().fold(Batch::default(), |batch, key| batch.delete(key.clone(), Expect::Any));
            self.records.commit(batch).await.map_err(|error| error::store(&error))?;
        }
        Ok(old.len())
    }

    async fn page(&self, namespace: &Name, after: Option<&Key>) -> Result<Vec<Record>, Fault> {
        let prefix = Key::new(&[ENTRIES, namespace.as_str()]);
        self.records.scan(&prefix, after, SCAN_LEN_MAX).await.map_err(|error| error::store(&error))
    }
}

/// The link that must come next on the way back, if the record is that one.
fn check(record: &Record, expected: Head) -> Result<AuditLink, String> {
    let Some(link) = read(record) else { return Err(format!("{} cannot be read", record.key)) };
    if link.number != expected.number {
        return Err(format!("entry {} is missing", expected.number));
    }
    if link.hash != expected.hash || hash_of(&link.entry, link.number, &link.previous) != link.hash {
        return Err(format!("entry {} was changed", link.number));
    }
    Ok(link)
}

fn read(record: &Record) -> Option<AuditLink> {
    serde_json::from_slice(&record.value).ok()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn namespace_of(entry: &AuditEntry) -> &str {
    entry.subject.split_once('/').map_or(entry.subject.as_str(), |(namespace, _)| namespace)
}

/// Numbers count down in keys, so that a scan gives the newest first.
fn link_key(namespace: &str, number: u64) -> Key {
    Key::new(&[ENTRIES, namespace, &format!("{:020}", u64::MAX - number)])
}

fn is_of_chain(key: &Key) -> bool {
    key.segments().next().is_some_and(|kind| [ENTRIES, HEADS].contains(&kind))
}

/// Whether an entry is about `subject`, which may begin with the namespace: a function's name stands for its versions too.
fn is_about(entry: &AuditEntry, namespace: &Name, subject: &str) -> bool {
    let full = entry.subject.as_str();
    let short = full.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(full);
    [full, short].iter().any(|candidate| {
        candidate.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}
