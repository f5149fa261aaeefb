//! What an operator may change, and the bounds that stand.

use serde::{Deserialize, Serialize};

/// Limits of the asynchronous part of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Calls that run from the queue at once, those of dedicated functions not counted.
    pub in_flight_max: usize,
    /// Largest content of a call, in bytes.
    pub body_bytes_max: u64,
    /// Share of a namespace beside others, by name; 10 for the others.
    pub namespace_weights: std::collections::BTreeMap<String, u32>,
    /// Calls a second that are taken from the queue for a namespace, by name; unlimited for the others.
    pub namespace_rates: std::collections::BTreeMap<String, u32>,
    /// Time for which an idempotency key is remembered, in milliseconds.
    pub idempotency_keep_ms: u64,
    /// Which other process may share the store: decides how often the queue is looked at without being told.
    #[serde(skip)]
    pub store: StoreUse,
}

/// Whether other processes use the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreUse {
    /// Only this one does.
    #[default]
    Alone,
    /// Others do.
    Shared,
}

/// Share of a namespace where nothing is stated.
pub(crate) const NAMESPACE_WEIGHT_DEFAULT: u32 = 10;
/// Content that lies in the message itself, in bytes: below the queue's own limit with room for the head.
pub(crate) const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Largest head of a message, in bytes: headers as the gateway takes them, and some.
pub(crate) const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Longest ordering key and idempotency key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// The furthest that a call may be put off, in milliseconds: a year, where a date is more likely to be a slip.
pub(crate) const DELAY_MS_MAX: i64 = 366 * 86_400_000;
/// How long a claim holds without being renewed, in milliseconds. A claim is renewed while its call runs, however long
/// that is, so a lease outlives every attempt; what dies with its process is tried again after this.
pub(crate) const LEASE_MS: i64 = 60_000;
/// How often a claim is renewed, in milliseconds: two may fail before it is lost.
pub(crate) const RENEW_MS: u64 = 20_000;
/// Messages that one claim takes at the most: what a claim costs is shared by so many.
pub(crate) const CLAIM_LEN: usize = 64;
/// Claims that are made at once: lanes with one message each must not wait for each other's disk.
pub(crate) const CLAIMS_AT_ONCE: usize = 16;
/// How often lanes are read anew where only this process uses the store, in milliseconds: nothing should be missed, so
/// this only bounds the harm if something is.
pub(crate) const LOOK_ALONE_MS: u64 = 15_000;
/// The same where others use it too, beside their notices.
pub(crate) const LOOK_SHARED_MS: u64 = 1_000;
/// Hundredths of all places that work of a class other than `scheduled` may take, so that one kind never takes all.
pub(crate) const GENERAL_PERCENT: usize = 80;
/// The same for what is tried again: failures must not crowd out what is new.
pub(crate) const RETRY_PERCENT: usize = 30;
/// The same for what is sent out.
pub(crate) const DELIVERY_PERCENT: usize = 30;
/// Calls of a function that begin at once when its work begins; doubled as they end well.
pub(crate) const RAMP_FIRST: usize = 4;
/// Longest text of an error that is kept of an attempt, in characters.
pub(crate) const ERROR_CHARS_MAX: usize = 500;
/// Attempts of which the trail keeps details: the first ones and the last ones.
pub(crate) const TRAIL_ATTEMPTS_MAX: usize = 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            body_bytes_max: 32 * 1024 * 1024,
            namespace_weights: std::collections::BTreeMap::new(),
            namespace_rates: std::collections::BTreeMap::new(),
            idempotency_keep_ms: 86_400_000,
            store: StoreUse::Alone,
        }
    }
}
