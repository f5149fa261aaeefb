//! The history in memory: runs in the order of their start.

use std::sync::Arc;

use alula_model::{InvocationId, Run, Timestamp};

use super::{MemoryStore, State};
use crate::history::{PAGE_LEN_MAX, bad_cursor};
use crate::{BoxFuture, History, Result, RunFilter, RunPage};

/// Orders runs: when they started, and the order of appending among equals.
pub(super) type Place = (Timestamp, u64);

impl History for MemoryStore {
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, Result<()>> {
        self.state().append(&runs);
        Box::pin(async { Ok(()) })
    }

    fn get(&self, id: &InvocationId) -> BoxFuture<'_, Result<Vec<Run>>> {
        let mut runs: Vec<Run> = self.state().runs.values().filter(|run| run.id == *id).cloned().collect();
        runs.sort_by_key(|run| run.attempt);
        Box::pin(async move { Ok(runs) })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<RunPage>> {
        let page = self.state().list(&filter);
        Box::pin(async move { page })
    }

    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, Result<u64>> {
        let pruned = self.state().prune(before, keep_max);
        Box::pin(async move { Ok(pruned) })
    }
}

impl State {
    fn append(&mut self, runs: &[Run]) {
        for run in runs {
            self.last_run += 1;
            let place = (run.started_at, self.last_run);
            if let Some(replaced) = self.run_places.insert((run.id.clone(), run.attempt), place) {
                self.runs.remove(&replaced);
            }
            self.runs.insert(place, run.clone());
        }
    }

    fn list(&self, filter: &RunFilter) -> Result<RunPage> {
        let end = filter.cursor.as_deref().map(read_cursor).transpose()?;
        let limit = filter.limit.min(PAGE_LEN_MAX);
        let mut matching = self
            .runs
            .iter()
            .rev()
            .filter(|(place, run)| end.is_none_or(|end| **place < end) && filter.matches(run));
        let page: Vec<_> = matching.by_ref().take(limit).collect();
        let has_more = matching.next().is_some();
        let next = page
            .last()
            .filter(|_| has_more)
            .map(|((started_at, count), _)| format!("{}-{count}", started_at.0));
        Ok(RunPage { runs: page.into_iter().map(|(_, run)| run.clone()).collect(), next })
    }

    fn prune(&mut self, before: Timestamp, keep_max: u64) -> u64 {
        let mut pruned = 0;
        while let Some(oldest) = self.runs.first_entry()
            && (oldest.key().0 < before || self.run_places.len() as u64 > keep_max)
        {
            let run = oldest.remove();
            self.run_places.remove(&(run.id, run.attempt));
            pruned += 1;
        }
        pruned
    }
}

fn read_cursor(cursor: &str) -> Result<Place> {
    let (started_at, count) = cursor.rsplit_once('-').ok_or_else(bad_cursor)?;
    let started_at = started_at.parse().map_err(|_| bad_cursor())?;
    Ok((Timestamp(started_at), count.parse().map_err(|_| bad_cursor())?))
}
