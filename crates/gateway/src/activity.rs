//! What a connection is doing, so that one lazy timer can end those that do nothing for too long.
//!
//! hyper arms and drops a boxed timer for the headers of every request; here a request costs a few relaxed
//! stores, and a connection has one timer that looks at them now and then. It also sees what hyper does not:
//! silence before the first byte, a peer that no longer reads or takes a byte now and then, an HTTP/2 peer that opens no
//! window for a response, one that asks and resets without end, an idle HTTP/2 connection kept up by pings.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::options::Options;

/// What a peer that falls behind must take within the time for writes, so that a byte now and then does not hold a response
/// for ever: some 500 bytes a second by default.
const TAKEN_BYTES_LEAST: u64 = 16 * 1024;
/// How many more requests of an HTTP/2 connection may be reset than answered. A person who clicks on resets some; beyond
/// this it is somebody who has work begun and thrown away (rapid reset).
pub(crate) const ABANDONED_MAX: u32 = 200;
/// Responses of one connection that are remembered before those that are gone are looked for.
const RESPONSES_SWEEP: usize = 256;

/// How long each state may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

impl Patience {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            header: Duration::from_millis(options.header_timeout_ms),
            idle: Duration::from_millis(options.idle_timeout_ms),
            write: Duration::from_millis(options.write_timeout_ms),
        }
    }

    /// How often a connection is looked at.
    pub(crate) fn step(&self) -> Duration {
        self.header.min(self.idle).min(self.write)
    }
}

/// What the timer finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing is overdue.
    Fine,
    /// No request has come for too long.
    Idle,
    /// The peer sends its headers, or takes its responses, too slowly.
    Stalled,
}

