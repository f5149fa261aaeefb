//! Calls that were given up: looked at, run again, forgotten.

use alula_model::{ErrorCode, Fault, InvocationId, Name, Timestamp};
use alula_store::{Batch, DeadLetter, Expect, Found, MessageId, MessageState};
use bytes::Bytes;

use super::envelope::{Content, Delivery, Envelope, Head};
use super::trail::Trail;
use super::{Call, CallState, Calls, Lane, LaneClass, Outcome, OutcomeStatus, error};

/// Dead letters that are read with one look at the list.
const PAGE_LEN: usize = 100;
/// Dead letters that one list looks at: where a filter fits few of very many, a page is shorter than was asked for.
const LOOKED_AT_MAX: usize = 20_000;

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadFilter {
    /// Only of this namespace.
    pub namespace: Option<Name>,
    /// Only of this function; needs the namespace.
    pub function: Option<Name>,
    /// Only those that were given up at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those that were given up before this moment.
    pub until: Option<Timestamp>,
    /// Only those whose reason holds this text.
    pub reason: Option<String>,
}

/// A call that was given up, or something that could not be sent on behalf of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadCall {
    /// Where it lay.
    pub lane: Lane,
    /// Its id; of a call the invocation's.
    pub id: String,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Attempts that it had.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// What became of each attempt.
    pub trail: Trail,
    /// Bytes of its content.
    pub content_bytes: u64,
    /// What was to be sent, where it is no call.
    pub delivery: Option<Delivery>,
}

/// The place of a dead letter in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadCursor {
    /// Its lane.
    pub lane: String,
    /// Its id.
    pub id: String,
}

/// Some dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadPage {
    /// By lane and id.
    pub letters: Vec<DeadCall>,
    /// Where the next page begins, if there may be more.
    pub next: Option<DeadCursor>,
}

impl DeadFilter {
    fn fits(&self, letter: &DeadLetter) -> bool {
        self.since.is_none_or(|since| letter.dead_at >= since)
            && self.until.is_none_or(|until| letter.dead_at < until)
            && self.reason.as_ref().is_none_or(|text| letter.reason.contains(text.as_str()))
    }
}

impl DeadCursor {
    fn of(letter: &DeadLetter) -> Self {
        Self { lane: letter.lane.clone(), id: letter.id.0.clone() }
    }
}

impl Calls {
    /// Up to `limit` dead letters, from the one behind `after`.
    pub async fn dead(
        &self,
        filter: &DeadFilter,
        after: Option<DeadCursor>,
        limit: usize,
    ) -> Result<DeadPage, Fault> {
        let (mut page, mut after, mut looked_at) =
            (DeadPage { next: after.clone(), ..DeadPage::default() }, after, 0);
        while page.letters.len() < limit && looked_at < LOOKED_AT_MAX {
            let letters = self.letters(filter, after.as_ref()).await?;
            looked_at += letters.len();
            if letters.is_empty() {
                page.next = None;
                return Ok(page);
            }
            for letter in letters {
                if page.letters.len() == limit {
                    return Ok(page);
                }
                page.next = Some(DeadCursor::of(&letter));
                if filter.fits(&letter) {
                    page.letters.extend(dead_call(letter));
                }
            }
            after.clone_from(&page.next);
        }
        Ok(page)
    }

    /// One dead letter.
    pub async fn dead_letter(&self, id: &str) -> Result<DeadCall, Fault> {
        let (found, dead_at, reason) = self.find_dead(id).await?;
        let letter = DeadLetter {
            id: MessageId(id.to_owned()),
            lane: found.lane,
            ordering_key: found.ordering_key,
            attempts: found.attempts,
            enqueued_at: found.enqueued_at,
            dead_at,
            reason,
            trail: found.trail,
            body: found.body,
        };
        dead_call(letter).ok_or_else(|| no_lane(id))
    }

    async fn find_dead(&self, id: &str) -> Result<(Found, Timestamp, String), Fault> {
        let message = MessageId(id.to_owned());
        let found = self.queue.find(&message, self.now()).await.map_err(|error| error::of_store(&error))?;
        let missing = || Fault::new(ErrorCode::NotFound, format!("there is no dead letter {id}"));
        let found = found.ok_or_else(missing)?;
        match found.state.clone() {
            MessageState::Dead { at, reason } => Ok((found, at, reason)),
            _ => Err(missing()),
        }
    }

    async fn letters(
        &self,
        filter: &DeadFilter,
        after: Option<&DeadCursor>,
    ) -> Result<Vec<DeadLetter>, Fault> {
        let prefix = Lane::prefix(filter.namespace.as_ref(), filter.function.as_ref());
        let after = after.map(|cursor| (cursor.lane.as_str(), MessageId(cursor.id.clone())));
        let after = after.as_ref().map(|(lane, id)| (*lane, id));
        self.queue.dead_letters(&prefix, after, PAGE_LEN).await.map_err(|error| error::of_store(&error))
    }

    /// Makes a dead letter run again, on what its qualifier means now.
    pub async fn redrive(&self, id: &str) -> Result<(), Fault> {
        let (found, ..) = self.find_dead(id).await?;
        self.redrive_one(&MessageId(id.to_owned()), &found.lane, &found.trail, self.now()).await
    }

    async fn redrive_one(
        &self,
        id: &MessageId,
        lane: &str,
        trail: &Bytes,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let lane = Lane::parse(lane).map(|lane| Lane {
            class: if lane.class == LaneClass::Retry { LaneClass::General } else { lane.class },
            ..lane
        });
        let lane = lane.ok_or_else(|| no_lane(&id.0))?;
        let mut trail = Trail::read(trail);
        // Its age counts from the moment that it may run.
        trail.redriven_at = Some(at);
        let redriven = self.queue.redrive(id, &lane.to_string(), at, trail.to_bytes()).await;
        redriven.map_err(|error| error::of_store(&error))?;
        self.acceptor.bell().ring(lane, at);
        Ok(())
    }

