//! Who waits for a call, and how to stop one that runs here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::InvocationId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<InvocationId, (usize, Arc<Notify>)>,
    running: HashMap<InvocationId, CancellationToken>,
}

/// Somebody waits for a call; until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    ends: Ends,
    id: InvocationId,
    notify: Arc<Notify>,
}

/// A call runs here; until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    ends: Ends,
    id: InvocationId,
    /// Cancelled when somebody wants the call to stop.
    pub(crate) stop: CancellationToken,
}

impl Ends {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_for(&self, id: &InvocationId) -> Waiting {
        let mut state = self.state();
        let (count, notify) = state.waiting.entry(id.clone()).or_default();
        *count += 1;
        let notify = Arc::clone(notify);
        Waiting { ends: self.clone(), id: id.clone(), notify }
    }

    /// A call has ended, or is to be looked at anew.
    pub(crate) fn tell(&self, id: &InvocationId) {
        if let Some((_, notify)) = self.state().waiting.get(id) {
            notify.notify_waiters();
        }
    }

    pub(crate) fn begin(&self, id: &InvocationId) -> Running {
        let stop = CancellationToken::new();
        self.state().running.insert(id.clone(), stop.clone());
        Running { ends: self.clone(), id: id.clone(), stop }
    }

    /// Stops a call that runs here; answers whether it does.
    pub(crate) fn stop(&self, id: &InvocationId) -> bool {
        let state = self.state();
        let running = state.running.get(id);
        running.inspect(|stop| stop.cancel()).is_some()
    }
}

impl Waiting {
    /// Resolves when the call has ended. To be made before the state is looked at, so that nothing is missed.
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.ends.state();
        if let Some((count, _)) = state.waiting.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.waiting.remove(&self.id);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ends.state().running.remove(&self.id);
    }
}
