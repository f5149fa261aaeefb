//! A request body on its way to a guest: whole in a frame, in pieces, in shared memory, or as it comes.

use std::sync::Arc;

use alula_model::{ErrorCode, Fault};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::super::arena::{AppendError, Region};
use super::Modes;
use super::flights::Held;
use super::link::Link;
use super::stream::Credit;
use crate::buffers::{Reserved, request_fault};
use crate::frames::{BODY_BYTES_MAX, Flags};
use crate::{Body, BodyError};

/// Longest body of a call that is sent ahead: with its headers it fits behind the running call into what a guest
/// reads at once.
pub(super) const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// A request body as the guest takes it.
pub(super) enum Content {
    Whole(Bytes, Option<Reserved>),
    Shared(Region),
    Stream(Body),
}

/// What goes out with INVOKE, and after it.
pub(super) struct Outgoing {
    /// The body of the frame.
    pub(super) inline: Bytes,
    /// What the frame says of it.
    pub(super) flags: Flags,
    pub(super) rest: Rest,
    pub(super) held: Held,
}

/// What follows on INVOKE.
pub(super) enum Rest {
    Nothing,
    Pieces(Bytes),
    Stream(Body, Arc<Credit>),
}

impl Content {
    /// Takes the body of a call as far as the guest wants it whole.
    pub(super) async fn take(link: &Link, modes: Modes, body: Body) -> Result<Self, Fault> {
        if modes.streams_requests && body.as_full().is_none_or(|whole| whole.len() > BODY_BYTES_MAX) {
            return Ok(Self::Stream(body));
        }
        if body.as_full().is_some_and(<[u8]>::is_empty) {
            return Ok(Self::Whole(Bytes::new(), None));
        }
        if let Some(region) = region_for(link, modes, &body) {
            return write_into(region, body).await.map(Self::Shared);
        }
        let gathered = link.room.buffers.gather_request(body, link.room.plan.spec.request_bytes_max).await?;
        Ok(Self::Whole(gathered.bytes, Some(gathered.reserved)))
    }

    /// Whether it may lie behind a running call.
    pub(super) fn is_short(&self) -> bool {
        matches!(self, Self::Whole(whole, _) if whole.len() <= AHEAD_BYTES_MAX)
    }

    /// A copy of what was whole; nobody needs one of the others, which are only sent to a guest that is free.
    pub(super) fn copy(&self) -> Self {
        match self {
            Self::Whole(whole, _) => Self::Whole(whole.clone(), None),
            Self::Shared(_) | Self::Stream(_) => Self::Whole(Bytes::new(), None),
        }
    }

    /// How it is sent.
    pub(super) fn into_outgoing(self) -> Outgoing {
        let none = Flags::default();
        let (inline, flags, rest, held) = match self {
            Self::Whole(whole, reserved) => {
                let held = Held { _reserved: reserved, _region: None };
                match whole.len() {
                    ..=BODY_BYTES_MAX => (whole, none, Rest::Nothing, held),
                    _ => (Bytes::new(), Flags::MORE, Rest::Pieces(whole), held),
                }
            }
            Self::Shared(region) => {
                let place = Bytes::copy_from_slice(&region.place().to_bytes());
                let held = Held { _reserved: None, _region: Some(region) };
                (place, Flags::ARENA, Rest::Nothing, held)
            }
            Self::Stream(body) => {
                (Bytes::new(), Flags::MORE, Rest::Stream(body, Credit::new()), Held::default())
            }
        };
        Outgoing { inline, flags, rest, held }
    }
}

impl Outgoing {
    /// What the guest grants for a streamed body.
    pub(super) fn credit(&self) -> Option<Arc<Credit>> {
        match &self.rest {
            Rest::Stream(_, credit) => Some(Arc::clone(credit)),
            Rest::Nothing | Rest::Pieces(_) => None,
        }
    }
}

/// Shared memory for a body that is long enough for it and whose length is known.
fn region_for(link: &Link, modes: Modes, body: &Body) -> Option<Region> {
    let arena = link.arena.as_ref().filter(|_| modes.shares_memory)?;
    let room = &link.room;
    let length = body.size_hint().exact()?;
    let is_long = length > room.socket_body_bytes_max.max(BODY_BYTES_MAX as u64);
    // What is larger than it may be is refused where it would be gathered.
    let is_allowed = length <= room.plan.spec.request_bytes_max;
    if is_long && is_allowed { arena.region(length, &room.buffers) } else { None }
}

/// Writes a body into shared memory as it comes, so that it is never held here.
async fn write_into(mut region: Region, mut body: Body) -> Result<Region, Fault> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| request_fault(&error))?.into_data() else { continue };
        region.append(&data).map_err(|error| match error {
            AppendError::TooLong => request_fault(&BodyError::Malformed { reason: error.to_string() }),
            AppendError::NoMemory => Fault::new(ErrorCode::BufferExhausted, error.to_string()),
        })?;
    }
    if region.is_full() { Ok(region) } else { Err(request_fault(&BodyError::Disconnected)) }
}
