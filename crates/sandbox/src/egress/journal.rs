//! What the platform's log says of connections: a bounded number of lines, the rest counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::Name;
use alula_runtime::Behalf;
use tokio::time::Instant;

use super::account::Observe;

/// Lines in a second on average.
const LINES_PER_SECOND: f64 = 20.0;
/// Lines that may follow each other after a quiet time.
const LINES_AT_ONCE: f64 = 200.0;

/// Writes lines about connections.
#[derive(Debug)]
pub(super) struct Journal {
    observe: Arc<dyn Observe>,
    left: Mutex<(f64, Instant)>,
}

impl Journal {
    pub(super) fn new(observe: Arc<dyn Observe>) -> Self {
        Self { observe, left: Mutex::new((LINES_AT_ONCE, Instant::now())) }
    }

    pub(super) fn opened(&self, by: &Behalf, host: &str, address: SocketAddr) {
        if self.has_room() {
            let (namespace, function) = names(by);
            tracing::debug!(target: "alula_egress", namespace, function, host, %address, "connected");
        }
    }

    pub(super) fn refused(&self, by: &Behalf, host: &str, port: u16, rule: &'static str) {
        let (namespace, function) = names(by);
        self.observe.refused(namespace, rule);
        if self.has_room() {
            // A host is the word of a function: as a quoted text it cannot forge a line.
            tracing::info!(target: "alula_egress", namespace, function, ?host, port, rule, "refused");
        }
    }

    fn has_room(&self) -> bool {
        let now = Instant::now();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, filled) = *left;
        let lines = (lines + now.duration_since(filled).as_secs_f64() * LINES_PER_SECOND).min(LINES_AT_ONCE);
        let has_room = lines >= 1.0;
        *left = (if has_room { lines - 1.0 } else { lines }, now);
        drop(left);
        if !has_room {
            self.observe.shed();
        }
        has_room
    }
}

fn names(by: &Behalf) -> (&str, &str) {
    (by.namespace.as_ref().map_or("", Name::as_str), by.function.as_ref().map_or("", Name::as_str))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);

    impl Observe for Counted {
        fn opened(&self, _namespace: &str) {}
        fn closed(&self, _namespace: &str, _bytes_out: u64, _bytes_in: u64) {}
        fn refused(&self, _namespace: &str, _rule: &'static str) {}
        fn shed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_some_lines_and_a_number() {
        let counted = Arc::new(Counted::default());
        let journal = Journal::new(Arc::<Counted>::clone(&counted));
        (0..1_000).for_each(|_| journal.refused(&Behalf::default(), "a\nb", 1, "private"));
        assert_eq!(counted.0.load(Ordering::Relaxed), 800);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(journal.has_room());
    }
}
