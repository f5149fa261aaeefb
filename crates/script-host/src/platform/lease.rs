//! Who uses a host, and whether anybody has something to do in it.
//!
//! A lease is held from before a context is opened until nothing of it is left. It *rests* when no call has come for a
//! while. A host without leases is stopped after some time; one whose leases all rest may give way to another host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::host::Host;

/// The leases of one host.
#[derive(Debug)]
pub(super) struct Uses {
    counts: Mutex<Counts>,
    awoken: Notify,
}

#[derive(Debug)]
struct Counts {
    leases: usize,
    awake: usize,
    quiet_since: Instant,
    is_closed: bool,
}

impl Uses {
    pub(super) fn new() -> Self {
        let counts = Counts { leases: 0, awake: 0, quiet_since: Instant::now(), is_closed: false };
        Self { counts: Mutex::new(counts), awoken: Notify::new() }
    }

    /// One more, which is awake. Says whether it is the only one that is; `None` where there can be no more.
    pub(super) fn begin(&self) -> Option<bool> {
        let mut counts = self.counts();
        if counts.is_closed {
            return None;
        }
        counts.leases += 1;
        Some(self.awake(&mut counts))
    }

    fn awake(&self, counts: &mut Counts) -> bool {
        counts.awake += 1;
        if counts.awake == 1 {
            self.awoken.notify_one();
        }
        counts.awake == 1
    }

    fn rests(&self) {
        let mut counts = self.counts();
        counts.awake -= 1;
        counts.quiet_since = Instant::now();
    }

    fn wakes(&self) -> bool {
        self.awake(&mut self.counts())
    }

    fn ends(&self) {
        let mut counts = self.counts();
        counts.leases -= 1;
        counts.quiet_since = Instant::now();
    }

    pub(super) fn quiet_since(&self) -> Instant {
        self.counts().quiet_since
    }

    /// Takes no more leases.
    pub(super) fn close(&self) {
        self.counts().is_closed = true;
    }

    /// The same, but only where nobody has anything to do; says whether that is so.
    pub(super) fn close_if_quiet(&self) -> bool {
        let mut counts = self.counts();
        let is_quiet = counts.awake == 0 && !counts.is_closed;
        counts.is_closed |= is_quiet;
        is_quiet
    }

    /// Waits until somebody has something to do.
    pub(super) async fn until_awake(&self) {
        while self.counts().awake == 0 {
            self.awoken.notified().await;
        }
    }

    /// Waits until there has been no lease for `time`, and takes none from then on.
    pub(super) async fn until_unused(&self, time: Duration) {
        loop {
            let unused_at = {
                let mut counts = self.counts();
                let now = Instant::now();
                match counts.leases {
                    0 if counts.quiet_since + time <= now => {
                        counts.is_closed = true;
                        return;
                    }
                    0 => counts.quiet_since + time,
                    _ => now + time,
                }
            };
            tokio::time::sleep_until(unused_at).await;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share in a host.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) host: Arc<Host>,
    is_resting: AtomicBool,
}

impl Lease {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, is_resting: AtomicBool::new(false) }
    }

    /// No call has come for a while.
    pub(super) fn rest(&self) {
        if !self.is_resting.swap(true, Ordering::AcqRel) {
            self.host.uses.rests();
        }
    }

    /// A call comes.
    pub(super) fn wake(&self) {
        if self.is_resting.swap(false, Ordering::AcqRel) && self.host.uses.wakes() {
            self.host.expect_signs();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.rest();
        self.host.uses.ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_unused_ends_and_what_is_used_does_not() {
        let uses = Uses::new();
        assert_eq!((uses.begin(), uses.begin()), (Some(true), Some(false)));
        assert!(tokio::time::timeout(10 * MINUTE, uses.until_unused(MINUTE)).await.is_err());
        for _ in 0..2 {
            uses.rests();
            uses.ends();
        }
        let ended_at = Instant::now();
        uses.until_unused(MINUTE).await;
        assert_eq!(ended_at.elapsed(), MINUTE);
        assert_eq!(uses.begin(), None, "whoever comes later needs another host");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_awake_does_not_give_way() {
        let uses = Uses::new();
        uses.begin();
        assert!(!uses.close_if_quiet());
        uses.rests();
        assert!(tokio::time::timeout(MINUTE, uses.until_awake()).await.is_err());
        assert!(uses.wakes() && !uses.close_if_quiet());
        uses.until_awake().await;
        uses.rests();
        assert!(uses.close_if_quiet());
        assert!(!uses.close_if_quiet(), "only once");
    }
}
