//! Listing the objects of a bucket, in the order of their keys, with those below a delimiter put together.

use alula_store::{Key, SCAN_LEN_MAX};

use crate::key::{self, BucketKey};
use crate::options::KEY_BYTES_MAX;
use crate::record::{self, StoredObject};
use crate::{Buckets, Result};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    /// Keys that go on after it are put together up to and with it; empty: none are.
    pub(crate) delimiter: String,
    /// Only what comes after this key or common prefix.
    pub(crate) after: String,
    /// Entries at the most.
    pub(crate) limit: usize,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An object.
    Object(String, Box<StoredObject>),
    /// All objects whose keys begin with this.
    Prefix(String),
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Whether more follows after the last entry.
    pub(crate) is_truncated: bool,
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Prefix(name) => name,
        }
    }
}

/// Records that are read at once where keys are put together: most of them are skipped.
const GROUPED_SCAN_LEN: usize = 100;
/// No character sorts behind it; in UTF-8 it has four bytes.
const LAST: char = '\u{10ffff}';

impl Buckets {
    /// A page of the objects of a bucket.
    pub(crate) async fn page(&self, at: &BucketKey, query: &Query) -> Result<Page> {
        let mut page = Page::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let chunk =
            if query.delimiter.is_empty() { (query.limit + 1).min(SCAN_LEN_MAX) } else { GROUPED_SCAN_LEN };
        let mut from = self.beginning(at, query, &mut page).await?;
        loop {
            let records = self.records().scan(&at.objects(), Some(&from), chunk).await?;
            let is_last = records.len() < chunk;
            let mut skip_to = None;
            for record in &records {
                let name = key::decode(record.key.segments().last().unwrap_or_default());
                if !name.starts_with(&query.prefix) {
                    return Ok(page);
                }
                if page.entries.len() == query.limit {
                    page.is_truncated = true;
                    return Ok(page);
                }
                match query.common_prefix(&name) {
                    Some(common) => {
                        skip_to = Some(past(at, &common));
                        page.entries.push(Entry::Prefix(common));
                        break;
                    }
                    None => page.entries.push(Entry::Object(name, Box::new(record::read(record)?))),
                }
            }
            from = match (skip_to, records.last()) {
                (Some(past), _) => past,
                (None, Some(last)) if !is_last => last.key.clone(),
                _ => return Ok(page),
            };
        }
    }

    /// Where the scan begins. A key that is the prefix itself would lie before what a scan after the prefix finds.
    async fn beginning(&self, at: &BucketKey, query: &Query, page: &mut Page) -> Result<Key> {
        if query.after >= query.prefix {
            return Ok(match query.common_prefix(&query.after) {
                Some(common) if common == query.after => past(at, &common),
                _ => at.object(&query.after),
            });
        }
        let from = at.object(&query.prefix);
        if !query.prefix.is_empty()
            && let Some(record) = self.records().get(&from).await?
        {
            page.entries.push(Entry::Object(query.prefix.clone(), Box::new(record::read(&record)?)));
        }
        Ok(from)
    }
}

impl Query {
    /// What `name` is put together under, if it is.
    fn common_prefix(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.prefix)?;
        let end = rest.find(&self.delimiter).filter(|_| !self.delimiter.is_empty())? + self.delimiter.len();
        Some(format!("{}{}", self.prefix, rest.get(..end)?))
    }
}

/// After every key that begins with `prefix`: it goes on with the last character for longer than a key can.
fn past(at: &BucketKey, prefix: &str) -> Key {
    let times = KEY_BYTES_MAX.saturating_sub(prefix.len()) / LAST.len_utf8() + 1;
    let last: String = std::iter::repeat_n(LAST, times).collect();
    at.object(&format!("{prefix}{last}"))
}
