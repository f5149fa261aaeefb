//! Ids that the gateway makes: invocation ids (UUID version 7) and W3C trace contexts.
//!
//! The randomness and the time come from outside; nothing here is secret.

use alula_model::{InvocationId, Timestamp};
use http::HeaderValue;
use uuid::Uuid;

/// A UUID of version 7 for `now` with the low 80 bits of `random`.
pub(crate) fn invocation_id(now: Timestamp, random: u128) -> InvocationId {
    let bytes = random.to_be_bytes();
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&bytes[6..]);
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &entropy).into_uuid();
    id_of(uuid)
}

#[expect(
    clippy::expect_used,
    reason = "a hyphenated UUID is 36 characters of hexadecimal digits and hyphens"
)]
fn id_of(uuid: Uuid) -> InvocationId {
    let mut text = Uuid::encode_buffer();
    InvocationId::new(uuid.hyphenated().encode_lower(&mut text)).expect("a UUID is an invocation id")
}

/// The id as a header value.
pub(crate) fn header_of(id: &InvocationId) -> HeaderValue {
    HeaderValue::from_str(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether `value` is a trace context of W3C's version 00, or of a later version in the same shape.
pub(crate) fn is_traceparent(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let some = |part: &[u8]| part.iter().any(|b| *b != b'0');
    if text.len() < 55 || (text.len() > 55 && (text.starts_with(b"00") || text[55] != b'-')) {
        return false;
    }
    let (version, trace, span, flags) = (&text[..2], &text[3..35], &text[36..52], &text[53..55]);
    let hyphens = text[2] == b'-' && text[35] == b'-' && text[52] == b'-';
    hyphens
        && [version, trace, span, flags].into_iter().all(hex)
        && version != b"ff"
        && some(trace)
        && some(span)
}

/// A new trace context, not sampled: whoever samples decides later.
pub(crate) fn traceparent(random: u128, span: u128) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let mut put = |at: usize, digits: usize, bits: u128| {
        for (place, slot) in text[at..at + digits].iter_mut().rev().enumerate() {
            *slot = HEX[(bits >> (place * 4) & 15) as usize];
        }
    };
    // Neither id may be all zeros.
    put(3, 32, random | 1);
    put(36, 16, span | 1);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocation_ids_are_uuids_of_version_7_that_sort_by_time() {
        let early = invocation_id(Timestamp(1_700_000_000_000), u128::MAX);
        let late = invocation_id(Timestamp(1_700_000_000_001), 0);
        assert!(early < late);
        let uuid = Uuid::parse_str(early.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert!(invocation_id(Timestamp(-5), 0).as_str().starts_with("00000000-0000-7"));
    }

    #[test]
    fn trace_contexts_are_told_from_rubbish() {
        let check = |text: &str| is_traceparent(&HeaderValue::from_str(text).unwrap());
        assert!(check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"));
        assert!(is_traceparent(&traceparent(0, 0)));
        assert!(is_traceparent(&traceparent(u128::MAX, u128::MAX)));
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!check(text), "{text}");
        }
    }
}
