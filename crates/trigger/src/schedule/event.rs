//! What a slot hands to its function: the call's id, its event, its moment.

use alula_model::{InvocationId, Timestamp};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use super::plan::rfc3339;
use super::{Declared, SlotCall};

/// The event of a slot where the schedule states no payload.
#[derive(Debug, Serialize)]
struct SlotEvent<'a> {
    /// Which kind of trigger it is.
    source: &'static str,
    /// The trigger.
    trigger: &'a str,
    /// The schedule as it is stated.
    schedule: &'a str,
    /// The slot, in RFC 3339.
    time: String,
    /// The slot, in milliseconds since the Unix epoch.
    time_ms: i64,
}

/// The call that `slot` makes.
pub(super) fn call(declared: &Declared, slot: Timestamp) -> SlotCall {
    let draw = draw(declared, slot);
    SlotCall {
        id: id(slot, &draw),
        target: declared.target(),
        event: event(declared, slot),
        available_at: slot.plus_millis(jitter_ms(declared.source().jitter_ms, &draw)),
    }
}

/// When the call of `slot` may run.
pub(super) fn available_at(declared: &Declared, slot: Timestamp) -> Timestamp {
    slot.plus_millis(jitter_ms(declared.source().jitter_ms, &draw(declared, slot)))
}

fn event(declared: &Declared, slot: Timestamp) -> Bytes {
    let source = declared.source();
    let event = match &source.payload {
        Some(payload) => serde_json::to_vec(payload),
        None => serde_json::to_vec(&SlotEvent {
            source: "schedule",
            trigger: declared.key.trigger.as_str(),
            schedule: source
                .cron
                .as_deref()
                .or(source.every.as_deref())
                .or(source.at.as_deref())
                .unwrap_or(""),
            time: rfc3339(slot),
            time_ms: slot.as_millis(),
        }),
    };
    // Values of JSON and plain fields are always written.
    event.unwrap_or_default().into()
}

/// Bytes that nobody can foresee without knowing the trigger and the slot, and that every replica finds alike.
fn draw(declared: &Declared, slot: Timestamp) -> [u8; 32] {
    Sha256::digest(format!("{} {}", declared.key, slot.as_millis())).into()
}

/// An id that tells the slot's time, as all ids of the platform tell theirs (UUID version 7).
#[expect(clippy::expect_used, reason = "a hyphenated UUID is letters, digits and hyphens")]
fn id(slot: Timestamp, draw: &[u8; 32]) -> InvocationId {
    let mut random = [0; 10];
    random.copy_from_slice(&draw[..10]);
    let millis = u64::try_from(slot.as_millis()).unwrap_or(0);
    let uuid = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    InvocationId::new(&uuid.to_string()).expect("a UUID is an invocation id")
}

fn jitter_ms(most_ms: u64, draw: &[u8; 32]) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&draw[10..18]);
    let drawn = u64::from_le_bytes(bytes) % most_ms.saturating_add(1).max(1);
    i64::try_from(drawn).unwrap_or(0)
}
