//! Stem cells: sandboxes of a runtime, with its process started and warmed, that wait for a function.
//!
//! What a start needs before any code of the function can run does not depend on the function, so it is done ahead and
//! off the request's path. A start takes a stem, gives it the function's limits, network and code, and tells it what
//! to load; from then on it is that version's alone and never comes back. A start that finds no stem, or whose
//! function cannot use one, is made from nothing: nobody waits for a stem.
//!
//! `demand` says how many there are to be, `shelf` keeps those of one runtime, `make` makes one. A runtime that nobody
//! uses has none.

mod demand;
mod make;
mod shelf;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use alula_model::Fault;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::arena::Arena;
use crate::language::Language;
use crate::{Cell, Launcher, Parent, VersionPlan};

pub(crate) use make::{Stem, Waiting, fork};
use shelf::Shelf;

/// First pause after a stem could not be made; doubled with every further failure.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Pause before a stem is made: enough for the call that took its predecessor to be answered first.
pub(crate) const REPLACE_PAUSE: Duration = Duration::from_millis(5);
/// Longest time for which making a stem lets starts go first: making one would take from them what they wait for, but when
/// starts never end stems must come all the same.
const YIELD_MAX: Duration = Duration::from_millis(20);
/// Longest pause after failures.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Shares of a turn at making stems: while none is left of a runtime, as many times the usual number are made at once.
const TURNS_EACH: u32 = 2;

/// How many stems there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StemOptions {
    /// Kept ready for every runtime that is used; zero turns stems off.
    pub per_runtime: usize,
    /// Most that are kept ready for one runtime while more are needed than there are.
    pub per_runtime_max: usize,
    /// Made at the same time, of all runtimes together. Making one keeps a core busy for some milliseconds that calls
    /// would have had.
    pub made_at_once: usize,
}

/// The stems of one node. Cheap to clone; the default has none and never will.
#[derive(Debug, Clone, Default)]
pub struct Stems(Option<Arc<Stock>>);

impl Stems {
    /// Stems in cells of `launcher`, made by tasks on `tasks`. There are none where the launcher cannot specialise.
    #[must_use]
    pub fn new(options: StemOptions, launcher: Arc<dyn Launcher>, tasks: tokio::runtime::Handle) -> Self {
        if options.per_runtime == 0 || !launcher.can_specialise() {
            return Self(None);
        }
        Self(Some(Arc::new(Stock {
            options,
            launcher,
            tasks,
            turns: Semaphore::new(options.made_at_once.max(1) * TURNS_EACH as usize),
            starts: watch::Sender::new(0),
            shelves: Mutex::default(),
        })))
    }

    /// Says that functions in `language` will be started, so that stems are there when they are. Whether there will be.
    pub fn expect(&self, language: &Arc<Language>) -> bool {
        let Some(stock) = self.0.as_ref().filter(|_| language.unavailable().is_none()) else { return false };
        stock.refill(language);
        true
    }

    /// Says in which languages there are functions: stems are made for these, and those for others go.
    pub fn serve(&self, languages: &[Arc<Language>]) {
        let Some(stock) = &self.0 else { return };
        let is_served = |name: &String| languages.iter().any(|language| language.name == *name);
        let left: Vec<_> = {
            let mut shelves = stock.shelves();
            shelves
                .iter_mut()
                .filter(|(name, _)| !is_served(name))
                .flat_map(|(_, shelf)| shelf.close())
                .collect()
        };
        drop(left);
        for language in languages {
            stock.shelf_of(language, |shelf| shelf.open(stock.options, Instant::now()));
            self.expect(language);
        }
    }

    /// How many wait for functions in `language`.
    #[must_use]
    pub fn ready(&self, language: &Language) -> usize {
        self.0.as_ref().map_or(0, |stock| stock.shelves().get(&language.name).map_or(0, Shelf::ready))
    }

    /// A stem for an instance of `plan`, where there is one that it can use.
    pub(super) fn take(&self, language: &Arc<Language>, plan: &VersionPlan) -> Option<Stem> {
        let stock = self.0.as_ref()?;
        if !fits(language, plan) {
            return None;
        }
        stock.shelf_of(language, |shelf| shelf.take(Instant::now()))
    }

    /// Held by a start until it is over: stems that it took are replaced afterwards, when they take no time from it, and
    /// none are made meanwhile.
    pub(super) fn replace_after(&self, language: &Arc<Language>) -> ReplaceAfter {
        if let Some(stock) = &self.0 {
            stock.starts.send_modify(|starts| *starts += 1);
        }
        ReplaceAfter(self.0.clone().map(|stock| (stock, Arc::clone(language))))
    }
}

/// See [`Stems::replace_after`].
#[derive(Debug)]
pub(super) struct ReplaceAfter(Option<(Arc<Stock>, Arc<Language>)>);

impl Drop for ReplaceAfter {
    fn drop(&mut self) {
        if let Some((stock, language)) = &self.0 {
            stock.starts.send_modify(|starts| *starts -= 1);
            stock.refill(language);
        }
    }
}

/// Where no stem is left.
impl Stems {
    /// Has a process forked into a cell that was just made for an instance of `plan`, where the zygote for it is there
    /// already: sooner than one that is started, though later than one that waited.
    pub(super) async fn fork_into(
        &self,
        cell: &dyn Cell,
        language: &Language,
        plan: &VersionPlan,
    ) -> Option<Waiting> {
        let stock = self.0.as_ref().filter(|stock| stock.has_made(language))?;
        let zygote = make::zygote_of(&*stock.launcher, language).filter(|_| fits(language, plan))?;
        let forked = make::fork(cell, Parent::Runtime(zygote), Arena::open(language)).await;
        forked
            .inspect_err(|fault| tracing::debug!(%fault, runtime = %language.name, "nothing was forked"))
            .ok()
    }
}