/// What one connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    origin: Instant,
    /// Requests whose response is not out yet.
    running: AtomicU32,
    /// When the present state began, in milliseconds since `origin`.
    since_ms: AtomicU64,
    /// Whether the bytes of a next request have begun to come, or a first one is awaited.
    awaits_headers: AtomicBool,
    /// Whether the connection carries several requests at once, so that bytes say nothing about requests.
    is_multiplexed: AtomicBool,
    /// Whether a request was begun whose response is not wholly out, or somebody else writes on the connection.
    owes_response: AtomicBool,
    /// Whether the connection's bytes are no longer HTTP.
    is_handed_over: AtomicBool,
    /// Since when the peer has taken no byte that waits for it: milliseconds since `origin` plus one, 0 for never.
    blocked_since_ms: AtomicU64,
    /// Bytes that it has taken since.
    taken_bytes: AtomicU64,
    /// How many more requests were reset than answered.
    abandoned: AtomicU32,
    /// Since when each response of an HTTP/2 connection has had something that its peer opens no window for, counted like
    /// `blocked_since_ms`.
    held: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            running: AtomicU32::new(0),
            since_ms: AtomicU64::new(0),
            awaits_headers: AtomicBool::new(true),
            is_multiplexed: AtomicBool::new(false),
            owes_response: AtomicBool::new(false),
            is_handed_over: AtomicBool::new(false),
            blocked_since_ms: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            abandoned: AtomicU32::new(0),
            held: Mutex::default(),
        }
    }

    /// A request has begun; it runs until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: http::Version) -> Running {
        let mut held = None;
        if version == http::Version::HTTP_2 {
            self.is_multiplexed.store(true, Relaxed);
            held = Some(self.hold());
        }
        self.awaits_headers.store(false, Relaxed);
        self.owes_response.store(true, Relaxed);
        self.running.fetch_add(1, Relaxed);
        Running { activity: Arc::clone(self), held, is_answered: false }
    }

    fn hold(&self) -> Arc<AtomicU64> {
        let held = Arc::default();
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= RESPONSES_SWEEP {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Arc::downgrade(&held));
        held
    }

    /// Whether its peer has far more requests thrown away than answered.
    pub(crate) fn is_abused(&self) -> bool {
        self.abandoned.load(Relaxed) > ABANDONED_MAX
    }

    /// From now on the connection carries another protocol.
    pub(crate) fn hand_over(&self) {
        self.is_handed_over.store(true, Relaxed);
    }

    /// Whether what is written belongs to a request that was begun, or is no HTTP.
    pub(crate) fn owes_response(&self) -> bool {
        self.owes_response.load(Relaxed)
    }

    /// All bytes that were written are out. Tells whether no response is owed now.
    pub(crate) fn settle(&self) -> bool {
        let is_settled = self.running.load(Relaxed) == 0 && !self.is_handed_over.load(Relaxed);
        if is_settled {
            self.owes_response.store(false, Relaxed);
        }
        is_settled
    }

    pub(crate) fn find(&self, patience: &Patience) -> Finding {
        let now_ms = self.now_ms();
        let lasts =
            |since_ms: u64, limit: Duration| u128::from(now_ms.saturating_sub(since_ms)) >= limit.as_millis();
        let is_stuck = |since: u64| since != 0 && lasts(since - 1, patience.write);
        if is_stuck(self.blocked_since_ms.load(Relaxed)) || self.is_abused() {
            return Finding::Stalled;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|one| one.strong_count() > 0);
        if held.iter().filter_map(Weak::upgrade).any(|since| is_stuck(since.load(Relaxed))) {
            return Finding::Stalled;
        }
        drop(held);
        if self.running.load(Relaxed) != 0 {
            return Finding::Fine;
        }
        let since_ms = self.since_ms.load(Relaxed);
        match self.awaits_headers.load(Relaxed) {
            true if lasts(since_ms, patience.header) => Finding::Stalled,
            false if lasts(since_ms, patience.idle) => Finding::Idle,
            _ => Finding::Fine,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// A request whose response is not out yet.
#[derive(Debug)]
pub(crate) struct Running {
    activity: Arc<Activity>,
    /// Of a request over HTTP/2.
    held: Option<Arc<AtomicU64>>,
    is_answered: bool,
}

impl Running {
    /// Whether it came over HTTP/2.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.held.is_some()
    }

    /// There is something for the peer, which takes it when it opens its window.
    pub(crate) fn holds(&self) {
        if let Some(held) = &self.held {
            held.store(self.activity.now_ms() + 1, Relaxed);
        }
    }

    /// The peer has taken what there was, and waits for more.
    pub(crate) fn waits(&self) {
        if let Some(held) = &self.held {
            held.store(0, Relaxed);
        }
    }

    /// All of the response has been taken.
    pub(crate) fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.since_ms.store(activity.now_ms(), Relaxed);
        activity.running.fetch_sub(1, Relaxed);
        if self.held.is_some() {
            let step = |abandoned: u32| match self.is_answered {
                true => abandoned.checked_sub(1),
                false => abandoned.checked_add(1),
            };
            let _ = activity.abandoned.fetch_update(Relaxed, Relaxed, step);
        }
    }
}

/// Is told what happens on a byte stream.
pub(crate) trait Witness: Unpin {
    /// Bytes have come.
    fn received(&self);
    /// Bytes could not be sent: the peer does not take them.
    fn blocked(&self) {}
    /// So many bytes were sent.
    fn sent(&self, bytes: u64) {
        let _ = bytes;
    }
    /// All bytes that there were have been sent.
    fn drained(&self) {}
}

impl Witness for Arc<Activity> {
    fn received(&self) {
        let between = self.running.load(Relaxed) == 0 && !self.awaits_headers.load(Relaxed);
        if between && !self.is_multiplexed.load(Relaxed) {
            self.since_ms.store(self.now_ms(), Relaxed);
            self.awaits_headers.store(true, Relaxed);
        }
    }

    fn blocked(&self) {
        if self.blocked_since_ms.load(Relaxed) == 0 {
            self.taken_bytes.store(0, Relaxed);
            self.blocked_since_ms.store(self.now_ms() + 1, Relaxed);
        }
    }

    fn sent(&self, bytes: u64) {
        if self.blocked_since_ms.load(Relaxed) != 0
            && self.taken_bytes.fetch_add(bytes, Relaxed) + bytes >= TAKEN_BYTES_LEAST
        {
            self.drained();
        }
    }

    fn drained(&self) {
        if self.blocked_since_ms.load(Relaxed) != 0 {
            self.blocked_since_ms.store(0, Relaxed);
        }
    }
}

