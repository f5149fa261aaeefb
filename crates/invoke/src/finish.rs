//! The end of a call: exactly one run record, whatever happens.
//!
//! A [`Finisher`] is made when a version is known and recorded once: on failure, when the whole answer is there, when
//! its stream has ended, or, if nobody said anything before it is dropped, as cancelled.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alula_guard::breaker::Called;
use alula_guard::{Admission, Ended};
use alula_model::{Degraded, ErrorCode, Fault, Phases, Qualifier, Run, RunStatus, Tier, VersionKey};
use alula_pool::Lease;
use alula_runtime::{Body, BodyError, Duplex, Upgraded, VersionPlan};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::{Invocation, OpenRun, RunSink};

/// Records the run of one call, once.
#[derive(Debug)]
pub(crate) struct Finisher {
    in_flight: Arc<AtomicUsize>,
    request_bytes: Arc<AtomicU64>,
    received: Instant,
    leased_at: Option<Instant>,
    /// What is known so far and who takes it; taken when it is recorded.
    open: Option<(Run, OpenRun)>,
    /// What the guard let it have; given back with its end.
    admission: Option<Admission>,
    plan: Arc<VersionPlan>,
    qualifier: Qualifier,
}

impl Finisher {
    pub(crate) fn new(
        sink: &Arc<dyn RunSink>,
        in_flight: &Arc<AtomicUsize>,
        invocation: &Invocation,
        plan: &Arc<VersionPlan>,
        admission: Admission,
    ) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        let run = Run {
            id: invocation.id.clone(),
            key: plan.key.clone(),
            qualifier: invocation.target.qualifier.to_string(),
            trigger: invocation.trigger,
            attempt: invocation.attempt,
            status: RunStatus::Cancelled,
            http_status: None,
            error: None,
            message: None,
            started_at: invocation.received_at,
            phases: Phases::default(),
            tier: Tier::Warm,
            instance: None,
            request_bytes: 0,
            response_bytes: 0,
            parent: invocation.lineage.parent().cloned(),
            caller: invocation.caller.shared_name().cloned(),
            degraded: None,
        };
        Self {
            in_flight: Arc::clone(in_flight),
            request_bytes: Arc::default(),
            received: invocation.received,
            leased_at: None,
            open: Some((run, sink.begin(plan))),
            admission: Some(admission),
            plan: Arc::clone(plan),
            qualifier: invocation.target.qualifier.clone(),
        }
    }

    pub(crate) fn key(&self) -> &VersionKey {
        &self.plan.key
    }

    pub(crate) fn leased(&mut self, lease: &Lease) {
        self.leased_at = Some(Instant::now());
        if let Some((run, _)) = &mut self.open {
            run.tier = lease.tier;
            run.instance = Some(lease.instance.id().clone());
            run.phases.queue_us = micros(lease.queue);
            run.phases.start_us = micros(lease.start);
            run.phases.init_us = micros(lease.init);
        }
    }

    /// The call lay behind another one for a while, which was not its own time.
    pub(crate) fn waited(&mut self, waited: Duration) {
        self.leased_at = self.leased_at.map(|leased_at| leased_at + waited);
        if let Some((run, _)) = &mut self.open {
            run.phases.queue_us += micros(waited);
        }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        if let Some((run, _)) = &mut self.open {
            run.http_status = Some(status.as_u16());
        }
    }

    /// The caller was given another answer, with this status.
    pub(crate) fn degraded(&mut self, reason: Degraded, status: StatusCode) {
        if let Some((run, _)) = &mut self.open {
            run.degraded = Some(reason);
            run.http_status = Some(status.as_u16());
        }
    }

    /// The phases with the running time up to now.
    pub(crate) fn phases_so_far(&self) -> Phases {
        let now = Instant::now();
        let mut phases = self.open.as_ref().map_or_else(Phases::default, |(run, _)| run.phases);
        phases.run_us =
            self.leased_at.map_or(0, |leased_at| micros(now.saturating_duration_since(leased_at)));
        phases.total_us = micros(now.duration_since(self.received));
        phases
    }

    /// Records a failure and hands it back.
    pub(crate) fn fail(mut self, fault: Fault) -> Fault {
        // There is no lease to tell the tier where the start itself failed.
        let failed_to_start =
            matches!(fault.code, ErrorCode::InitFailed | ErrorCode::InitTimeout | ErrorCode::SandboxFailed);
        if let Some((run, _)) =
            self.open.as_mut().filter(|(run, _)| failed_to_start && run.instance.is_none())
        {
            run.tier = Tier::Cold;
        }
        self.settle(status_of(fault.code), Some(&fault), 0);
        fault
    }

    /// Records an answer that has been passed on whole.
    pub(crate) fn complete(mut self, response_bytes: u64) {
        self.settle(RunStatus::Done, None, response_bytes);
    }

    fn settle(&mut self, status: RunStatus, fault: Option<&Fault>, response_bytes: u64) {
        let phases = self.phases_so_far();
        let Some((mut run, open)) = self.open.take() else { return };
        run.phases = phases;
        run.status = status;
        run.error = fault.map(|fault| fault.code);
        run.message = fault.map(|fault| fault.message.clone());
        run.request_bytes = self.request_bytes.load(Ordering::Relaxed);
        run.response_bytes = response_bytes;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(admission) = self.admission.take() {
            let now = self.received + Duration::from_micros(phases.total_us);
            let Self { plan, qualifier, .. } = &*self;
            let call = Called { key: &plan.key, qualifier, spec: &plan.spec };
            admission.end(&call, &Ended { error: run.error, http_status: run.http_status, phases, now });
        }
        open.close(run);
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        if self.open.is_some() {
            let fault = Fault::new(ErrorCode::CallerGone, "the caller went away before the answer");
            self.settle(RunStatus::Cancelled, Some(&fault), 0);
        }
    }
}

