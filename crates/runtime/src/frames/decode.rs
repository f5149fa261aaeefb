//! From bytes to frames. The bytes come from hostile code: lengths are checked before anything is stored.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{BODY_BYTES_MAX, Flags, HEADER_BYTES, Head, Kind, META_BYTES_MAX};

/// Up to this size a frame's content is copied out of the read buffer, so that a small answer that lives long
/// does not keep the whole buffer; above it, the buffer itself is handed on.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// Bytes that are made free in the read buffer before each read. A larger buffer makes reads dearer, not faster.
const READ_BYTES: usize = 64 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header without the lengths.
    pub head: Head,
    payload: Bytes,
    meta_len: usize,
}

impl Frame {
    /// The texts between header and body, still joined by NUL.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.payload[..self.meta_len]
    }

    /// The body, shared with the frame.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.payload.slice(self.meta_len..)
    }

    /// The body, borrowed.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.payload[self.meta_len..]
    }
}

/// The other side does not keep to the format. The connection cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such kind, and not marked as one that may be skipped.
    #[error("a frame has the unknown kind {kind:#04x}")]
    UnknownKind {
        /// The number.
        kind: u8,
    },
    /// Meta is longer than [`META_BYTES_MAX`].
    #[error("a frame has {bytes} bytes of meta, at most {META_BYTES_MAX} are allowed")]
    MetaTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The body is longer than [`BODY_BYTES_MAX`].
    #[error("a frame has a body of {bytes} bytes, at most {BODY_BYTES_MAX} are allowed")]
    BodyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Meta is longer than the whole content.
    #[error("a frame names {meta} bytes of meta in {payload} bytes of content")]
    MetaBeyondPayload {
        /// Length of meta.
        meta: usize,
        /// Length of the content.
        payload: usize,
    },
}

struct Lengths {
    payload: usize,
    meta: usize,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer to append what was read, with room for one read.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// Whether part of a frame is there, so that an end of the stream now is an end in the middle.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame; `None` where more bytes are needed. After an error the stream is lost.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let (head, lengths) = parse_header(header)?;
            if self.buffer.len() < HEADER_BYTES + lengths.payload {
                return Ok(None);
            }
            self.buffer.advance(HEADER_BYTES);
            let payload = self.take(lengths.payload);
            if let Some(head) = head {
                return Ok(Some(Frame { head, payload, meta_len: lengths.meta }));
            }
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        if length > COPY_BYTES_MAX {
            return self.buffer.split_to(length).freeze();
        }
        let payload = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        payload
    }
}

/// Checks a header. The head is `None` for an unknown frame that may be skipped.
fn parse_header(header: &[u8; HEADER_BYTES]) -> Result<(Option<Head>, Lengths), FrameError> {
    let [l0, l1, l2, l3, kind, flags, a0, a1, c0, c1, c2, c3, m0, m1, m2, m3] = *header;
    let payload = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let meta = u32::from_le_bytes([m0, m1, m2, m3]) as usize;
    if meta > payload {
        return Err(FrameError::MetaBeyondPayload { meta, payload });
    }
    if meta > META_BYTES_MAX {
        return Err(FrameError::MetaTooLong { bytes: meta });
    }
    if payload - meta > BODY_BYTES_MAX {
        return Err(FrameError::BodyTooLong { bytes: payload - meta });
    }
    let flags = Flags(flags);
    let lengths = Lengths { payload, meta };
    let Some(kind) = Kind::from_number(kind) else {
        return if flags.has(Flags::SKIPPABLE) {
            Ok((None, lengths))
        } else {
            Err(FrameError::UnknownKind { kind })
        };
    };
    let aux = u16::from_le_bytes([a0, a1]);
    let call = u32::from_le_bytes([c0, c1, c2, c3]);
    Ok((Some(Head { kind, flags, aux, call }), lengths))
}
