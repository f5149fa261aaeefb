//! Telling a function's owner that its calls are given up: once when that begins, not once for each.
//!
//! A streak begins with the first call that is given up and ends with the first that goes through. It is a record, made in
//! the commit that gives the call up, so that replicas and restarts tell no twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{Contact, Name, Timestamp};
use alula_store::{Batch, Expect, Key, Records, SCAN_LEN_MAX};

use crate::later::Lane;
use crate::later::notice::Notice;

/// The streaks that last.
#[derive(Debug)]
pub(super) struct Streaks {
    records: Arc<dyn Records>,
    lasting: Mutex<HashSet<(Name, Name)>>,
}

/// What an owner is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bad<'a> {
    pub(super) lane: &'a Lane,
    pub(super) id: &'a alula_model::InvocationId,
    pub(super) reason: &'a str,
    pub(super) at: Timestamp,
}

impl Streaks {
    pub(super) fn new(records: Arc<dyn Records>) -> Self {
        Self { records, lasting: Mutex::default() }
    }

    fn lasting(&self) -> MutexGuard<'_, HashSet<(Name, Name)>> {
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what lasts; other processes may have begun or ended some.
    pub(super) async fn load(&self) -> alula_store::Result<()> {
        let stored = self.records.scan(&Key::new(&["streak"]), None, SCAN_LEN_MAX).await?;
        let function = |key: &Key| {
            let mut names = key.segments().skip(1).map(Name::new);
            Some((names.next()?.ok()?, names.next()?.ok()?))
        };
        *self.lasting() = stored.iter().filter_map(|record| function(&record.key)).collect();
        Ok(())
    }

    /// Adds to the commit that gives a call up what tells its owner, if a streak begins with it.
    pub(super) fn begin(&self, bad: Bad<'_>, contacts: &[Contact], batch: Batch) -> Batch {
        let function = (bad.lane.namespace.clone(), bad.lane.function.clone());
        if !self.lasting().insert(function) {
            return batch;
        }
        let since = serde_json::to_vec(&bad.at).unwrap_or_default();
        let batch = batch.put(key(bad.lane), since, Expect::Absent);
        let notice = Notice {
            event: "calls_given_up",
            subject: &format!("{}: calls are given up", bad.lane.function),
            text: &text_of(bad),
            lane: bad.lane,
            about: bad.id,
            reason: bad.reason,
            at: bad.at,
        };
        notice.add_to(batch, contacts)
    }

    /// Adds to the commit of a call that went through the end of a streak, if one lasts.
    pub(super) fn end(&self, lane: &Lane, batch: Batch) -> Batch {
        let function = (lane.namespace.clone(), lane.function.clone());
        let mut lasting = self.lasting();
        if lasting.is_empty() || !lasting.remove(&function) {
            return batch;
        }
        batch.delete(key(lane), Expect::Any)
    }
}

fn key(lane: &Lane) -> Key {
    Key::new(&["streak", lane.namespace.as_str(), lane.function.as_str()])
}

/// The whole text of a notice.
fn text_of(bad: Bad<'_>) -> String {
    let Lane { namespace, function, .. } = bad.lane;
    format!(
        "Asynchronous calls of {function} in namespace {namespace} are being given up.\n\
         The first: {}\nWhy: {}\n\
         Look at them with `alula dead list {function} --namespace {namespace}`; once the cause is gone, run them again \
         with `alula dead redrive {function} --namespace {namespace} --all`.\n\
         You are told once, until a call of this function goes through again.",
        bad.id, bad.reason
    )
}
