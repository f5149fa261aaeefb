//! Messages on their way: a queue and a task for each receiver, so that one that hangs delays no other.
//!
//! A message is tried some times with growing pauses and then given up; what it was about is told anew with the next one.
//! Where a receiver has too many waiting, the oldest goes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::Timestamp;
use tokio::sync::mpsc;

use crate::plan::{GroupKey, Parcel};
use crate::ports::{Deliver, DeliverError, Message, Observe};

/// Messages that wait for one receiver.
const PENDING_MAX: usize = 100;
/// Receivers that messages wait for at once; each has a task.
const RECEIVERS_MAX: usize = 1_000;
/// Tries of one message.
const TRIES_MAX: u32 = 5;
/// The pause after the first try that fails; each further one is four times as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest time of one try, should the port not bound it.
const TRY_MAX: Duration = Duration::from_secs(60);
/// Ends that wait to be noted: one for every receiver.
const ENDS_MAX: usize = RECEIVERS_MAX;

/// Sends. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    deliver: Arc<dyn Deliver>,
    observe: Arc<dyn Observe>,
    queues: Mutex<HashMap<String, VecDeque<Sending>>>,
    ends: mpsc::Sender<End>,
}

/// A message and what it tells.
#[derive(Debug, Clone)]
struct Sending {
    message: Message,
    parcel: Arc<Parcel>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) parcel: Arc<Parcel>,
    pub(crate) has_arrived: bool,
}

impl Parcel {
    /// What it belongs to.
    pub(crate) fn group(&self) -> GroupKey {
        (self.receiver.key.clone(), self.rule.clone())
    }
}

impl Outbox {
    /// An outbox, and where the ends of its messages come out.
    pub(crate) fn new(deliver: Arc<dyn Deliver>, observe: Arc<dyn Observe>) -> (Self, mpsc::Receiver<End>) {
        let (ends, receiver) = mpsc::channel(ENDS_MAX);
        let shared = Shared { deliver, observe, queues: Mutex::default(), ends };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Sending>>> {
        self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message when those before it to the same receiver have ended. Never waits.
    pub(crate) fn send(&self, message: Message, parcel: Parcel) -> Result<(), Parcel> {
        let key = parcel.receiver.key.clone();
        let mut queues = self.queues();
        let is_new = !queues.contains_key(&key);
        if is_new && queues.len() >= RECEIVERS_MAX {
            self.shared.observe.message("dropped");
            return Err(parcel);
        }
        let queue = queues.entry(key.clone()).or_default();
        queue.push_back(Sending { message, parcel: Arc::new(parcel) });
        let oldest = if queue.len() > PENDING_MAX { queue.pop_front() } else { None };
        drop(queues);
        if is_new {
            tokio::spawn(self.clone().work(key));
        }
        match oldest {
            Some(oldest) => {
                self.shared.observe.message("dropped");
                Err(Arc::unwrap_or_clone(oldest.parcel))
            }
            None => Ok(()),
        }
    }

    /// Sends what waits for one receiver, and ends when nothing does.
    async fn work(self, key: String) {
        loop {
            let next = {
                let mut queues = self.queues();
                let next = queues.get_mut(&key).and_then(VecDeque::pop_front);
                if next.is_none() {
                    queues.remove(&key);
                }
                next
            };
            let Some(Sending { message, parcel }) = next else { return };
            let has_arrived = self.deliver(&message).await;
            self.shared.observe.message(if has_arrived { "sent" } else { "failed" });
            // Nobody notes it any more only where the platform ends.
            drop(self.shared.ends.send(End { parcel, has_arrived }).await);
        }
    }

    /// Tries until it has arrived or never will.
    async fn deliver(&self, message: &Message) -> bool {
        let mut pause = PAUSE_FIRST;
        for tried in 1..=TRIES_MAX {
            match self.try_once(message).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::warn!(
                        to = message.url,
                        tried,
                        "an alarm's message did not arrive: {}",
                        error.reason()
                    );
                    if matches!(error, DeliverError::Final(_)) || tried == TRIES_MAX {
                        return false;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
        false
    }

    /// Tries once, for a bounded time.
    pub(crate) async fn try_once(&self, message: &Message) -> Result<(), DeliverError> {
        let tried = tokio::time::timeout(TRY_MAX, self.shared.deliver.deliver(message)).await;
        tried.unwrap_or_else(|_| Err(DeliverError::Passing(format!("it did not answer within {TRY_MAX:?}"))))
    }
}

/// Notes in the alarms what a message that has arrived has told.
pub(crate) fn note_told(
    parcel: &Parcel,
    now: Timestamp,
    mut alarm_of: impl FnMut(&str, &mut dyn FnMut(&mut crate::alarm::Alarm)),
) {
    let receiver = &parcel.receiver.key;
    for told in &parcel.firing {
        alarm_of(&told.id, &mut |alarm| {
            // It may have ended and begun anew meanwhile.
            if alarm.raised_at == told.raised_at {
                alarm.told.insert(receiver.clone(), now);
            }
        });
    }
    for told in &parcel.resolved {
        alarm_of(&told.id, &mut |alarm| {
            if alarm.resolved_at == told.resolved_at {
                alarm.told.remove(receiver);
            }
        });
    }
}
