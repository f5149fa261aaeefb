//! Modules of many scripts on one thread, with memory for the busy ones.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::ScriptError;
use crate::artifact::Artifact;
use crate::blank::Blank;
use crate::host::{Console, Fetch, Meter, NoFetch, NoMeter, Silent};
use crate::isolate::Isolate;
use crate::message::{Request, Response};

/// What one engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Memory of all contexts together. Above it, idle contexts are dropped, those first that were called longest ago.
    pub memory_bytes_max: usize,
}

/// What one context may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Its heap.
    pub memory_bytes: usize,
    /// The stack of its code: well below that of the thread it runs on.
    pub stack_bytes: usize,
    /// Time it may compute without a pause; meanwhile nothing else runs on its thread.
    pub turn: Duration,
}

impl Default for Limits {
    /// 64 MiB; a stack that fits any thread; a second, which is a thousand times what a light script needs.
    fn default() -> Self {
        Self { memory_bytes: 64 * 1024 * 1024, stack_bytes: 256 * 1024, turn: Duration::from_secs(1) }
    }
}

/// A script and what it is given.
pub struct ModuleOptions {
    /// The compiled script.
    pub artifact: Artifact,
    /// The second argument of its handler.
    pub env: Vec<(String, String)>,
    /// What its context may use.
    pub limits: Limits,
    /// Takes its log.
    pub console: Rc<dyn Console>,
    /// Makes its requests.
    pub fetch: Rc<dyn Fetch>,
    /// Is told when its code runs.
    pub meter: Rc<dyn Meter>,
    /// Fills bytes with random values that nobody can guess.
    pub random: fn(&mut [u8]),
}

/// Runs scripts on one thread. Cheap to clone; belongs into a `tokio::task::LocalSet`, whose tasks wait for timers
/// and requests.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: EngineOptions,
    /// Every module that was made and is still held.
    modules: RefCell<Vec<Weak<Script>>>,
    calls: Cell<u64>,
    /// What the next context is made of.
    blank: RefCell<Option<Blank>>,
}

#[derive(Debug)]
struct Script {
    options: Rc<ModuleOptions>,
    isolate: RefCell<Option<Rc<Isolate>>>,
    loading: tokio::sync::Mutex<()>,
    /// When it was called last, in calls of the engine.
    last_call: Cell<u64>,
}

/// One script in an engine. Cheap to clone; the context goes with the last clone.
#[derive(Debug, Clone)]
pub struct Module {
    script: Rc<Script>,
    engine: Rc<Inner>,
}

impl Engine {
    /// An engine without modules.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        let inner =
            Inner { options, modules: RefCell::default(), calls: Cell::new(0), blank: RefCell::default() };
        Self { inner: Rc::new(inner) }
    }

    /// A module that is loaded with its first call.
    #[must_use]
    pub fn module(&self, options: ModuleOptions) -> Module {
        let script = Rc::new(Script {
            options: Rc::new(options),
            isolate: RefCell::default(),
            loading: tokio::sync::Mutex::new(()),
            last_call: Cell::new(0),
        });
        let mut modules = self.inner.modules.borrow_mut();
        modules.retain(|module| module.strong_count() > 0);
        modules.push(Rc::downgrade(&script));
        Module { script, engine: Rc::clone(&self.inner) }
    }

    /// Makes the part of the next context ahead that is the same for all scripts, where it is not there: it takes about
    /// half a millisecond and 0.2 MB. Without it nothing is missing, a cold start only takes that much longer.
    pub fn prepare(&self) -> Result<(), ScriptError> {
        if self.inner.blank.borrow().is_none() {
            let blank = Blank::new()?;
            *self.inner.blank.borrow_mut() = Some(blank);
        }
        Ok(())
    }

    /// Drops idle contexts while all together use more than they may: with a load this is done anyway, but contexts
    /// grow with calls as well.
    pub fn make_room(&self) {
        self.inner.make_room(None);
    }

    /// Memory of all contexts, as last measured.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.inner.scripts().iter().map(|script| script.memory_bytes()).sum()
    }
}

impl Inner {
    fn scripts(&self) -> Vec<Rc<Script>> {
        self.modules.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Drops idle contexts until the rest is within the limit, but not that of `keep`.
    fn make_room(&self, keep: Option<&Rc<Script>>) {
        let mut scripts = self.scripts();
        let mut used: usize = scripts.iter().map(|script| script.memory_bytes()).sum();
        if used <= self.options.memory_bytes_max {
            return;
        }
        scripts.sort_by_key(|script| script.last_call.get());
        for script in scripts.iter().filter(|script| keep.is_none_or(|keep| !Rc::ptr_eq(script, keep))) {
            if used <= self.options.memory_bytes_max {
                return;
            }
            let bytes = script.memory_bytes();
            if script.unload_if_idle() {
                used -= bytes;
            }
        }
    }
}

impl Script {
    fn live(&self) -> Option<Rc<Isolate>> {
        self.isolate.borrow().as_ref().filter(|isolate| !isolate.is_dead()).cloned()
    }

    fn memory_bytes(&self) -> usize {
        self.isolate.borrow().as_ref().map_or(0, |isolate| isolate.memory_bytes())
    }

    fn unload_if_idle(&self) -> bool {
        let mut isolate = self.isolate.borrow_mut();
        let is_idle = isolate.as_ref().is_some_and(|isolate| isolate.is_idle());
        if is_idle {
            *isolate = None;
        }
        is_idle
    }
}

impl Module {
    /// Makes the context and runs the script's top level, where that is not done; at most until `deadline`.
    pub async fn load(&self, deadline: Option<Instant>) -> Result<(), ScriptError> {
        self.isolate(deadline).await.map(drop)
    }

    /// Runs one call. Dropping the future, or the body of the response before its end, tells the script that
    /// nobody waits any more.
    pub async fn call(&self, request: Request) -> Result<Response, ScriptError> {
        let live = self.script.live();
        let isolate = match live {
            Some(isolate) => isolate,
            None => self.isolate(request.deadline).await?,
        };
        self.engine.calls.set(self.engine.calls.get() + 1);
        self.script.last_call.set(self.engine.calls.get());
        isolate.call(request).await
    }

    /// Drops the context unless a call runs in it; the next call makes a new one. Says whether there is none now.
    pub fn unload(&self) -> bool {
        self.script.unload_if_idle() || !self.is_loaded()
    }

    /// Whether it has a context now.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.script.live().is_some()
    }

    /// Memory of its context as last measured, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.script.memory_bytes()
    }

    async fn isolate(&self, deadline: Option<Instant>) -> Result<Rc<Isolate>, ScriptError> {
        let _one_at_a_time = self.script.loading.lock().await;
        if let Some(isolate) = self.script.live() {
            return Ok(isolate);
        }
        let blank = self.engine.blank.take();
        let isolate = Isolate::load(&self.script.options, blank, deadline).await?;
        *self.script.isolate.borrow_mut() = Some(Rc::clone(&isolate));
        self.engine.make_room(Some(&self.script));
        Ok(isolate)
    }
}

impl ModuleOptions {
    /// A script with the usual limits, and without a log, a network and variables. `random` fills bytes with random
    /// values that nobody can guess.
    #[must_use]
    pub fn new(artifact: Artifact, random: fn(&mut [u8])) -> Self {
        Self {
            artifact,
            env: Vec::new(),
            limits: Limits::default(),
            console: Rc::new(Silent),
            fetch: Rc::new(NoFetch),
            meter: Rc::new(NoMeter),
            random,
        }
    }
}

impl fmt::Debug for ModuleOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleOptions").field("limits", &self.limits).finish_non_exhaustive()
    }
}
