//! What a context and the functions that its prelude calls know in common.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rquickjs::{Ctx, Persistent, Value};
use tokio::time::Instant;

use crate::ScriptError;
use crate::calls::Calls;
use crate::engine::ModuleOptions;
use crate::host::FetchRequest;

/// How the engine says that an allocation failed.
const NO_MEMORY: &str = "out of memory";
/// Rejections that are told of one turn: whoever makes more of them sees enough in these.
const REJECTIONS_MAX: usize = 16;

/// What a script asked for in a turn, to be begun after it.
#[derive(Debug)]
pub(crate) enum Effect {
    StartTimer { id: u32, wait_ms: f64 },
    StopTimer(u32),
    ReadBody(u32),
    Fetch { id: u32, request: FetchRequest },
    StopFetch(u32),
    ReadFetch(u32),
}

/// What the functions of the platform see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Rc<ModuleOptions>,
    pub(crate) calls: Calls,
    pub(crate) effects: RefCell<Vec<Effect>>,
    pub(crate) timers: Cell<u32>,
    /// Whether the script's handler takes events and not requests.
    pub(crate) takes_events: Cell<bool>,
    /// Whose turn it is, where it is one's.
    pub(crate) current: Cell<Option<u32>>,
    pub(crate) turn_ends: Cell<Option<Instant>>,
    pub(crate) is_interrupted: Cell<bool>,
    pub(crate) is_out_of_memory: Cell<bool>,
    /// Promises that were rejected in this turn and that nobody has looked at, with the reasons.
    pub(crate) rejected: RefCell<Vec<(AnyValue, AnyValue)>>,
}

/// A JavaScript value; never kept beyond a turn, so that it cannot outlive its context.
type AnyValue = Persistent<Value<'static>>;

impl Shared {
    pub(crate) fn new(options: &Rc<ModuleOptions>) -> Self {
        Self {
            options: Rc::clone(options),
            calls: Calls::default(),
            effects: RefCell::default(),
            timers: Cell::new(0),
            takes_events: Cell::new(false),
            current: Cell::new(None),
            turn_ends: Cell::new(None),
            is_interrupted: Cell::new(false),
            is_out_of_memory: Cell::new(false),
            rejected: RefCell::default(),
        }
    }

    /// A promise was rejected before, or has been looked at after, somebody could handle it.
    pub(crate) fn note_rejection<'js>(
        &self,
        ctx: &Ctx<'js>,
        promise: Value<'js>,
        reason: Value<'js>,
        is_handled: bool,
    ) {
        let mut rejected = self.rejected.borrow_mut();
        if is_handled {
            let is_it = |noted: &AnyValue| noted.clone().restore(ctx).is_ok_and(|noted| noted == promise);
            rejected.retain(|(noted, _)| !is_it(noted));
        } else if rejected.len() < REJECTIONS_MAX && self.turn_ends.get().is_some() {
            rejected.push((Persistent::save(ctx, promise), Persistent::save(ctx, reason)));
        }
    }

    /// The error that a script threw; one of memory ends the context after the turn.
    pub(crate) fn thrown(&self, name: String, message: String, stack: String) -> ScriptError {
        if name == "InternalError" && message == NO_MEMORY {
            self.is_out_of_memory.set(true);
            return self.out_of_memory();
        }
        ScriptError::Threw { name, message, stack }
    }

    /// Whose code runs now, where it is known.
    pub(crate) fn current_log_id(&self) -> Option<u32> {
        self.calls.log_id(self.current.get().or_else(|| self.calls.only())?)
    }

    pub(crate) fn out_of_memory(&self) -> ScriptError {
        ScriptError::OutOfMemory { limit_bytes: self.options.limits.memory_bytes }
    }

    pub(crate) fn is_over_time(&self) -> bool {
        self.turn_ends.get().is_some_and(|end| Instant::now() >= end)
    }
}
