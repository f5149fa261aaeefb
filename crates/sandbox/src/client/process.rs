//! A process in a cell, as the platform sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_runtime::{BoxFuture, Process, ProcessExit};
use tokio::sync::watch;

use super::peer::Peer;
use crate::protocol::{Answer, Ending, Order};

/// The processes of a cell that have not ended, by the number of the order that started them.
#[derive(Debug, Default)]
pub(super) struct Running {
    exits: Mutex<HashMap<u64, watch::Sender<Option<ProcessExit>>>>,
}

impl Running {
    /// Begins to wait for a process; before it is started, so that its end cannot be missed.
    pub(super) fn expect(&self, number: u64) -> watch::Receiver<Option<ProcessExit>> {
        let (sender, receiver) = watch::channel(None);
        self.exits().insert(number, sender);
        receiver
    }

    /// A process has ended, or was not started after all.
    pub(super) fn ended(&self, number: u64, exit: ProcessExit) {
        if let Some(sender) = self.exits().remove(&number) {
            sender.send_replace(Some(exit));
        }
    }

    /// The cell has ended with all its processes.
    pub(super) fn all_lost(&self) {
        for (_, sender) in self.exits().drain() {
            sender.send_replace(Some(ProcessExit::Lost));
        }
    }

    fn exits(&self) -> MutexGuard<'_, HashMap<u64, watch::Sender<Option<ProcessExit>>>> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Ending> for ProcessExit {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Code(code) => Self::Code(code),
            Ending::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct SandboxProcess {
    pub(super) holder: Arc<Peer<Answer>>,
    pub(super) number: u64,
    pub(super) exit: watch::Receiver<Option<ProcessExit>>,
}

impl Process for SandboxProcess {
    fn wait(&self) -> BoxFuture<'_, ProcessExit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let ended = exit.wait_for(Option::is_some).await;
            ended.ok().and_then(|exit| *exit).unwrap_or(ProcessExit::Lost)
        })
    }

    fn signal(&self, signal: i32) {
        if self.exit.borrow().is_none()
            && let Err(error) = self.holder.tell(Order::Signal { process: self.number, signal })
        {
            tracing::debug!(%error, signal, "a signal was not sent");
        }
    }
}