fn status_of(code: ErrorCode) -> RunStatus {
    match code {
        ErrorCode::FunctionTimeout | ErrorCode::InitTimeout => RunStatus::Timeout,
        ErrorCode::CallerGone => RunStatus::Cancelled,
        ErrorCode::ConcurrencyExceeded
        | ErrorCode::BufferExhausted
        | ErrorCode::RateLimited
        | ErrorCode::CircuitOpen
        | ErrorCode::Blocked
        | ErrorCode::RequestTooLarge
        | ErrorCode::HeadersTooLarge
        | ErrorCode::InvalidRequest
        | ErrorCode::Draining => RunStatus::Rejected,
        _ => RunStatus::Failed,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The request's body, counted into the run record.
pub(crate) fn counted(body: Body, finisher: &mut Finisher) -> Body {
    match body.as_full() {
        Some(whole) => {
            finisher.request_bytes.store(whole.len() as u64, Ordering::Relaxed);
            body
        }
        None => Body::stream(Counted { body, bytes: Arc::clone(&finisher.request_bytes) }),
    }
}

struct Counted {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.bytes.fetch_add(data.map_or(0, |data| data.len() as u64), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a part of an answer that still runs needs and will give: a slot and a run record.
struct Open {
    /// Given up together when the stream has ended: the slot first, so that the next call need not wait.
    held: Option<(Lease, Finisher)>,
    bytes: u64,
}

impl Open {
    fn new(lease: Lease, finisher: Finisher) -> Self {
        Self { held: Some((lease, finisher)), bytes: 0 }
    }

    fn complete(&mut self) {
        if let Some((lease, finisher)) = self.held.take() {
            lease.release();
            finisher.complete(self.bytes);
        }
    }

    fn broke_off(&mut self, error: &BodyError) {
        if let Some((_, mut finisher)) = self.held.take() {
            let fault = fault_of(error);
            finisher.settle(status_of(fault.code), Some(&fault), self.bytes);
        }
    }
}

/// A streamed answer; dropped before its end it counts as cancelled.
pub(crate) struct HeldBody {
    /// Dropped before the lease, so that the call has been cancelled when the lease asks whether its code still runs.
    inner: Body,
    open: Open,
}

impl HeldBody {
    pub(crate) fn hold(body: Body, lease: Lease, finisher: Finisher) -> Body {
        Body::stream(Self { inner: body, open: Open::new(lease, finisher) })
    }
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.open.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(error)) => self.open.broke_off(error),
            None => self.open.complete(),
        }
        if self.inner.is_end_stream() {
            self.open.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How a body that broke off counts: the head was sent, so the caller only sees a connection that ends early.
fn fault_of(error: &BodyError) -> Fault {
    let code = match error {
        BodyError::Disconnected => ErrorCode::FunctionCrashed,
        BodyError::TooLarge { .. } => ErrorCode::ResponseTooLarge,
        BodyError::TimedOut => ErrorCode::FunctionTimeout,
        BodyError::Malformed { .. } => ErrorCode::BadResponse,
    };
    Fault::new(code, format!("the response broke off: {error}"))
}

/// An upgraded connection. It has no end of its own: it is complete when it is closed.
pub(crate) struct HeldUpgrade {
    inner: Box<dyn Duplex>,
    open: Open,
}

impl HeldUpgrade {
    pub(crate) fn hold(upgraded: Upgraded, lease: Lease, finisher: Finisher) -> Upgraded {
        Upgraded(Box::new(Self { inner: upgraded.0, open: Open::new(lease, finisher) }))
    }
}

impl AsyncRead for HeldUpgrade {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.open.bytes += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeldUpgrade {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Drop for HeldUpgrade {
    fn drop(&mut self) {
        self.open.complete();
    }
}
