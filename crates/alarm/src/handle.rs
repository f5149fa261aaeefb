//! What people do with alarms: look, acknowledge, silence, test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{Clock, Timestamp};
use bytes::Bytes;

use crate::alarm::{Acknowledgement, Alarm};
use crate::engine::Engine;
use crate::history::{Event, History, Occurrence};
use crate::message;
use crate::options::Options;
use crate::outbox::Outbox;
use crate::plan::{Planner, Receiver};
use crate::ports::{Message, Trust};
use crate::record::Kept;
use crate::silence::{Matcher, SILENCES_MAX, Silence};
use crate::told::Told;

/// The alarms of a node. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Alarms {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) node: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) kept: Kept,
    pub(crate) outbox: Outbox,
    pub(crate) told: Told,
    pub(crate) state: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) planner: Planner,
    pub(crate) history: History,
    pub(crate) silences: Vec<Silence>,
    /// Occurrences that are not written yet.
    pub(crate) unwritten: Vec<Occurrence>,
}

/// What became of the test of one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The receiver.
    pub receiver: String,
    /// Why it was not reached; nothing where it was.
    pub failure: Option<String>,
}

impl Inner {
    pub(crate) fn occurred(&mut self, at: Timestamp, alarm: &Alarm, event: Event, detail: &str) {
        let occurrence = self.history.add(at, alarm, event, detail);
        if self.unwritten.len() < crate::history::HISTORY_MAX {
            self.unwritten.push(occurrence);
        }
    }
}

impl Alarms {
    pub(crate) fn state(&self) -> MutexGuard<'_, Inner> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Takes figures from parts of the platform that know of them first, such as circuit breakers.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.shared.told
    }

    /// Every alarm, with the silence that covers it; ordered by rule and subject.
    #[must_use]
    pub fn list(&self) -> Vec<(Alarm, Option<Silence>)> {
        let now = self.now();
        let state = self.state();
        let silence_of =
            |alarm: &Alarm| state.silences.iter().find(|silence| silence.covers(alarm, now)).cloned();
        state.engine.alarms.values().map(|alarm| (alarm.clone(), silence_of(alarm))).collect()
    }

    /// The alarm of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(Alarm, Option<Silence>)> {
        self.list().into_iter().find(|(alarm, _)| alarm.id == id)
    }

    /// What has happened, the newest first.
    #[must_use]
    pub fn history(&self, is_meant: impl Fn(&Occurrence) -> bool, limit: usize) -> Vec<Occurrence> {
        self.state().history.newest().filter(|one| is_meant(one)).take(limit).cloned().collect()
    }

    /// Notes that somebody knows: it is not repeated. `None` where no such alarm fires. It is kept with the next look.
    #[must_use]
    pub fn acknowledge(&self, id: &str, by: &str) -> Option<Alarm> {
        let at = self.now();
        let mut state = self.state();
        let alarm = state.engine.acknowledge(id, Acknowledgement { by: by.to_owned(), at })?;
        state.occurred(at, &alarm, Event::Acknowledged, &format!("by {by}"));
        Some(alarm)
    }

    /// The silences that are in force.
    #[must_use]
    pub fn silences(&self) -> Vec<Silence> {
        let now = self.now();
        self.state().silences.iter().filter(|silence| now < silence.until).cloned().collect()
    }

    /// Silences what `matcher` means until `until`. `None` where there are [`SILENCES_MAX`] already.
    pub async fn silence(
        &self,
        matcher: Matcher,
        until: Timestamp,
        (reason, by): (String, String),
    ) -> alula_store::Result<Option<Silence>> {
        let created_at = self.now();
        let name = format!("{matcher} {} {by} {}", created_at.as_millis(), until.as_millis());
        let id = alula_store::digest_of(name.as_bytes()).to_string()[..12].to_owned();
        let silence = Silence { id, matcher, until, reason, by, created_at };
        if self.silences().len() >= SILENCES_MAX {
            return Ok(None);
        }
        self.shared.kept.put_silence(&silence).await?;
        let mut state = self.state();
        state.silences.retain(|known| known.id != silence.id);
        state.silences.push(silence.clone());
        Ok(Some(silence))
    }

    /// Ends a silence. Whether there was one of this id.
    pub async fn end_silence(&self, id: &str) -> alula_store::Result<bool> {
        self.shared.kept.delete_silence(id).await?;
        let mut state = self.state();
        let before = state.silences.len();
        state.silences.retain(|silence| silence.id != id);
        Ok(state.silences.len() < before)
    }

    /// Sends a test to the operators' receivers, or to the one of this name, and waits for what becomes of it.
    pub async fn test(&self, only: Option<&str>) -> Vec<TestOutcome> {
        let stated = self.shared.options.receivers.iter().filter_map(Receiver::of_operator);
        let mut tests = Vec::new();
        for receiver in stated.filter(|receiver| only.is_none_or(|only| receiver.key == only)) {
            let now = self.now();
            let (url, body) = message::test(&receiver.address, &self.shared.node, now);
            let id = format!("alarm-test-{}-{}", receiver.key, now.as_millis());
            let message = Message { url, body: Bytes::from(body.to_string()), trust: Trust::Operator, id };
            let outbox = self.shared.outbox.clone();
            let trying = tokio::spawn(async move { outbox.try_once(&message).await });
            tests.push((receiver.key, trying));
        }
        let mut outcomes = Vec::new();
        for (receiver, trying) in tests {
            let failure = match trying.await {
                Ok(tried) => tried.err().map(|error| error.reason().to_owned()),
                Err(error) => Some(error.to_string()),
            };
            outcomes.push(TestOutcome { receiver, failure });
        }
        outcomes
    }
}
