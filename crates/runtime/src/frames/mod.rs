//! The wire format between the platform and a long-lived language process.
//!
//! Frames over a stream socket, the same in both directions: a header of 16 bytes, then *meta* (short texts
//! separated by NUL, which no HTTP header can contain, so nothing is escaped), then the body.
//!
//! ```text
//! 0          4      5       6     8        12         16        16+meta_len       16+payload_len
//! | payload  | kind | flags | aux | call   | meta_len | meta .. | body ..         |
//! | u32      | u8   | u8    | u16 | u32    | u32      |         |                 |   little-endian
//! ```
//!
//! | kind | sent by | meta | body | aux |
//! |---|---|---|---|---|
//! | WARM, WARMED | platform, guest | | | |
//! | INIT | platform | name, value... (UTF-8) | environment: name, value... (UTF-8, separated by NUL), or nothing | protocol version |
//! | INVOKE | platform | method, target, remote, id, deadline (Unix ms), n, n x (parameter, value), header, value... | request, or event | answers taken from shared memory so far |
//! | DATA | both | | a piece of the body of `call` | |
//! | CREDIT | both | | u32: bytes that may be sent in addition for `call` | |
//! | CANCEL | platform | | | [`CancelReason`] |
//! | TAKE_BACK | platform | | | |
//! | PING, PONG | platform, guest | | | |
//! | SHUTDOWN, BYE | platform, guest | | | grace in ms |
//! | READY | guest | name, value... | | protocol version |
//! | REPLY | guest | header, value... | response | HTTP status |
//! | RESULT | guest | | the handler's value as JSON | |
//! | FAIL | guest | | `{"errorType", "errorMessage", "stackTrace"}` | [`FailClass`] |
//! | LOG | guest | | lines of text | stream << 8 \| level |
//!
//! A body is at most [`BODY_BYTES_MAX`] in one frame; a longer one goes on in DATA frames, the last of which has
//! the flag END, or lies in memory that both sides share (flag ARENA), where INIT offered it with the field `arena_bytes`
//! and READY has the field `arena` with `yes`. This module knows bytes only: who may send what and when is the business of its users.

mod decode;
mod encode;
mod meta;

pub use decode::{Decoder, Frame, FrameError};
pub use encode::FrameWriter;
pub use meta::{MetaError, fields, pairs};

/// The version that INIT and READY carry; both sides must name the same.
pub const PROTOCOL_VERSION: u16 = 1;

/// Length of the header.
pub const HEADER_BYTES: usize = 16;

/// Longest body in one frame: what a socket takes at once and a guest reads into one buffer without mapping
/// memory for it.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest meta in one frame: twice what HTTP servers accept as headers, since the target and the route's
/// parameters are in it too.
pub const META_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a streamed body that may be sent before the receiver grants more with CREDIT.
pub const WINDOW_BYTES: u32 = 256 * 1024;

/// What a frame is for. The top bit of the number tells who sends it, except for DATA and CREDIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What to load and which limits hold.
    Init = 0x01,
    /// Starts a call.
    Invoke = 0x02,
    /// A piece of a body.
    Data = 0x03,
    /// Permission to send more of a body.
    Credit = 0x04,
    /// Stop working on a call.
    Cancel = 0x05,
    /// Asks for a sign of life.
    Ping = 0x06,
    /// Finish and exit.
    Shutdown = 0x07,
    /// Give back a call that was sent ahead, unless it has begun: answered with FAIL where it has not.
    TakeBack = 0x08,
    /// The first frame of a process that is started before it is known what it will run: get everything ready that
    /// does not depend on it. INIT follows, with the environment in its body.
    Warm = 0x09,
    /// No call comes for a while, and the process will be stopped: give back memory now. Always skippable.
    Rest = 0x0a,
    /// The code is loaded.
    Ready = 0x81,
    /// An HTTP response.
    Reply = 0x82,
    /// The value of an event handler.
    Result = 0x83,
    /// The call, or the start, has failed.
    Fail = 0x84,
    /// The sign of life.
    Pong = 0x86,
    /// The last frame before the guest exits.
    Bye = 0x87,
    /// Lines for the log.
    Log = 0x88,
    /// Everything is ready for INIT.
    Warmed = 0x89,
    /// What REST asks for is done.
    Rested = 0x8a,
}

