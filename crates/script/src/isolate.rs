//! One context: a runtime with its heap, the prelude, the script, and the calls in it.
//!
//! JavaScript runs in *turns*: something enters it, its microtasks run until none is left, and what it asked for is
//! begun. A turn has a time limit. No JavaScript value is kept outside of the context except the prelude's hooks,
//! which are dropped before it; everything else is known by number on both sides.
//!
//! A context that breaks a limit is dead: its calls end, and it is never entered again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rquickjs::{CatchResultExt as _, CaughtError, Context, Ctx, Runtime, TypedArray};
use tokio::time::Instant;

use crate::ScriptError;
use crate::blank::Blank;
use crate::calls::{Head, next_of};
use crate::engine::ModuleOptions;
use crate::fetches::{AbortOnDrop, Fetches};
use crate::hooks::{self, Hooks};
use crate::imports::Imports;
use crate::loader::load_module;
use crate::message::{BodyStream, Request, RequestBody, Response, ResponseBody};
use crate::shared::{Effect, Shared};

/// The number under which loading waits, like a call.
const LOADING: u32 = 0;
/// Microtasks between two looks at the clock: short ones never meet the engine's own check.
const JOBS_BETWEEN_CHECKS: u32 = 256;
/// How often the memory of a context is counted, which takes a walk over its heap.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// See the module. The fields are dropped in this order, which the engine needs.
pub(crate) struct Isolate {
    hooks: Hooks,
    context: Context,
    runtime: Runtime,
    pub(crate) shared: Rc<Shared>,
    pub(crate) fetches: Fetches,
    timers: RefCell<HashMap<u32, AbortOnDrop>>,
    last_id: Cell<u32>,
    is_dead: Cell<bool>,
    measured: Cell<(Option<Instant>, usize)>,
}

impl Isolate {
    /// Makes a context, of `blank` where there is one, and runs the script's top level in it, at most until `deadline`.
    pub(crate) async fn load(
        options: &Rc<ModuleOptions>,
        blank: Option<Blank>,
        deadline: Option<Instant>,
    ) -> Result<Rc<Self>, ScriptError> {
        options.meter.begins();
        let made = blank.map_or_else(Blank::new, Ok).and_then(|blank| Self::new(options, blank));
        options.meter.ends();
        let isolate = made?;
        isolate.shared.calls.begin(LOADING, LOADING, None);
        let artifact = &options.artifact;
        isolate.turn(Some(LOADING), deadline, |ctx, hooks| {
            let (module, promise) = load_module(ctx, &artifact.modules[0].bytecode)?.eval()?;
            let loaded = hooks.loaded.clone().restore(ctx)?;
            loaded.call((LOADING, promise, module.namespace()?, artifact.export.as_deref()))
        });
        let head = isolate.head(LOADING, deadline).await;
        isolate.shared.calls.remove(LOADING);
        head?;
        isolate.measure();
        Ok(isolate)
    }

