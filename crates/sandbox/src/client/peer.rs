//! Asking another process and waiting for its answer: many questions at once over one link.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::link::{self, ANSWER_BYTES_MAX, Received};
use crate::protocol::{NEWS, Numbered};

/// One link and the questions that wait for answers on it.
#[derive(Debug)]
pub(super) struct Peer<A> {
    link: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting<A>>,
    last: AtomicU64,
}

#[derive(Debug)]
struct Waiting<A> {
    /// Nothing is answered any more.
    ended: bool,
    asked: HashMap<u64, oneshot::Sender<Received<A>>>,
}

/// Takes a question back when its future is dropped or answered.
struct Asked<'a, A> {
    peer: &'a Peer<A>,
    number: u64,
}

impl<A> Drop for Asked<'_, A> {
    fn drop(&mut self) {
        self.peer.waiting().asked.remove(&self.number);
    }
}

impl<A> Peer<A> {
    /// Takes the link; inside a tokio runtime.
    pub(super) fn new(link: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&link)?;
        rustix::fs::fcntl_setfl(&link, flags | OFlags::NONBLOCK)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the link owns its descriptor and keeps it open, under the same number, until it is dropped.
        let link = unsafe { AsyncFd::register_with_interest(link, interest) }?;
        let waiting = Mutex::new(Waiting { ended: false, asked: HashMap::new() });
        Ok(Self { link, waiting, last: AtomicU64::new(NEWS) })
    }

    /// A number for a question. Taken before asking by those who must know it before the answer.
    pub(super) fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends what has no answer, now; lost when the other side has not read its last messages.
    pub(super) fn tell(&self, body: impl Serialize) -> io::Result<()> {
        link::send(self.link.get_ref(), &Numbered { number: self.next_number(), body }, &[])
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(
        &self,
        number: u64,
        body: impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Received<A>> {
        let message = link::encode(&Numbered { number, body })?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.ended {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            waiting.asked.insert(number, sender);
        }
        let _asked = Asked { peer: self, number };
        self.link.async_io(Interest::WRITABLE, |link| link::send_bytes(link.as_fd(), &message, fds)).await?;
        receiver.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: DeserializeOwned> Peer<A> {
    /// Receives one message; `None` at the end of the link.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received<Numbered<A>>>> {
        self.link.async_io(Interest::READABLE, |link| link::receive(link, buffer)).await
    }

    /// Hands answers to those who asked and news to `on_news`, until the link ends.
    pub(super) async fn listen(&self, mut on_news: impl FnMut(A)) {
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            match self.receive(&mut buffer).await {
                Ok(Some(Received { message, fds })) => {
                    if message.number == NEWS {
                        on_news(message.body);
                    } else if let Some(asked) = self.waiting().asked.remove(&message.number) {
                        let _ = asked.send(Received { message: message.body, fds });
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "a link to the sandbox ended");
                    break;
                }
            }
        }
        let mut waiting = self.waiting();
        waiting.ended = true;
        waiting.asked.clear();
    }
}
