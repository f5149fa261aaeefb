//! Word to a function's owner: the same facts in the form that each kind of address takes.

use alula_model::{Contact, InvocationId, Timestamp};
use alula_store::{Batch, MessageId};
use bytes::Bytes;
use serde_json::json;

use super::envelope::Content;
use super::{Acceptor, Delivery, DeliveryKind, Lane};

/// What ids of notices begin with.
const PREFIX: &str = "notice-";
/// Characters of a digest in such an id: 128 bits.
const DIGEST_CHARS: usize = 32;

/// What an owner is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice<'a> {
    /// What has happened, as programs read it.
    pub(super) event: &'static str,
    /// The same in a few words.
    pub(super) subject: &'a str,
    /// The same in full, with what to do.
    pub(super) text: &'a str,
    /// The function's lane.
    pub(super) lane: &'a Lane,
    /// The call that it began with.
    pub(super) about: &'a InvocationId,
    /// Why.
    pub(super) reason: &'a str,
    /// When.
    pub(super) at: Timestamp,
}

/// Whether a message tells an owner something.
pub(super) fn is_notice(id: &MessageId) -> bool {
    id.0.starts_with(PREFIX)
}

impl Notice<'_> {
    /// Adds a message to each of `contacts`.
    pub(super) fn add_to(self, batch: Batch, contacts: &[Contact]) -> Batch {
        contacts.iter().enumerate().fold(batch, |batch, (number, contact)| {
            let (url, body) = self.written_for(contact);
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            let delivery = Delivery { kind: DeliveryKind::Notice, url, headers, about: self.about.clone() };
            let name = format!("{} {} {} {number}", self.event, self.about, self.at.0);
            let digest = alula_store::digest_of(name.as_bytes()).to_string();
            let id = format!("{PREFIX}{}", &digest[..DIGEST_CHARS]);
            batch.enqueue(Acceptor::delivery(self.lane, id, delivery, Content::Inline(body), self.at))
        })
    }

    /// The address and the body.
    fn written_for(&self, contact: &Contact) -> (String, Bytes) {
        let Self { event, subject, text, lane, about, reason, at } = *self;
        let (url, body) = match contact {
            Contact::Mail(address) => {
                (format!("mailto:{address}"), json!({ "subject": subject, "text": text }))
            }
            Contact::Slack(address) => (address.clone(), json!({ "text": text })),
            Contact::Webhook(address) => (
                address.clone(),
                json!({
                    "event": event, "namespace": lane.namespace, "function": lane.function,
                    "invocation_id": about, "reason": reason, "at_ms": at, "text": text,
                }),
            ),
        };
        (url, body.to_string().into())
    }
}
