//! A platform that shows what a test says, and receivers that do what it says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_model::alarm::{AlarmRule, Signal};
use alula_model::{Clock, Contact, Decimal, Name, Timestamp};
use alula_store::MemoryStore;
use alula_telemetry::signals::Signals;
use alula_telemetry::usage::Ledger;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::*;

pub(super) const BEGIN_MS: i64 = 1_800_000_000_000;

/// Wall-clock time that passes with the runtime's, which tests pause.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        let passed = Instant::now().duration_since(self.0).as_millis();
        Timestamp(BEGIN_MS).plus_millis(i64::try_from(passed).unwrap())
    }
}

/// What is shown, deployed and delivered.
#[derive(Debug, Default)]
pub(super) struct Outside {
    pub(super) round: Mutex<Round>,
    pub(super) watches: Mutex<Vec<Watch>>,
    delivered: Mutex<Vec<(String, Value)>>,
    answers: Mutex<HashMap<String, Answer>>,
    pub(super) outcomes: Mutex<HashMap<&'static str, usize>>,
}

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Passing,
    Final,
    Never,
}

impl Measure for Outside {
    fn measure(&self) -> BoxFuture<'_, Round> {
        Box::pin(std::future::ready(self.round.lock().unwrap().clone()))
    }
}

impl Deployed for Outside {
    fn watches(&self) -> Vec<Watch> {
        self.watches.lock().unwrap().clone()
    }
}

impl Deliver for Outside {
    fn deliver<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, std::result::Result<(), DeliverError>> {
        let answer = self.answers.lock().unwrap().get(&message.url).copied();
        Box::pin(async move {
            match answer {
                Some(Answer::Passing) => Err(DeliverError::Passing("it is down".to_owned())),
                Some(Answer::Final) => Err(DeliverError::Final("it says no".to_owned())),
                Some(Answer::Never) => std::future::pending().await,
                None => {
                    let body = serde_json::from_slice(&message.body).unwrap();
                    self.delivered.lock().unwrap().push((message.url.clone(), body));
                    Ok(())
                }
            }
        })
    }
}

impl Observe for Outside {
    fn message(&self, outcome: &'static str) {
        *self.outcomes.lock().unwrap().entry(outcome).or_default() += 1;
    }
}

pub(super) struct World {
    pub(super) outside: Arc<Outside>,
    pub(super) store: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
    options: Options,
}

/// A running service.
pub(super) struct Running {
    pub(super) alarms: Alarms,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A contact at this web address.
pub(super) fn web(url: &str) -> Contact {
    Contact::try_from(url.to_owned()).unwrap()
}

/// A rule about the depth of the queue: raised above 10 for a minute, over at 5 for a minute.
pub(super) fn rule() -> AlarmRule {
    AlarmRule {
        clear: Some(Decimal::whole(5)),
        ..AlarmRule::above(name("deep"), Signal::QueueDepth, Decimal::whole(10))
    }
}

impl World {
    /// Only [`rule`] holds, and one operator is told at `http://ops`.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let receiver = ReceiverOptions {
            name: name("ops"),
            contact: Some(web("http://ops")),
            alertmanager: None,
            severity: alula_model::alarm::Severity::Info,
            namespaces: Vec::new(),
        };
        let off = built_in().into_iter().map(|rule| rule.name).collect();
        let mut options =
            Options { off, rules: vec![rule()], receivers: vec![receiver], ..Options::default() };
        change(&mut options);
        let clock = Arc::new(Paused(Instant::now()));
        Self { outside: Arc::default(), store: Arc::new(MemoryStore::new()), clock, options }
    }

    pub(super) fn start(&self) -> Running {
        let (service, alarms) = Service::new(Parts {
            options: self.options.clone(),
            node: "node-1".to_owned(),
            signals: Signals::new(Arc::clone(&self.clock), Ledger::default()),
            told: Told::default(),
            measure: self.outside.clone(),
            deployed: self.outside.clone(),
            deliver: self.outside.clone(),
            records: self.store.clone(),
            observe: self.outside.clone(),
            clock: Arc::clone(&self.clock),
        });
        let cancel = CancellationToken::new();
        let task = tokio::spawn(service.run(cancel.clone()));
        Running { alarms, cancel, task }
    }

    /// From now on this many calls wait for each of these functions, and none for others.
    pub(super) fn depth(&self, functions: &[(&str, f64)]) {
        let sample = |(function, value): &(&str, f64)| {
            Sample::new(Signal::QueueDepth, Subject::function(&name("shop"), &name(function)), *value)
        };
        self.outside.round.lock().unwrap().samples = functions.iter().map(sample).collect();
    }

    pub(super) fn answers(&self, url: &str, answer: Option<Answer>) {
        let mut answers = self.outside.answers.lock().unwrap();
        match answer {
            Some(answer) => answers.insert(url.to_owned(), answer),
            None => answers.remove(url),
        };
    }

    /// What `url` was told since this was asked last: the status, and the functions that fire and that are over.
    pub(super) fn told(&self, url: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
        let mut delivered = self.outside.delivered.lock().unwrap();
        let (its, others) = std::mem::take(&mut *delivered).into_iter().partition(|(to, _)| to == url);
        *delivered = others;
        let its: Vec<(String, Value)> = its;
        let functions = |list: &Value| {
            let function = |alarm: &Value| alarm["function"].as_str().unwrap().to_owned();
            list.as_array().unwrap().iter().map(function).collect()
        };
        let told = |(_, body): (String, Value)| {
            (
                body["status"].as_str().unwrap().to_owned(),
                functions(&body["firing"]),
                functions(&body["resolved"]),
            )
        };
        its.into_iter().map(told).collect()
    }

    /// Every body that `url` was sent since this was asked last.
    pub(super) fn bodies(&self, url: &str) -> Vec<Value> {
        let mut delivered = self.outside.delivered.lock().unwrap();
        let (its, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *delivered).into_iter().partition(|(to, _)| to == url);
        *delivered = others;
        its.into_iter().map(|(_, body)| body).collect()
    }
}

impl Running {
    /// Ends as a process does that is told to.
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }

    /// Ends as a process does that is killed.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// One message that something fires.
pub(super) fn firing(functions: &[&str]) -> (String, Vec<String>, Vec<String>) {
    ("firing".to_owned(), functions.iter().map(|name| (*name).to_owned()).collect(), Vec::new())
}

/// One message that something is over.
pub(super) fn resolved(functions: &[&str]) -> (String, Vec<String>, Vec<String>) {
    ("resolved".to_owned(), Vec::new(), functions.iter().map(|name| (*name).to_owned()).collect())
}
