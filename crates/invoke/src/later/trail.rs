//! What is known of the attempts that a call has had, carried by its message.

use alula_model::{ErrorCode, Timestamp};
use alula_store::TRAIL_BYTES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::options::TRAIL_ATTEMPTS_MAX;

/// The attempts so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trail {
    /// What became of them, the first first; of many, the ones in between are left out.
    pub attempts: Vec<Attempt>,
    /// Attempts in a row that never began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
    /// When it was made claimable again after it had been given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
}

/// One attempt that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
    /// The fault's code, where there was a fault rather than an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The status of the function's answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// What went wrong, in words.
    pub message: String,
}

/// How an attempt ended that did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptEnd {
    /// The function failed.
    Failed,
    /// It took longer than its timeout.
    Timeout,
    /// There was no place for it; it never began.
    Throttled,
    /// The platform failed before it began.
    Platform,
    /// The process that ran it ended, or its claim was lost; how far it came is not known.
    Lost,
}

impl Trail {
    /// Reads what a message carries. What cannot be read is as good as nothing: it only serves people.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// As a message carries it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut trail = self.clone();
        loop {
            let bytes = serde_json::to_vec(&trail).unwrap_or_default();
            if bytes.len() <= TRAIL_BYTES_MAX || trail.attempts.is_empty() {
                return bytes.into();
            }
            trail.attempts.remove(trail.attempts.len() / 2);
        }
    }

    /// Adds the attempts up to `number` that nobody has told about: their process ended.
    pub(crate) fn note_lost(&mut self, number: u32, enqueued_at: Timestamp) {
        let told = self.attempts.last().map_or(0, |attempt| attempt.number);
        for lost in told + 1..number {
            let at = self.attempts.last().map_or(enqueued_at, |attempt| attempt.at);
            let message = "the process that ran it ended, or its claim was lost".to_owned();
            let end = AttemptEnd::Lost;
            self.push(Attempt { number: lost, at, end, code: None, http_status: None, message });
        }
    }

    /// Adds an attempt; of many the middle ones go.
    pub fn push(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        if self.attempts.len() > TRAIL_ATTEMPTS_MAX {
            self.attempts.remove(TRAIL_ATTEMPTS_MAX / 2);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::later::options::ERROR_CHARS_MAX;

    fn attempt(number: u32) -> Attempt {
        let message = "\u{1}".repeat(ERROR_CHARS_MAX);
        Attempt { number, at: Timestamp(1), end: AttemptEnd::Failed, code: None, http_status: None, message }
    }

    #[test]
    fn it_stays_small_and_keeps_the_first_and_the_last() {
        let mut trail = Trail::default();
        (1..=1_000).for_each(|number| trail.push(attempt(number)));
        assert!(trail.to_bytes().len() <= TRAIL_BYTES_MAX);
        let kept: Vec<_> =
            Trail::read(&trail.to_bytes()).attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!((kept.first(), kept.last()), (Some(&1), Some(&1_000)), "{kept:?}");
    }

    #[test]
    fn attempts_that_nobody_told_about_are_lost_ones() {
        let mut trail = Trail::default();
        trail.push(attempt(1));
        trail.note_lost(4, Timestamp(0));
        let ends: Vec<_> = trail.attempts.iter().map(|attempt| (attempt.number, attempt.end)).collect();
        assert_eq!(ends, [(1, AttemptEnd::Failed), (2, AttemptEnd::Lost), (3, AttemptEnd::Lost)]);
    }

    #[test]
    fn what_cannot_be_read_is_empty() {
        assert_eq!(Trail::read(b"\xff{"), Trail::default());
    }
}
