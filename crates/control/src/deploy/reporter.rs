//! Tells whoever deploys what happens, without ever waiting for them.

use alula_model::Name;
use tokio::sync::mpsc;

use crate::upload::{Progress, Stage};

/// Sends progress; what does not fit into the channel is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    progress: mpsc::Sender<Progress>,
}

impl Reporter {
    pub(crate) fn new(progress: mpsc::Sender<Progress>) -> Self {
        Self { progress }
    }

    /// A stage has begun.
    pub(crate) fn stage(&self, function: Option<&Name>, stage: Stage, detail: impl Into<String>) {
        self.send(Progress::Stage { function: function.cloned(), stage, detail: detail.into() });
    }

    /// Something will not work as the spec has it.
    pub(crate) fn warning(&self, function: &Name, text: impl Into<String>) {
        self.send(Progress::Warning { function: function.clone(), text: text.into() });
    }

    /// A build wrote a line.
    pub(crate) fn build_line(&self, function: &Name, text: &str) {
        self.send(Progress::BuildLine { function: function.clone(), text: text.to_owned() });
    }

    fn send(&self, progress: Progress) {
        // Full or closed: the deploy goes on, and the build's log is kept whole elsewhere.
        let _ = self.progress.try_send(progress);
    }
}
