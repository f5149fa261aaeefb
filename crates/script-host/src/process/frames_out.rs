//! The sending side of an instance's link, on one thread.
//!
//! Frames made while a batch of calls is being read go out in one write; others at once. What the socket refuses is
//! written when it can be: at most the answers of the calls in flight, and a window for each streamed one. Only then is
//! the socket watched for writing: the platform's every read says that it takes more, and would wake this thread for
//! nothing.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use alula_runtime::frames::{FrameWriter, Head};
use tokio::net::unix::pipe;

/// Memory that is kept for the next frames.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct FramesOut {
    socket: UnixStream,
    waiting: RefCell<Waiting>,
    is_batch: Cell<bool>,
    is_flushing: Cell<bool>,
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of them the socket has taken.
    sent: usize,
}

impl FramesOut {
    /// Sends on `socket`, which must not block.
    pub(super) fn new(socket: UnixStream) -> Rc<Self> {
        Rc::new(Self {
            socket,
            waiting: RefCell::default(),
            is_batch: Cell::new(false),
            is_flushing: Cell::new(false),
        })
    }

    /// Sends one frame: `meta` are its fields, joined.
    pub(super) fn send(self: &Rc<Self>, head: Head, meta: &[u8], body: &[u8]) {
        {
            let mut waiting = self.waiting.borrow_mut();
            let mut frame = FrameWriter::new(&mut waiting.bytes, head);
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
        if self.is_flushing.get() || self.write(|bytes| (&self.socket).write(bytes)) {
            return;
        }
        self.is_flushing.set(true);
        let out = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // Where the socket cannot be watched, the platform is as good as gone.
            if let Ok(socket) = out.watch() {
                while socket.writable().await.is_ok() && !out.write(|bytes| socket.try_write(bytes)) {}
            }
            out.is_flushing.set(false);
        });
    }

    /// Writes until nothing is left, which it says, or no more is taken.
    fn write(&self, write: impl Fn(&[u8]) -> io::Result<usize>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.sent < waiting.bytes.len() {
            match write(&waiting.bytes[waiting.sent..]) {
                Ok(written) => waiting.sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The reader learns of the end by itself.
                Err(_) => break,
            }
        }
        waiting.sent = 0;
        waiting.bytes.clear();
        waiting.bytes.shrink_to(BUFFER_BYTES_KEPT);
        true
    }

    /// The socket as something that is watched for writing only, which of tokio's types is the end of a pipe.
    fn watch(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.socket.try_clone()?.into())
    }
}
