//! What the client remembers of a session of the broker: that nothing of ours is under way in it.
//!
//! The client takes up a session only where it knows its own side of it. That side is what we have published and what was
//! half handed over with QoS 2; we publish nothing and take nothing with QoS 2, so it is empty at any time.

use rumqttc::{PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

use super::SESSION_KEPT_S;
use crate::BoxFuture;

/// See the module.
#[derive(Debug)]
pub(super) struct NothingInFlight;

impl SessionStore for NothingInFlight {
    fn load<'a>(
        &'a self,
        key: &'a SessionStoreKey,
    ) -> BoxFuture<'a, Result<Option<PersistedSession>, SessionStoreError>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(SESSION_KEPT_S),
            outgoing_inflight_upper_limit: None,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(
        &'a self,
        _key: &'a SessionStoreKey,
        _session: &'a PersistedSession,
    ) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _key: &'a SessionStoreKey) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