    /// Makes all dead letters run again that `filter` means and that are there now, `per_second` of them in a second.
    /// Returns how many.
    pub async fn redrive_all(&self, filter: &DeadFilter, per_second: u32) -> Result<u64, Fault> {
        let began = self.now();
        let (mut count, mut after): (u64, Option<DeadCursor>) = (0, None);
        loop {
            let letters = self.letters(filter, after.as_ref()).await?;
            let Some(last) = letters.last() else { return Ok(count) };
            after = Some(DeadCursor::of(last));
            for letter in letters.iter().filter(|letter| is_meant(filter, letter, began)) {
                let wait_ms = count * 1_000 / u64::from(per_second.max(1));
                let at = began.plus_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX));
                let redriven =
                    self.redrive_one(&letter.id, &letter.lane, &letter.trail, at.max(self.now())).await;
                count += u64::from(was_there(redriven)?);
            }
        }
    }

    /// Forgets a dead letter. That the call was given up, and why, can be looked up for a while.
    pub async fn purge(&self, id: &str) -> Result<(), Fault> {
        let message = MessageId(id.to_owned());
        let content = self.content_of(&message).await;
        let with = self.purged(id).await?;
        self.queue.purge(&message, with).await.map_err(|error| error::of_store(&error))?;
        self.discard(content).await;
        Ok(())
    }

    /// What stays of a dead letter that is a call.
    async fn purged(&self, id: &str) -> Result<Batch, Fault> {
        let Some(id) = InvocationId::new(id) else { return Ok(Batch::default()) };
        let is_call = |found: &Call| found.trigger.is_some() && matches!(found.state, CallState::Dead { .. });
        let Some(call) = self.find(&id).await?.filter(is_call) else { return Ok(Batch::default()) };
        let outcome = call.outcome(OutcomeStatus::Dead, self.now());
        let key = Outcome::key(&id);
        Ok(Batch::default().put_until(key, outcome.to_bytes(&[]), Expect::Any, outcome.kept_until))
    }

    /// Forgets all dead letters that `filter` means and that are there now. Returns how many.
    pub async fn purge_all(&self, filter: &DeadFilter) -> Result<u64, Fault> {
        let began = self.now();
        let (mut count, mut after): (u64, Option<DeadCursor>) = (0, None);
        loop {
            let letters = self.letters(filter, after.as_ref()).await?;
            let Some(last) = letters.last() else { return Ok(count) };
            after = Some(DeadCursor::of(last));
            for letter in letters.iter().filter(|letter| is_meant(filter, letter, began)) {
                count += u64::from(was_there(self.purge(&letter.id.0).await)?);
            }
        }
    }

    /// What the call holds that was accepted as `id` and has not ended; `None` where that is not known.
    pub async fn content(&self, id: &InvocationId) -> Result<Option<Bytes>, Fault> {
        match self.content_of(&MessageId(id.as_str().to_owned())).await {
            None => Ok(None),
            Some(Content::Inline(content)) => Ok(Some(content)),
            Some(Content::Blob(blob)) => {
                let content = self.acceptor.blobs().get(&blob).await;
                content.map(Some).map_err(|error| error::of_store(&error))
            }
        }
    }

    /// The content of a message, where it can be read.
    pub(super) async fn content_of(&self, message: &MessageId) -> Option<Content> {
        let found = self.queue.find(message, self.now()).await.ok()??;
        Envelope::read(&found.body).ok().map(|envelope| envelope.content)
    }

    /// Forgets what lies in the blobs for a message that is gone.
    pub(super) async fn discard(&self, content: Option<Content>) {
        if let Some(Content::Blob(blob)) = content {
            self.acceptor.blobs().remove(&blob).await;
        }
    }
}

/// Whether a letter is one of those that were there when the work on all of them began. What dies again meanwhile is not
/// taken a second time.
fn is_meant(filter: &DeadFilter, letter: &DeadLetter, began: Timestamp) -> bool {
    letter.dead_at <= began && filter.fits(letter)
}

/// Whether something was done to a letter of a list; that somebody else was faster is no failure.
fn was_there(done: Result<(), Fault>) -> Result<bool, Fault> {
    match done {
        Ok(()) => Ok(true),
        Err(fault) if fault.code == ErrorCode::NotFound => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn no_lane(id: &str) -> Fault {
    Fault::new(ErrorCode::Internal, format!("dead letter {id} has no lane"))
}

fn dead_call(letter: DeadLetter) -> Option<DeadCall> {
    let (delivery, content_bytes) = match Envelope::read(&letter.body) {
        Ok(Envelope { head, content }) => {
            let delivery = match head {
                Head::Deliver(dispatch) => Some(dispatch.delivery),
                Head::Call(_) => None,
            };
            let content_bytes = match content {
                Content::Blob(blob) => blob.bytes,
                Content::Inline(content) => content.len() as u64,
            };
            (delivery, content_bytes)
        }
        Err(_) => (None, letter.body.len() as u64),
    };
    Some(DeadCall {
        lane: Lane::parse(&letter.lane)?,
        id: letter.id.0,
        ordering_key: letter.ordering_key,
        accepted_at: letter.enqueued_at,
        dead_at: letter.dead_at,
        attempts: letter.attempts,
        reason: letter.reason,
        trail: Trail::read(&letter.trail),
        content_bytes,
        delivery,
    })
}
