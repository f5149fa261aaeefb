//! From frames to bytes, appended to a buffer that the caller keeps and uses again.

use super::{HEADER_BYTES, Head};

/// Writes one frame: its fields of meta in order, then [`FrameWriter::finish`] with the body.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    has_field: bool,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, head: Head) -> Self {
        let start = out.len();
        let mut header = [0; HEADER_BYTES];
        header[4] = head.kind as u8;
        header[5] = head.flags.0;
        header[6..8].copy_from_slice(&head.aux.to_le_bytes());
        header[8..12].copy_from_slice(&head.call.to_le_bytes());
        out.extend_from_slice(&header);
        Self { out, start, has_field: false }
    }

    /// Appends one field. A NUL in it would be read as the end of the field, so callers keep it out.
    pub fn field(&mut self, bytes: &[u8]) {
        if self.has_field {
            self.out.push(0);
        }
        self.has_field = true;
        self.out.extend_from_slice(bytes);
    }

    /// Appends one field that `write` formats.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
        self.field(b"");
        // Writing to a Vec cannot fail.
        let _ = write(self.out);
    }

    /// Appends the body and fills in the lengths.
    pub fn finish(self, body: &[u8]) {
        let end = self.out.len();
        self.out.extend_from_slice(body);
        self.set_lengths(end, body.len());
    }

    /// Fills in the lengths for a body of `body_len` bytes that the caller sends right after this frame.
    pub fn finish_apart(self, body_len: usize) {
        let end = self.out.len();
        self.set_lengths(end, body_len);
    }

    fn set_lengths(mut self, meta_end: usize, body_len: usize) {
        let meta_len = meta_end - self.start - HEADER_BYTES;
        self.patch(0, meta_len + body_len);
        self.patch(12, meta_len);
    }

    fn patch(&mut self, offset: usize, length: usize) {
        let at = self.start + offset;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}
