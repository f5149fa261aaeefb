//! Which context runs on a thread, and how much of the CPU each has used.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use alula_script::Meter;
use rustix::time::{ClockId, clock_gettime};

/// Nobody's number.
pub(super) const NOBODY: u32 = 0;

/// Says to the first thread which context a thread works for, and counts the thread's CPU time for it.
#[derive(Debug)]
pub(super) struct ContextMeter {
    number: u32,
    running: Arc<AtomicU32>,
    used: Cell<Duration>,
    /// The thread's time when the outermost of what has begun did so.
    since: Cell<Duration>,
    /// Turns of the script happen inside of the work on a batch of frames, which is counted as a whole.
    depth: Cell<u32>,
}

impl ContextMeter {
    pub(super) fn new(number: u32, running: Arc<AtomicU32>) -> Self {
        Self { number, running, used: Cell::default(), since: Cell::default(), depth: Cell::new(0) }
    }

    /// CPU time so far.
    pub(super) fn used(&self) -> Duration {
        self.used.get()
    }
}

impl Meter for ContextMeter {
    fn begins(&self) {
        self.depth.set(self.depth.get() + 1);
        if self.depth.get() == 1 {
            self.running.store(self.number, Ordering::Relaxed);
            self.since.set(thread_time());
        }
    }

    fn ends(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
        if self.depth.get() == 0 {
            self.running.store(NOBODY, Ordering::Relaxed);
            let now = thread_time();
            self.used.set(self.used.get() + now.saturating_sub(self.since.get()));
        }
    }
}

/// The CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_other_work_is_counted_once() {
        let running = Arc::new(AtomicU32::new(NOBODY));
        let meter = ContextMeter::new(7, Arc::clone(&running));
        meter.begins();
        meter.begins();
        let began = thread_time();
        while thread_time() - began < Duration::from_millis(2) {}
        meter.ends();
        assert_eq!((running.load(Ordering::Relaxed), meter.used()), (7, Duration::ZERO));
        meter.ends();
        assert_eq!(running.load(Ordering::Relaxed), NOBODY);
        assert!(meter.used() >= Duration::from_millis(2) && meter.used() <= thread_time());
    }
}
