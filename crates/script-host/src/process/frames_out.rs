//! The sending side of an instance's link, on one thread.
//!
//! Frames made while a batch of calls is being read go out in one write; others at once. What the socket refuses
//! is written when it can be: at most the answers of the calls in flight, and a window for each streamed one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use alula_runtime::frames::{FrameWriter, Head};
use tokio::net::UnixStream;

/// Memory that is kept for the next frames.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct FramesOut {
    socket: Rc<UnixStream>,
    buffer: RefCell<Vec<u8>>,
    is_batch: Cell<bool>,
    is_flushing: Cell<bool>,
}

impl FramesOut {
    pub(super) fn new(socket: Rc<UnixStream>) -> Rc<Self> {
        Rc::new(Self {
            socket,
            buffer: RefCell::default(),
            is_batch: Cell::new(false),
            is_flushing: Cell::new(false),
        })
    }

    /// Sends one frame: `meta` writes its fields.
    pub(super) fn send(self: &Rc<Self>, head: Head, meta: &[u8], body: &[u8]) {
        {
            let mut buffer = self.buffer.borrow_mut();
            let mut frame = FrameWriter::new(&mut buffer, head);
            if !meta.is_empty() {
                frame.field(meta);
            }
            frame.finish(body);
        }
        if !self.is_batch.get() {
            self.flush();
        }
    }

    /// Holds frames back until [`Self::end_batch`].
    pub(super) fn begin_batch(&self) {
        self.is_batch.set(true);
    }

    pub(super) fn end_batch(self: &Rc<Self>) {
        self.is_batch.set(false);
        self.flush();
    }

    fn flush(self: &Rc<Self>) {
        if self.is_flushing.get() || self.write() {
            return;
        }
        self.is_flushing.set(true);
        let out = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while out.socket.writable().await.is_ok() && !out.write() {}
            out.is_flushing.set(false);
        });
    }

    /// Whether nothing is left to be written.
    fn write(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        while !buffer.is_empty() {
            match self.socket.try_write(&buffer) {
                Ok(written) => drop(buffer.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                // The reader learns of the end by itself.
                Err(_) => buffer.clear(),
            }
        }
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        true
    }
}