    fn new(options: &Rc<ModuleOptions>, blank: Blank) -> Result<Rc<Self>, ScriptError> {
        let Blank { install, context, runtime } = blank;
        runtime.set_memory_limit(options.limits.memory_bytes);
        runtime.set_max_stack_size(options.limits.stack_bytes);
        runtime.set_loader(Imports(options.clone()), Imports(options.clone()));
        let shared = Rc::new(Shared::new(options));
        let of = Rc::clone(&shared);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            let is_over = of.is_over_time();
            of.is_interrupted.set(of.is_interrupted.get() || is_over);
            is_over
        })));
        let of = Rc::clone(&shared);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, is_handled| {
                of.note_rejection(&ctx, promise, reason, is_handled);
            },
        )));
        let hooks = context.with(|ctx| {
            hooks::install(&ctx, install, &shared)
                .catch(&ctx)
                .map_err(|error| ScriptError::Broken { reason: error.to_string() })
        })?;
        Ok(Rc::new(Self {
            hooks,
            context,
            runtime,
            shared,
            fetches: Fetches::default(),
            timers: RefCell::default(),
            last_id: Cell::new(LOADING),
            is_dead: Cell::new(false),
            measured: Cell::new((None, 0)),
        }))
    }

    /// Whether it takes no more calls.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// Whether no call runs in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.calls.is_idle()
    }

    /// What it used when it was measured last.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.measured.get().1
    }

    fn measure(&self) {
        let used = usize::try_from(self.runtime.memory_usage().malloc_size).unwrap_or(0);
        self.measured.set((Some(Instant::now()), used));
    }

    /// Runs one call to the beginning of its answer.
    pub(crate) async fn call(self: &Rc<Self>, request: Request) -> Result<Response, ScriptError> {
        let Request { method, url, headers, body, deadline, log_id, call } = request;
        let id = self.next_id();
        let (whole, pieces) = match body {
            RequestBody::Empty => (None, None),
            RequestBody::Whole(bytes) => (Some(bytes), None),
            RequestBody::Stream(pieces) => (None, Some(pieces)),
        };
        let is_streamed = pieces.is_some();
        self.shared.calls.begin(id, log_id, pieces);
        let guard = CallGuard { isolate: Rc::clone(self), id };
        self.turn(Some(id), deadline, |ctx, hooks| {
            let body = whole.map(|bytes| TypedArray::<u8>::new_copy(ctx.clone(), bytes)).transpose()?;
            let begin = hooks.begin.clone().restore(ctx)?;
            let takes_events = self.shared.takes_events.get();
            let call = takes_events.then(|| hooks::call_object(ctx, call, deadline)).transpose()?;
            match body {
                Some(body) => begin.call((id, method, url, headers, body, false, call)),
                None => begin.call((id, method, url, headers, rquickjs::Null, is_streamed, call)),
            }
        });
        let Head { status, headers, body } = self.head(id, deadline).await?;
        let body = match body {
            Some(bytes) => ResponseBody::Whole(bytes),
            None => ResponseBody::Stream(BodyStream { call: Rc::new(guard) }),
        };
        Ok(Response { status, headers, body })
    }

    async fn head(&self, id: u32, deadline: Option<Instant>) -> Result<Head, ScriptError> {
        if let Some(head) = self.shared.calls.take_head(id) {
            return head;
        }
        let head = std::future::poll_fn(|cx| self.shared.calls.poll_head(id, cx));
        match deadline {
            None => head.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline, head).await.unwrap_or(Err(ScriptError::TimedOut))
            }
        }
    }

    fn next_id(&self) -> u32 {
        // Four thousand million calls later the first ones have long ended.
        self.last_id.set(self.last_id.get().wrapping_add(1).max(LOADING + 1));
        self.last_id.get()
    }

    /// Enters the script once: see the module. `call` is whose turn it is, where it is one's.
    pub(crate) fn turn(
        self: &Rc<Self>,
        call: Option<u32>,
        deadline: Option<Instant>,
        enter: impl FnOnce(&Ctx<'_>, &Hooks) -> rquickjs::Result<()>,
    ) {
        if self.is_dead() {
            return;
        }
        let meter = &self.shared.options.meter;
        meter.begins();
        let limit = Instant::now() + self.shared.options.limits.turn;
        let end = deadline.map_or(limit, |deadline| deadline.min(limit));
        self.shared.turn_ends.set(Some(end));
        self.shared.current.set(call);
        let entered = self.context.with(|ctx| match enter(&ctx, &self.hooks).catch(&ctx) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.describe(&error)),
        });
        // Microtasks of all calls run one after the other.
        let ran = entered.and_then(|()| self.run_jobs(call)).and_then(|()| self.tell_rejections(call));
        meter.ends();
        self.shared.turn_ends.set(None);
        self.shared.current.set(None);
        if self.shared.is_interrupted.get() {
            let is_late = deadline.is_some_and(|deadline| deadline < limit);
            let limit_ms = u64::try_from(self.shared.options.limits.turn.as_millis()).unwrap_or(u64::MAX);
            self.die(
                call,
                &if is_late { ScriptError::TimedOut } else { ScriptError::TurnTooLong { limit_ms } },
            );
        } else if self.shared.is_out_of_memory.get() {
            self.die(call, &self.shared.out_of_memory());
        } else if let Err(error) = ran {
            self.die(call, &error);
        } else {
            self.perform_effects();
            if self.measured.get().0.is_some_and(|last| last.elapsed() > MEASURE_EVERY) {
                self.measure();
            }
        }
    }

    fn run_jobs(&self, call: Option<u32>) -> Result<(), ScriptError> {
        let mut ran = 0;
        while self.runtime.is_job_pending() {
            ran += 1;
            if ran == 2 && call.is_some() {
                self.shared.current.set(call.filter(|_| self.shared.calls.only().is_some()));
            }
            if let Err(failed) = self.runtime.execute_pending_job() {
                let thrown = failed
                    .0
                    .with(|ctx| self.describe(&CaughtError::from_error(&ctx, rquickjs::Error::Exception)));
                if self.shared.is_interrupted.get() || matches!(thrown, ScriptError::OutOfMemory { .. }) {
                    return Err(thrown);
                }
            }
            if self.shared.is_interrupted.get() {
                break;
            }
            if ran % JOBS_BETWEEN_CHECKS == 0 && self.shared.is_over_time() {
                self.shared.is_interrupted.set(true);
                break;
            }
        }
        Ok(())
    }

    /// Logs the promises that were rejected and that nobody looked at while the turn lasted.
    fn tell_rejections(&self, call: Option<u32>) -> Result<(), ScriptError> {
        if self.shared.rejected.borrow().is_empty() {
            return Ok(());
        }
        let rejected = self.shared.rejected.take();
        if self.shared.is_interrupted.get() {
            return Ok(());
        }
        self.context.with(|ctx| {
            let told = rejected.into_iter().try_for_each(|(_promise, reason)| {
                self.hooks.uncaught.clone().restore(&ctx)?.call::<_, ()>((reason,))
            });
            told.catch(&ctx).map_err(|error| self.describe(&error))
        })?;
        // What is logged may have getters of the script's own, but those have no turn after this one.
        let ran = self.run_jobs(call);
        self.shared.rejected.take();
        ran
    }

    fn describe(&self, error: &CaughtError<'_>) -> ScriptError {
        match error {
            CaughtError::Exception(exception) => {
                let message = exception.message().unwrap_or_default();
                let name = exception.as_object().get::<_, String>("name").unwrap_or_default();
                let stack = exception.stack().unwrap_or_default();
                let stack = self.shared.options.artifact.source_lines(&stack);
                self.shared.thrown(name, message, stack)
            }
            // The engine throws null where it cannot even allocate the error.
            CaughtError::Value(value) if value.is_null() => {
                self.shared.is_out_of_memory.set(true);
                self.shared.out_of_memory()
            }
            other => ScriptError::Threw {
                name: "Error".to_owned(),
                message: other.to_string(),
                stack: String::new(),
            },
        }
    }

    /// Ends every call: `first` with `error`, or all of them where it is nobody's.
    fn die(&self, first: Option<u32>, error: &ScriptError) {
        self.is_dead.set(true);
        self.timers.borrow_mut().clear();
        self.shared.effects.borrow_mut().clear();
        self.shared.rejected.take();
        self.shared.calls.end_all(first, error);
    }

    fn perform_effects(self: &Rc<Self>) {
        if self.shared.effects.borrow().is_empty() {
            return;
        }
        for effect in self.shared.effects.take() {
            match effect {
                Effect::StartTimer { id, wait_ms } => self.start_timer(id, wait_ms),
                Effect::StopTimer(id) => {
                    self.timers.borrow_mut().remove(&id);
                    self.shared.timers.set(self.shared.timers.get().saturating_sub(1));
                }
                Effect::ReadBody(id) => self.read_body(id),
                Effect::Fetch { id, request } => self.fetches.start(self, id, request),
                Effect::StopFetch(id) => self.fetches.stop(id),
                Effect::ReadFetch(id) => self.fetches.read(self, id),
            }
        }
    }

    fn start_timer(self: &Rc<Self>, id: u32, wait_ms: f64) {
        let wait = Duration::try_from_secs_f64(wait_ms / 1000.0).unwrap_or(Duration::MAX);
        let weak = Rc::downgrade(self);
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            let Some(isolate) = weak.upgrade() else { return };
            isolate.shared.timers.set(isolate.shared.timers.get().saturating_sub(1));
            let own = isolate.timers.borrow_mut().remove(&id);
            if let Some(own) = own {
                own.detach();
            }
            isolate.turn(None, None, |ctx, hooks| hooks.fire_timer.clone().restore(ctx)?.call((id,)));
        });
        self.timers.borrow_mut().insert(id, AbortOnDrop::new(task));
    }

    fn read_body(self: &Rc<Self>, id: u32) {
        let Some(mut body) = self.shared.calls.take_body(id) else { return };
        let weak = Rc::downgrade(self);
        // Ends by itself: the embedder ends the pieces when the call ends.
        tokio::task::spawn_local(async move {
            let piece = next_of(&mut body).await;
            let Some(isolate) = weak.upgrade() else { return };
            isolate.shared.calls.put_body(id, body);
            isolate.turn(None, None, |ctx, hooks| hooks.deliver(ctx, &hooks.body_piece, id, piece));
        });
    }
}

/// A call in a context; the script is told when this is dropped before the call has ended.
pub(crate) struct CallGuard {
    isolate: Rc<Isolate>,
    id: u32,
}

impl CallGuard {
    pub(crate) async fn next_piece(&self) -> Option<Result<Bytes, ScriptError>> {
        let piece = std::future::poll_fn(|cx| self.isolate.shared.calls.poll_piece(self.id, cx)).await?;
        Some(piece.map(|piece| {
            if piece.releases {
                self.isolate.turn(Some(self.id), None, |ctx, hooks| {
                    hooks.drained.clone().restore(ctx)?.call((self.id,))
                });
            }
            piece.bytes
        }))
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let calls = &self.isolate.shared.calls;
        let is_over = calls.has_ended(self.id);
        if calls.remove(self.id) && !is_over {
            self.isolate.turn(None, None, |ctx, hooks| hooks.cancel.clone().restore(ctx)?.call((self.id,)));
        }
    }
}

impl std::fmt::Debug for Isolate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Isolate").field("calls", &self.shared.calls).finish_non_exhaustive()
    }
}