impl Kind {
    const ALL: [Self; 19] = [
        Self::Init,
        Self::Invoke,
        Self::Data,
        Self::Credit,
        Self::Cancel,
        Self::Ping,
        Self::Shutdown,
        Self::TakeBack,
        Self::Ready,
        Self::Reply,
        Self::Result,
        Self::Fail,
        Self::Pong,
        Self::Bye,
        Self::Log,
        Self::Warm,
        Self::Warmed,
        Self::Rest,
        Self::Rested,
    ];

    /// The kind of this number, where there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Properties of a frame: a set of the constants of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// DATA frames with the rest of the body follow.
    pub const MORE: Self = Self(0x01);
    /// The last DATA frame of a body.
    pub const END: Self = Self(0x02);
    /// The body is in shared memory; in its place the frame has where: offset and length, each a u32. Only on INVOKE,
    /// REPLY and RESULT.
    pub const ARENA: Self = Self(0x04);
    /// Another call is queued: poll for it for a moment before sleeping.
    pub const WAITING: Self = Self(0x08);
    /// Sent before the previous call has finished, to guests that run one after the other and said in READY that
    /// they take such calls.
    pub const AHEAD: Self = Self(0x10);
    /// The body of an INVOKE is an event of its own, to be answered with RESULT; it is not an HTTP request.
    pub const EVENT: Self = Self(0x20);
    /// Who does not know this kind of frame may skip it.
    pub const SKIPPABLE: Self = Self(0x80);

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `flags` where `condition` holds.
    #[must_use]
    pub const fn with_if(self, flags: Self, condition: bool) -> Self {
        if condition { Self(self.0 | flags.0) } else { self }
    }
}

/// Everything of a header but the lengths, which follow from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the frame is for.
    pub kind: Kind,
    /// Its properties.
    pub flags: Flags,
    /// A number whose meaning depends on the kind.
    pub aux: u16,
    /// The call it belongs to; 0 where it belongs to none.
    pub call: u32,
}

impl Head {
    /// A head without flags and aux.
    #[must_use]
    pub const fn new(kind: Kind, call: u32) -> Self {
        Self { kind, flags: Flags(0), aux: 0, call }
    }

    /// The same head with these flags.
    #[must_use]
    pub const fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// The same head with this aux.
    #[must_use]
    pub const fn aux(mut self, aux: u16) -> Self {
        self.aux = aux;
        self
    }
}

/// Why a call is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CancelReason {
    /// Its time is over.
    Deadline = 1,
    /// Nobody waits for the answer any more.
    CallerGone = 2,
    /// The instance is being stopped.
    Draining = 3,
}

/// What kind of failure a FAIL frame reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailClass {
    /// The handler raised an error.
    Handler,
    /// It returned something that is not an answer.
    BadResult,
    /// The code could not be loaded.
    Init,
    /// It was cancelled.
    Cancelled,
    /// It ran out of memory and noticed.
    OutOfMemory,
    /// Its value is larger than the limit that INIT named.
    ResultTooLarge,
    /// It was taken back before it began.
    NotBegun,
}

impl FailClass {
    /// The class of this number; an unknown one is an error of the handler.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            2 => Self::BadResult,
            3 => Self::Init,
            4 => Self::Cancelled,
            5 => Self::OutOfMemory,
            6 => Self::ResultTooLarge,
            7 => Self::NotBegun,
            _ => Self::Handler,
        }
    }
}

#[cfg(test)]
mod tests;