/// A byte stream whose witness is told what happens.
#[derive(Debug)]
pub(crate) struct Watched<S, W> {
    pub(crate) stream: S,
    pub(crate) witness: W,
}

impl<S, W: Witness> Watched<S, W> {
    fn tell(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => self.witness.blocked(),
            Poll::Ready(Ok(bytes)) => self.witness.sent(*bytes as u64),
            Poll::Ready(Err(_)) => {}
        }
        result
    }
}

impl<S: AsyncRead + Unpin, W: Witness> AsyncRead for Watched<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.witness.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin, W: Witness> AsyncWrite for Watched<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.tell(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.tell(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if result.is_ready() {
            self.witness.drained();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        header: Duration::from_millis(10),
        idle: Duration::from_millis(50),
        write: Duration::from_millis(20),
    };

    async fn after(activity: &Activity, millis: u64) -> Finding {
        tokio::time::advance(Duration::from_millis(millis)).await;
        activity.find(&PATIENCE)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_idle_between_requests_and_a_stall_before_and_within_headers() {
        let activity = Arc::new(Activity::new());
        assert_eq!(after(&activity, 9).await, Finding::Fine);
        assert_eq!(after(&activity, 1).await, Finding::Stalled);
        let running = activity.begin(http::Version::HTTP_11);
        assert_eq!(after(&activity, 1_000).await, Finding::Fine);
        drop(running);
        assert_eq!(after(&activity, 49).await, Finding::Fine);
        assert_eq!(after(&activity, 1).await, Finding::Idle);
        activity.received();
        assert_eq!(after(&activity, 9).await, Finding::Fine);
        activity.received();
        assert_eq!(after(&activity, 1).await, Finding::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_multiplexed_connection_up() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin(http::Version::HTTP_2));
        for _ in 0..10 {
            activity.received();
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        assert_eq!(activity.find(&PATIENCE), Finding::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_bytes_is_a_stall_even_while_a_request_runs() {
        let activity = Arc::new(Activity::new());
        let _running = activity.begin(http::Version::HTTP_11);
        activity.blocked();
        assert_eq!(after(&activity, 19).await, Finding::Fine);
        activity.blocked();
        assert_eq!(after(&activity, 1).await, Finding::Stalled);
        activity.drained();
        assert_eq!(after(&activity, 0).await, Finding::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_now_and_then_is_a_stall_too() {
        let activity = Arc::new(Activity::new());
        let _running = activity.begin(http::Version::HTTP_11);
        for _ in 0..4 {
            activity.blocked();
            assert_eq!(after(&activity, 4).await, Finding::Fine);
            activity.sent(100);
        }
        activity.blocked();
        assert_eq!(after(&activity, 4).await, Finding::Stalled);
        activity.sent(TAKEN_BYTES_LEAST);
        assert_eq!(after(&activity, 0).await, Finding::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_no_window_is_opened_for_is_a_stall_and_one_that_waits_for_its_function_is_not() {
        let activity = Arc::new(Activity::new());
        let (held, other) = (activity.begin(http::Version::HTTP_2), activity.begin(http::Version::HTTP_2));
        assert_eq!(after(&activity, 1_000).await, Finding::Fine);
        held.holds();
        other.holds();
        assert_eq!(after(&activity, 19).await, Finding::Fine);
        other.waits();
        held.waits();
        assert_eq!(after(&activity, 1_000).await, Finding::Fine);
        held.holds();
        assert_eq!(after(&activity, 20).await, Finding::Stalled);
        drop(held);
        assert_eq!(after(&activity, 0).await, Finding::Fine);
    }

    #[tokio::test(start_paused = true)]
    async fn far_more_resets_than_answers_are_abuse() {
        let activity = Arc::new(Activity::new());
        let request = |is_answered| {
            let mut running = activity.begin(http::Version::HTTP_2);
            if is_answered {
                running.answered();
            }
        };
        (0..10 * ABANDONED_MAX).for_each(|n| request(n % 2 == 0));
        assert!(!activity.is_abused());
        (0..=ABANDONED_MAX).for_each(|_| request(false));
        assert_eq!(after(&activity, 0).await, Finding::Stalled);
        assert!(activity.held.lock().unwrap().len() <= RESPONSES_SWEEP);
    }
}
