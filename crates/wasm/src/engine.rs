//! The engine: one configuration for compiling and for running, and the thread that lets long calls be interrupted.
//!
//! Memories come from a pool and are mapped copy-on-write from the component's image; pages that a call touched stay
//! with the pool and are cleaned by the kernel's page-map scan instead of being given back. Bounds are checked in the
//! compiled code, not with guard pages. Together that leaves almost no system call that changes page tables in a
//! request: such a call stops every thread of the process, and was nine tenths of a request's cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Largest linear memory: all that a 32-bit guest can address. Reserved as addresses for each slot, not as memory.
pub(crate) const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Guests at once in this process. One more is refused, and the caller told to try again.
pub(crate) const GUESTS_MAX: u32 = 1_000;
/// Core modules of all guests at once. Components of interpreted languages have two dozen each.
const CORE_INSTANCES_MAX: u32 = GUESTS_MAX * 8;
/// Core modules in one component.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;
/// Memories and tables in one component: those of interpreted languages have four and a dozen.
const MEMORIES_PER_COMPONENT_MAX: u32 = 16;
const TABLES_PER_COMPONENT_MAX: u32 = 64;
/// Memories of all guests at once: most have one. Four terabytes of addresses, of the 128 that a process has.
const MEMORIES_MAX: u32 = GUESTS_MAX;
/// Tables of all guests at once.
const TABLES_MAX: u32 = GUESTS_MAX * 4;
/// Free slots that are kept for the component that used them last: mapping another one's image takes system calls.
const SLOTS_KEPT_MAX: u32 = 256;
/// Elements of one table: functions that can be called through pointers.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Touched pages of a memory that a free slot keeps: what a compiled language's guest uses. They stay with the process,
/// so this many bytes times the guests that ever ran at once is what the pool may hold while nothing runs.
const MEMORY_KEPT_BYTES: usize = 1 << 20;
/// Touched pages of a table that a free slot keeps.
const TABLE_KEPT_BYTES: usize = 64 << 10;
/// Metadata of one instance: what interpreted languages need, with room.
const INSTANCE_METADATA_BYTES_MAX: usize = 4 << 20;
/// The guest's call stack.
pub(crate) const STACK_BYTES_MAX: usize = 512 << 10;
/// The stack that it lies on, with room for what the platform does in a call out of the guest.
const FIBER_BYTES: usize = 1 << 20;
/// How long a guest computes before it lets others run.
const TICK: Duration = Duration::from_millis(5);
/// Ticks without any guest after which the thread sleeps until one comes: an idle platform is not woken up.
const IDLE_TICKS_MAX: u32 = 200;

/// The configuration. Compiled code can only be loaded by an engine with the same one.
pub(crate) fn config() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(GUESTS_MAX)
        .total_stacks(GUESTS_MAX)
        .total_core_instances(CORE_INSTANCES_MAX)
        .total_memories(MEMORIES_MAX)
        .total_tables(TABLES_MAX)
        .max_unused_warm_slots(SLOTS_KEPT_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .max_component_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_core_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS_MAX)
        .pagemap_scan(Enabled::Auto);
    // Without it (it came with Linux 6.7) every kept page would be cleaned by writing it, which costs more than giving
    // it back.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(MEMORY_KEPT_BYTES).table_keep_resident(TABLE_KEPT_BYTES);
    }
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MEMORY_BYTES_MAX)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .signals_based_traps(false)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .async_stack_size(FIBER_BYTES);
    config
}

/// The thread that advances the engine's epoch while guests run. It ends with the last handle of it.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (engine, running) = (engine.weak(), Arc::new(AtomicUsize::new(0)));
        let watched = Arc::downgrade(&running);
        let tick = move || {
            let mut idle_ticks = 0;
            while let (Some(running), Some(engine)) = (watched.upgrade(), engine.upgrade()) {
                idle_ticks = if running.load(Ordering::Relaxed) == 0 { idle_ticks + 1 } else { 0 };
                engine.increment_epoch();
                drop((running, engine));
                if idle_ticks < IDLE_TICKS_MAX {
                    std::thread::sleep(TICK);
                } else {
                    std::thread::park();
                    idle_ticks = 0;
                }
            }
        };
        let thread = std::thread::Builder::new().name("wasm-ticker".to_owned()).spawn(tick)?;
        Ok(Self { running, thread: thread.thread().clone() })
    }

    /// Counts a guest as running until the answer is dropped.
    pub(crate) fn running(self: &Arc<Self>) -> Ticking {
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            // Costs a system call only where the thread is asleep for lack of guests.
            self.thread.unpark();
        }
        Ticking(Arc::clone(self))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // It finds the counter gone.
        self.thread.unpark();
    }
}

/// See [`Ticker::running`].
#[derive(Debug)]
pub(crate) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