/// What a process for an instance of `plan` can be forked from before its code is loaded.
pub(super) fn parent_for(launcher: &dyn Launcher, language: &Language, plan: &VersionPlan) -> Option<Parent> {
    make::zygote_of(launcher, language).filter(|_| fits(language, plan)).map(Parent::Runtime)
}

/// Whether a process that was started without the function's environment can run it.
fn fits(language: &Language, plan: &VersionPlan) -> bool {
    let Some(support) = &language.manifest.stem else { return true };
    let works_at_start =
        |name: &String| support.start_env.iter().any(|start| name.starts_with(start.as_str()));
    !plan.spec.env.keys().any(works_at_start)
}

#[derive(Debug)]
struct Stock {
    options: StemOptions,
    launcher: Arc<dyn Launcher>,
    tasks: tokio::runtime::Handle,
    turns: Semaphore,
    /// Starts that are under way, of all runtimes.
    starts: watch::Sender<usize>,
    /// By the runtime's canonical name.
    shelves: Mutex<HashMap<String, Shelf>>,
}

impl Stock {
    fn shelves(&self) -> MutexGuard<'_, HashMap<String, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf_of<T>(&self, language: &Language, act: impl FnOnce(&mut Shelf) -> T) -> T {
        let mut shelves = self.shelves();
        let new = || Shelf::new(self.options, Instant::now());
        act(shelves.entry(language.name.clone()).or_insert_with(new))
    }

    /// Whether a stem of the language has been made, so that its zygote is there.
    fn has_made(&self, language: &Language) -> bool {
        self.shelves().get(&language.name).is_some_and(Shelf::has_made)
    }

    /// Starts making as many as are missing, and looks for those that are too many as long as there may be some.
    fn refill(self: &Arc<Self>, language: &Arc<Language>) {
        let (missing, watch) = self.shelf_of(language, |shelf| {
            let now = Instant::now();
            (shelf.claim_missing(now), shelf.claim_watch(now))
        });
        for _ in 0..missing {
            self.tasks.spawn(make_one(Arc::downgrade(self), Arc::clone(language)));
        }
        if watch {
            self.tasks.spawn(watch_surplus(Arc::downgrade(self), Arc::clone(language)));
        }
    }

    /// Puts a made stem on its shelf and sees to its replacement should its process end.
    fn shelve(self: &Arc<Self>, language: &Arc<Language>, stem: Stem) {
        let process = stem.waiting.as_ref().map(|waiting| Arc::clone(&waiting.process));
        let number = self.shelf_of(language, |shelf| shelf.made(stem));
        // Fewer may be wanted by now.
        let (surplus, _) = self.shelf_of(language, |shelf| shelf.take_surplus(Instant::now()));
        drop(surplus);
        let Some(process) = process else { return };
        let (stock, same) = (Arc::downgrade(self), Arc::clone(language));
        let watch = self.tasks.spawn(async move {
            process.wait().await;
            if let Some(stock) = stock.upgrade() {
                let lost = stock.shelf_of(&same, |shelf| shelf.remove(number));
                drop(lost);
                stock.refill(&same);
            }
        });
        self.shelf_of(language, |shelf| shelf.watched_by(number, watch.abort_handle()));
    }

    /// Where none is left, starts wait longer for that than for the time that making two at once takes from them.
    fn turns_for_one(&self, language: &Language) -> u32 {
        let is_empty = self.shelf_of(language, |shelf| shelf.ready() == 0);
        if is_empty { 1 } else { TURNS_EACH }
    }

    /// Lets starts that are under way go first, for a while.
    async fn give_way(&self) {
        let mut starts = self.starts.subscribe();
        // It can only end late: the sender is in `self`.
        drop(tokio::time::timeout(YIELD_MAX, starts.wait_for(|starts| *starts == 0)).await);
    }

    fn making_failed(&self, language: &Language, fault: &Fault) -> Duration {
        let failures = self.shelf_of(language, Shelf::failed);
        let pause = RETRY_PAUSE_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_PAUSE_MAX);
        if failures == 0 {
            tracing::warn!(%fault, runtime = %language.name, "a stem cell cannot be made; starts are slower");
        }
        pause
    }
}

/// Makes one stem that was claimed. Between two attempts nobody is kept from going away.
async fn make_one(stock: Weak<Stock>, language: Arc<Language>) {
    tokio::time::sleep(REPLACE_PAUSE).await;
    let Some(held) = stock.upgrade() else { return };
    let made = {
        let Ok(_turn) = held.turns.acquire_many(held.turns_for_one(&language)).await else { return };
        held.give_way().await;
        make::make(&*held.launcher, &language).await
    };
    match made {
        Ok(stem) => held.shelve(&language, stem),
        Err(fault) => {
            let pause = held.making_failed(&language, &fault);
            drop(held);
            tokio::time::sleep(pause).await;
            let Some(held) = stock.upgrade() else { return };
            held.shelf_of(&language, Shelf::give_up);
            held.refill(&language);
        }
    }
}

/// Lets go what a burst needed and a quiet time does not, until no more than usual are left.
async fn watch_surplus(stock: Weak<Stock>, language: Arc<Language>) {
    loop {
        tokio::time::sleep(demand::QUIET).await;
        let Some(stock) = stock.upgrade() else { return };
        let (surplus, goes_on) = stock.shelf_of(&language, |shelf| shelf.take_surplus(Instant::now()));
        drop(surplus);
        if !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
