//! The messages of the name server inside a cell (RFC 1035): one question is read, one answer written. No I/O.

use std::net::Ipv4Addr;

/// Longest message over UDP without extensions.
pub(super) const UDP_BYTES_MAX: usize = 512;
/// How long an answer may be kept, in seconds: the address stays the same for the life of the cell.
const TTL_SECONDS: u32 = 60;

const HEADER_BYTES: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const IS_RESPONSE: u16 = 0x8000;
const OPCODE_BITS: u16 = 0x7800;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has this address.
    Address(Ipv4Addr),
    /// The name is there, but has nothing of the kind that is asked for.
    Nothing,
    /// There is no such name.
    NoSuchName,
    /// It cannot be told now.
    Failure,
}

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    id: u16,
    recursion_desired: bool,
    /// The question as it was asked, to be repeated in the answer.
    asked: Vec<u8>,
    /// The name, as text.
    pub(super) name: String,
    /// Whether an IPv4 address is asked for.
    pub(super) is_for_address: bool,
}

/// Reads a message; `None` where it is no question that can be answered.
pub(super) fn read(message: &[u8]) -> Option<Question> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (id, flags, questions) = (word(0)?, word(2)?, word(4)?);
    if flags & (IS_RESPONSE | OPCODE_BITS) != 0 || questions != 1 {
        return None;
    }
    let mut at = HEADER_BYTES;
    let mut labels = Vec::new();
    loop {
        // What has the two highest bits set points elsewhere, which a question has no use for.
        let length = usize::from(*message.get(at)?);
        match length {
            0 => break,
            1..=63 => labels.push(std::str::from_utf8(message.get(at + 1..at + 1 + length)?).ok()?),
            _ => return None,
        }
        at += 1 + length;
    }
    // A dot within a label would be another name as text.
    if labels.is_empty() || labels.iter().any(|label| label.contains('.')) {
        return None;
    }
    let (kind, class) = (word(at + 1)?, word(at + 3)?);
    let asked = message.get(HEADER_BYTES..at + 5)?.to_vec();
    let recursion_desired = flags & RECURSION_DESIRED != 0;
    let is_for_address = kind == TYPE_A && class == CLASS_IN;
    Some(Question { id, recursion_desired, asked, name: labels.join("."), is_for_address })
}

/// Writes the answer.
pub(super) fn write(question: &Question, answer: Answer) -> Vec<u8> {
    let code = match answer {
        Answer::Address(_) | Answer::Nothing => 0,
        Answer::Failure => 2,
        Answer::NoSuchName => 3,
    };
    let desired = if question.recursion_desired { RECURSION_DESIRED } else { 0 };
    let flags = IS_RESPONSE | RECURSION_AVAILABLE | desired | code;
    let answers = u16::from(matches!(answer, Answer::Address(_)));
    let mut message = Vec::with_capacity(HEADER_BYTES + question.asked.len() + 16);
    for word in [question.id, flags, 1, answers, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&question.asked);
    if let Answer::Address(address) = answer {
        // The name again, as a pointer to the question's.
        message.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
        message.extend_from_slice(&TYPE_A.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        message.extend_from_slice(&4_u16.to_be_bytes());
        message.extend_from_slice(&address.octets());
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &[&str], kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let asked = read(&question(&["Db", "internal"], TYPE_A)).unwrap();
        assert_eq!((asked.name.as_str(), asked.is_for_address), ("Db.internal", true));
        let answer = write(&asked, Answer::Address(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(answer[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[answer.len() - 4..], [127, 64, 0, 1]);
        assert!(answer.len() <= UDP_BYTES_MAX);
        assert_eq!(write(&asked, Answer::NoSuchName)[3] & 0xf, 3);
        assert_eq!(write(&asked, Answer::Failure)[3] & 0xf, 2);
        assert_eq!(write(&asked, Answer::Nothing)[6..8], [0, 0]);
        assert!(!read(&question(&["a"], 28)).unwrap().is_for_address, "an IPv6 address");
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let good = question(&["a", "b"], TYPE_A);
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), None, "cut at {length}");
        }
        let changed = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            read(&message)
        };
        assert_eq!(changed(2, 0x81), None, "an answer");
        assert_eq!(changed(2, 0x28), None, "another operation");
        assert_eq!(changed(5, 2), None, "two questions");
        assert_eq!(changed(12, 0xc0), None, "a pointer, to itself");
        assert_eq!(changed(13, 0xff), None, "not UTF-8");
        assert_eq!(changed(13, b'.'), None, "a dot in a label");
        assert_eq!(read(&question(&[], TYPE_A)), None, "the root");
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = read(&message) {
                prop_assert!(question.asked.len() <= message.len());
                prop_assert_eq!(read(&write(&question, Answer::Nothing)), None);
            }
        }
    }
}
