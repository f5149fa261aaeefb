//! One call of a guest: its future, driven by whoever waits for the answer.
//!
//! No task is spawned. Until the head of the answer is there the caller drives the guest, afterwards the body does, so
//! a guest runs at the pace of its reader and ends with it. A small body that the guest has written by the time its
//! head is out is gathered, so that it goes out in one piece with its length.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use alula_model::{ErrorCode, Fault};
use alula_runtime::{Answer, Body, BodyError};
use bytes::{Bytes, BytesMut};
use http::{Method, Response, header};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode as GuestError;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::fault::{self, Ending};
use crate::instance::{Ended, Loaded, Running, Warm};

/// Bytes of an answer that are gathered before its head goes out.
const GATHERED_BYTES_MAX: usize = 64 << 10;

/// What a guest hands over as its answer.
pub(crate) type Head = Result<Response<WasiBody>, GuestError>;
type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// A guest in the middle of a call.
pub(crate) struct Exchange {
    loaded: Arc<Loaded>,
    running: Running,
    /// `None` once it has ended.
    guest: Option<Future<Ended>>,
    /// A guest that has ended well and may run another call, once its answer has ended too.
    reusable: Option<Warm>,
    /// Why the guest ended, where it did not end well.
    ending: Option<Ending>,
    /// Made when the guest is waited for at all: the deadline, or the end of the instance.
    cut: Option<Future<Ending>>,
    deadline: Instant,
}

impl Exchange {
    /// Begins a call that `guest` runs until `deadline`.
    pub(crate) fn new(
        loaded: &Arc<Loaded>,
        running: Running,
        guest: impl std::future::Future<Output = Ended> + Send + 'static,
        deadline: Instant,
    ) -> Self {
        let guest: Future<Ended> = Box::pin(guest);
        Self {
            loaded: Arc::clone(loaded),
            running,
            guest: Some(guest),
            reusable: None,
            ending: None,
            cut: None,
            deadline,
        }
    }

    /// Drives the guest until it has answered, and gathers what is there of its body.
    pub(crate) async fn answer(
        mut self,
        mut head: oneshot::Receiver<Head>,
        method: Method,
    ) -> Result<Answer, Fault> {
        let head = std::future::poll_fn(|cx| self.poll_head(&mut head, cx)).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.fault(&Ending::Refused(error))),
            Err(ending) => return Err(self.fault(&ending)),
        };
        let (head, body) = response.into_parts();
        let mut body = GuestBody { exchange: self, body, gathered: VecDeque::new() };
        let gathered = std::future::poll_fn(|cx| body.poll_gather(cx)).await?;
        let mut headers = head.headers;
        let body = match gathered {
            Some(whole) => {
                // The length of what is there is known better than it was said, unless nothing was to be sent.
                if method != Method::HEAD {
                    headers.remove(header::CONTENT_LENGTH);
                }
                Body::full(whole)
            }
            None => Body::stream(body),
        };
        Ok(Answer::new(head.status, headers, body))
    }

    fn poll_head(
        &mut self,
        head: &mut oneshot::Receiver<Head>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Ending>> {
        let has_ended = self.poll_guest(cx).is_ready();
        if let Ok(head) = head.try_recv() {
            return Poll::Ready(Ok(head));
        }
        if has_ended {
            return Poll::Ready(Err(self.ending.take().unwrap_or(Ending::Silent)));
        }
        self.poll_cut(cx).map(Err)
    }

    /// Runs the guest until it waits. Ready once it has ended; what went wrong is kept.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(guest) = &mut self.guest else { return Poll::Ready(()) };
        let began = Instant::now();
        let polled = guest.as_mut().poll(cx);
        let took = began.elapsed().as_nanos();
        self.loaded.cpu_ns.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        let Ended { result, guest } = ready!(polled);
        self.guest = None;
        match result {
            Ok(()) => self.reusable = guest.may_run_another(&self.loaded.plan.spec).then_some(guest),
            Err(error) => {
                self.ending = Some(Ending::of(&error, guest.was_refused_memory(), self.deadline));
            }
        }
        Poll::Ready(())
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let (deadline, stopped) = (self.deadline, &self.loaded.stopped);
        let cut = self.cut.get_or_insert_with(|| {
            let stopped = stopped.clone();
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => Ending::TimedOut,
                    () = stopped.cancelled() => Ending::Stopped,
                }
            })
        });
        cut.as_mut().poll(cx)
    }

    /// What the caller is told; what only the function's owner should know is logged.
    fn fault(&mut self, ending: &Ending) -> Fault {
        // Its last lines may have no end yet.
        self.guest = None;
        fault::of(ending, &self.loaded, self.running.call())
    }
}

/// The body of an answer, which runs the guest that writes it.
struct GuestBody {
    exchange: Exchange,
    body: WasiBody,
    /// What was there already.
    gathered: VecDeque<Bytes>,
}

impl GuestBody {
    /// The whole body where it is small and there already, `None` where it is streamed.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let mut bytes = 0;
        loop {
            match self.poll_guest_body(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        bytes += data.len();
                        self.gathered.push_back(data);
                        if bytes > GATHERED_BYTES_MAX {
                            return Poll::Ready(Ok(None));
                        }
                    }
                    // Trailers: after them comes only the end.
                    Err(_) => continue,
                },
                Poll::Ready(None) => return Poll::Ready(Ok(Some(self.take_gathered()))),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(self.broken_off())),
                Poll::Pending => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn take_gathered(&mut self) -> Bytes {
        if self.gathered.len() <= 1 {
            return self.gathered.pop_front().unwrap_or_default();
        }
        let mut whole = BytesMut::new();
        self.gathered.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
        whole.freeze()
    }

    /// The next piece, letting the guest run for it.
    fn poll_guest_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let has_ended = self.exchange.poll_guest(cx).is_ready();
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if has_ended && polled.is_pending() {
            // Nobody is left who would write; what the guest holds of the body goes with it.
            self.exchange.reusable = None;
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        match polled {
            // A guest that broke down has not said that this is the whole body.
            Poll::Ready(None) if self.exchange.ending.is_some() => {
                Poll::Ready(Some(Err(WasiError::ConnectionTerminated)))
            }
            Poll::Ready(None) => {
                if let Some(guest) = self.exchange.reusable.take() {
                    self.exchange.loaded.keep(guest);
                }
                Poll::Ready(None)
            }
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending => {
                let ending = ready!(self.exchange.poll_cut(cx));
                self.exchange.ending = Some(ending);
                Poll::Ready(Some(Err(WasiError::ConnectionTerminated)))
            }
        }
    }

    /// The fault of a body that did not end well. The guest goes.
    fn broken_off(&mut self) -> Fault {
        let ending = self.exchange.ending.take().unwrap_or(Ending::BrokenOff);
        self.exchange.fault(&ending)
    }
}

impl HttpBody for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.gathered.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(match ready!(self.poll_guest_body(cx)) {
            Some(Err(_)) => {
                // The answer is on its way, so nobody is told but the reader and the log.
                let fault = self.broken_off();
                self.exchange.loaded.tell(&format!("the answer was broken off: {fault}"));
                Some(Err(match fault.code {
                    ErrorCode::FunctionTimeout => BodyError::TimedOut,
                    _ => BodyError::Disconnected,
                }))
            }
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }
}
