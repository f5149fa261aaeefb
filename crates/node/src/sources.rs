//! What watches the outside and makes calls of it: schedules, and whatever else is set up.
//!
//! Each is a loop that ends when it is told to stop. They end before the queue's worker does, since what they hand in is
//! run by it.

use alula_runtime::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A loop that ends when its token is cancelled.
type Source = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The sources of one node, not running yet.
#[derive(Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Adds a source.
    pub(crate) fn add<F>(&mut self, source: impl FnOnce(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.push(Box::new(move |stop| Box::pin(source(stop))));
    }

    /// Runs them until `stop`.
    pub(crate) fn start(self, stop: &CancellationToken) -> JoinSet<()> {
        self.0.into_iter().map(|source| source(stop.clone())).collect()
    }
}
