//! The sending side of a guest's socket.
//!
//! Whoever has something to send writes it at once. Only what the socket refuses is kept, in order, and sent by
//! a task that lives until nothing is left. Only that task watches whether the socket takes more: a guest's every
//! read says so, and would wake the platform for nothing. What can be kept is bounded by what may be sent at all: whole request
//! bodies, which are in memory anyway, and a window for each streamed one.
//!
//! What a busy guest does not need yet may be gathered instead: it goes out with what others send in the same round of
//! the platform's tasks, in one write that wakes the guest at most once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::frames::{BODY_BYTES_MAX, Flags, FrameWriter, Head, Kind};
use crate::next_turn;

/// Memory that is kept for encoding the next frame.
const SCRATCH_BYTES_KEPT: usize = 64 * 1024;
/// Frames that are gathered at the most before they go out: a guest of short calls should not come to wait for them.
const GATHERED_MAX: usize = 4;

/// Frames on their way to the guest.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: UnixStream,
    queue: Mutex<Queue>,
    has_gathered: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Where frames are encoded; between two calls it holds those that were gathered.
    scratch: Vec<u8>,
    gathered: usize,
    refused: VecDeque<Bytes>,
    is_flushing: bool,
    is_closed: bool,
}

impl Outbox {
    /// An outbox over a socket that does not block.
    pub(super) fn new(socket: UnixStream) -> Arc<Self> {
        Arc::new(Self { socket, queue: Mutex::default(), has_gathered: Notify::new() })
    }

    /// Sends what `encode` appends. A guest that is gone is noticed by the reader, not here.
    pub(super) fn send(self: &Arc<Self>, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.queue();
        encode(&mut queue.scratch);
        self.send_scratch(&mut queue);
    }

    /// Sends what `encode` appends soon: with what else is sent now. [`Outbox::send_gathered`] has to run.
    pub(super) fn gather(self: &Arc<Self>, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.queue();
        encode(&mut queue.scratch);
        queue.gathered += 1;
        match queue.gathered {
            1 => self.has_gathered.notify_one(),
            GATHERED_MAX.. => self.send_scratch(&mut queue),
            _ => {}
        }
    }

    /// Sends what is gathered, each time when the tasks have run that were due when the first frame was.
    pub(super) async fn send_gathered(self: &Arc<Self>) -> Infallible {
        loop {
            self.has_gathered.notified().await;
            next_turn().await;
            self.send_scratch(&mut self.queue());
        }
    }

    fn send_scratch(self: &Arc<Self>, queue: &mut Queue) {
        queue.gathered = 0;
        if queue.scratch.is_empty() {
            return;
        }
        let sent =
            if queue.refused.is_empty() { self.write(&queue.scratch, &mut queue.is_closed) } else { 0 };
        if sent < queue.scratch.len() && !queue.is_closed {
            queue.refused.push_back(Bytes::copy_from_slice(&queue.scratch[sent..]));
            self.flush_later(queue);
        }
        queue.scratch.clear();
        queue.scratch.shrink_to(SCRATCH_BYTES_KEPT);
    }

    /// Sends `body` in DATA frames, without copying what the socket does not take at once.
    pub(super) fn send_body(self: &Arc<Self>, call: u32, mut body: Bytes, is_last: bool) {
        loop {
            let piece = body.split_to(body.len().min(BODY_BYTES_MAX));
            let flags = Flags::default().with_if(Flags::END, is_last && body.is_empty());
            self.send_piece(Head::new(Kind::Data, call).flags(flags), piece);
            if body.is_empty() {
                return;
            }
        }
    }

    fn send_piece(self: &Arc<Self>, head: Head, mut piece: Bytes) {
        let mut queue = self.queue();
        let queue = &mut *queue;
        self.send_scratch(queue);
        FrameWriter::new(&mut queue.scratch, head).finish_apart(piece.len());
        let mut header = Bytes::copy_from_slice(&queue.scratch);
        queue.scratch.clear();
        if queue.refused.is_empty() {
            let sent = self.write_both(&header, &piece, &mut queue.is_closed);
            header.advance(sent.min(header.len()));
            piece.advance(sent.saturating_sub(crate::frames::HEADER_BYTES));
        }
        if queue.is_closed || (header.is_empty() && piece.is_empty()) {
            return;
        }
        queue.refused.extend([header, piece].into_iter().filter(|part| !part.is_empty()));
        self.flush_later(queue);
    }

    /// Bytes that the socket took.
    fn write(&self, bytes: &[u8], is_closed: &mut bool) -> usize {
        taken((&self.socket).write(bytes), is_closed)
    }

    fn write_both(&self, header: &[u8], piece: &[u8], is_closed: &mut bool) -> usize {
        taken((&self.socket).write_vectored(&[io::IoSlice::new(header), io::IoSlice::new(piece)]), is_closed)
    }

    fn flush_later(self: &Arc<Self>, queue: &mut Queue) {
        if queue.is_flushing {
            return;
        }
        queue.is_flushing = true;
        let outbox = Arc::clone(self);
        tokio::spawn(outbox.flush_later_on());
    }

    /// Sends what was refused, as the guest reads. Where the socket cannot be watched, the guest is as good as gone.
    async fn flush_later_on(self: Arc<Self>) {
        let Ok(socket) = watch(&self.socket) else { return };
        while socket.writable().await.is_ok() && !self.flush(&socket) {}
    }

    /// Whether nothing is left to be sent.
    fn flush(&self, socket: &pipe::Sender) -> bool {
        let mut queue = self.queue();
        let queue = &mut *queue;
        while let Some(first) = queue.refused.front_mut() {
            let sent = taken(socket.try_write(first), &mut queue.is_closed);
            first.advance(sent);
            if queue.is_closed {
                queue.refused.clear();
            } else if !first.is_empty() {
                return false;
            } else {
                queue.refused.pop_front();
            }
        }
        queue.is_flushing = false;
        true
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket as something that is watched for writing only, which of tokio's types is the end of a pipe; a descriptor
/// of its own, because one can be watched only once.
fn watch(socket: &UnixStream) -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd_unchecked(socket.try_clone()?.into())
}

fn taken(written: io::Result<usize>, is_closed: &mut bool) -> usize {
    match written {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
        Err(_) => {
            *is_closed = true;
            0
        }
    }
}
