//! The asynchronous part, assembled: who accepts, who runs, who sends out.

use std::sync::Arc;

use alula_control::Catalog;
use alula_courier::NetworkCourier;
use alula_invoke::Invoker;
use alula_invoke::later::{self, Acceptor, AcceptorParts, Calls, NoTopics, Service, Unobserved, WorkerParts};
use alula_model::Clock;
use alula_sandbox::{CheckedEgress, EgressPolicy};
use alula_store::{DataDir, DiskPackages, SqliteStore};

use crate::clock::random;
use crate::up::Error;

/// Folder of contents that are too large for a message.
const BLOBS: &str = "blobs";

/// What the asynchronous part is made from.
pub(crate) struct Base<'a> {
    pub(crate) options: later::Options,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) catalog: Catalog,
    pub(crate) invoker: Invoker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: EgressPolicy,
    pub(crate) data_plane: tokio::runtime::Handle,
}

/// Makes the acceptor and the worker.
pub(crate) fn assemble(base: Base<'_>) -> Result<(Calls, Service), Error> {
    let blobs = DiskPackages::open_in(base.data_dir, BLOBS);
    let blobs = blobs.map_err(Error::component("the contents of calls cannot be opened"))?;
    let parts = AcceptorParts {
        catalog: base.catalog,
        records: base.store.clone(),
        blobs: Arc::new(blobs),
        clock: base.clock,
        observe: Arc::new(Unobserved),
    };
    let egress = Arc::new(CheckedEgress::new(base.policy));
    Ok(Calls::with_worker(WorkerParts {
        acceptor: Acceptor::new(base.options, parts),
        queue: base.store,
        invoker: base.invoker,
        courier: Arc::new(NetworkCourier::new(egress, alula_courier::Options::default())),
        topics: Arc::new(NoTopics),
        random: draw,
        data_plane: base.data_plane,
    }))
}

fn draw() -> u64 {
    random() as u64
}
