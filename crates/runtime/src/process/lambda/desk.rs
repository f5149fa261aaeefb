//! The desk between calls and the program: events lie here until the program takes them, and answers are matched
//! to the calls that wait for them.
//!
//! The states of the Runtime API are its rules: an event is answered once, by the id it was given with, and a
//! program holds no more events than the function's concurrency. No HTTP here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::Timestamp;
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::streaming::Content;
use crate::process::relay::Ending;
use crate::{Reserved, VersionPlan};

/// Ids of answered events that are remembered, to tell a second answer from one to an event that never was.
const ANSWERED_KEPT: usize = 16;
/// Longest message that is made of a program's error report, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// An event for the program.
#[derive(Debug)]
pub(super) struct Job {
    /// The invocation's id.
    pub(super) id: String,
    /// What the program gets as the content of `next`.
    pub(super) event: Bytes,
    /// The event's share of the platform's memory.
    pub(super) _reserved: Reserved,
    /// When the attempt is over.
    pub(super) deadline_at: Timestamp,
    /// The caller's trace header.
    pub(super) trace: Option<HeaderValue>,
    /// Set when the program takes the event.
    pub(super) started: Option<Arc<AtomicBool>>,
    /// Where the answer goes.
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What the program said to an event.
#[derive(Debug)]
pub(super) enum Reply {
    /// A whole response.
    Whole { content: Bytes, content_type: Option<HeaderValue> },
    /// A response that is still coming.
    Stream { head: super::streaming::Head, content: Content, ended: oneshot::Sender<Ending> },
    /// An error.
    Failed(Reported),
    /// A response over the limit.
    TooLarge,
    /// Something that is not a response.
    Malformed(String),
}

/// An error that the program reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    /// The header `Lambda-Runtime-Function-Error-Type`.
    pub(super) kind: Option<String>,
    /// The content: JSON with `errorType`, `errorMessage` and `stackTrace`, if the program keeps to the rules.
    pub(super) content: Bytes,
}

impl Reported {
    /// The error in one line.
    pub(super) fn message(&self) -> String {
        let parsed: serde_json::Value = serde_json::from_slice(&self.content).unwrap_or_default();
        let field = |name: &str| parsed.get(name).and_then(serde_json::Value::as_str);
        let kind = field("errorType").or(self.kind.as_deref());
        let line = match (kind, field("errorMessage")) {
            (Some(kind), Some(message)) => format!("{kind}: {message}"),
            (Some(only), None) | (None, Some(only)) => only.to_owned(),
            (None, None) => "the function reported an error without saying which".to_owned(),
        };
        line.chars().take(MESSAGE_CHARS_MAX).collect()
    }

    /// The content, where it is JSON.
    pub(super) fn payload(&self) -> Option<String> {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&self.content).is_ok();
        is_json.then(|| String::from_utf8_lossy(&self.content).into_owned())
    }
}

/// How far the program's start has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Init {
    /// It has not asked for anything yet.
    Pending,
    /// It has asked for its first event.
    Ready,
    /// It said that it cannot start.
    Failed(Reported),
}

/// The program broke a rule of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misuse {
    /// No event of this id was given out.
    UnknownId,
    /// Not in this state: a second answer, or one event too many.
    State,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    put: mpsc::Sender<Job>,
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    taken: Mutex<Taken>,
    init: watch::Sender<Init>,
    concurrency: usize,
    /// Largest whole response, in bytes.
    pub(super) response_bytes_max: u64,
    /// What `Lambda-Runtime-Invoked-Function-Arn` says.
    pub(super) arn: String,
}

#[derive(Debug, Default)]
struct Taken {
    open: HashMap<String, oneshot::Sender<Reply>>,
    answered: VecDeque<String>,
}

impl Desk {
    pub(super) fn new(plan: &VersionPlan) -> Self {
        let concurrency = plan.spec.concurrency as usize;
        let (put, jobs) = mpsc::channel(concurrency);
        let (function, version) = (&plan.key.function, plan.key.version);
        Self {
            put,
            jobs: tokio::sync::Mutex::new(jobs),
            taken: Mutex::default(),
            init: watch::Sender::new(Init::Pending),
            concurrency,
            response_bytes_max: plan.spec.response_bytes_max,
            arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{function}:{version}"),
        }
    }

    /// Tells how the start goes.
    pub(super) fn init(&self) -> watch::Receiver<Init> {
        self.init.subscribe()
    }

    /// How many events the program may hold.
    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Lays an event on the desk.
    pub(super) async fn put(&self, job: Job) -> Result<(), mpsc::error::SendError<Job>> {
        self.put.send(job).await
    }

    /// Takes back an event whose caller waits no more. True where the program is working on it.
    pub(super) fn withdraw(&self, id: &str) -> bool {
        self.taken().open.remove(id).is_some()
    }

    /// The program asks for an event: waits until there is one.
    pub(super) async fn next(&self) -> Result<Job, Misuse> {
        self.init.send_if_modified(|init| {
            let first = matches!(init, Init::Pending);
            if first {
                *init = Init::Ready;
            }
            first
        });
        if self.taken().open.len() >= self.concurrency {
            return Err(Misuse::State);
        }
        let mut jobs = self.jobs.lock().await;
        loop {
            // The desk holds a sender itself, so the channel never closes.
            let Some(mut job) = jobs.recv().await else { return Err(Misuse::State) };
            // One look under the lock: a caller that leaves now finds its event either unseen or taken.
            let mut taken = self.taken();
            if job.reply.is_closed() {
                continue;
            }
            let (spent, _) = oneshot::channel();
            let reply = std::mem::replace(&mut job.reply, spent);
            taken.open.insert(job.id.clone(), reply);
            drop(taken);
            if let Some(started) = &job.started {
                started.store(true, Ordering::Relaxed);
            }
            return Ok(job);
        }
    }

    /// Whether the program may answer `id` now.
    pub(super) fn check(&self, id: &str) -> Result<(), Misuse> {
        let taken = self.taken();
        if taken.open.contains_key(id) {
            return Ok(());
        }
        Err(if taken.answered.iter().any(|answered| answered == id) {
            Misuse::State
        } else {
            Misuse::UnknownId
        })
    }

    /// Gives the program's answer to the call that waits for it.
    pub(super) fn reply(&self, id: &str, reply: Reply) -> Result<(), Misuse> {
        self.check(id)?;
        let mut taken = self.taken();
        let Some(waiting) = taken.open.remove(id) else { return Err(Misuse::State) };
        if taken.answered.len() == ANSWERED_KEPT {
            taken.answered.pop_front();
        }
        taken.answered.push_back(id.to_owned());
        drop(taken);
        // A caller that left in this moment is not waiting any more; the program did its part.
        let _ = waiting.send(reply);
        Ok(())
    }

    /// The program says that it cannot start.
    pub(super) fn init_failed(&self, reported: Reported) -> Result<(), Misuse> {
        let accepted = self.init.send_if_modified(|init| {
            let pending = matches!(init, Init::Pending);
            if pending {
                *init = Init::Failed(reported);
            }
            pending
        });
        if accepted { Ok(()) } else { Err(Misuse::State) }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
