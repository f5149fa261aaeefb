//! The asynchronous part, assembled: who accepts, who runs, who sends out.

use std::sync::Arc;

use alula_courier::NetworkCourier;
use alula_invoke::later::{Acceptor, AcceptorParts, Calls, NoTopics, Service, Unobserved, WorkerParts};
use alula_sandbox::CheckedEgress;
use alula_store::DiskPackages;

use crate::assembly::Core;
use crate::clock::random;
use crate::up::Error;

/// Folder of contents that are too large for a message.
const BLOBS: &str = "blobs";

/// Makes the acceptor and the worker.
pub(crate) fn assemble(core: &Core) -> Result<(Calls, Service), Error> {
    let blobs = DiskPackages::open_in(&core.data_dir, BLOBS);
    let blobs = blobs.map_err(Error::component("the contents of calls cannot be opened"))?;
    let parts = AcceptorParts {
        catalog: core.control.catalog().clone(),
        records: core.store.clone(),
        blobs: Arc::new(blobs),
        clock: Arc::clone(&core.clock),
        observe: Arc::new(Unobserved),
    };
    let egress = Arc::new(CheckedEgress::new(core.policy.clone()));
    Ok(Calls::with_worker(WorkerParts {
        acceptor: Acceptor::new(core.config.asynchronous.clone(), parts),
        queue: core.store.clone(),
        invoker: core.invoker.clone(),
        courier: Arc::new(NetworkCourier::new(egress, alula_courier::Options::default())),
        topics: Arc::new(NoTopics),
        random: draw,
        data_plane: core.data_plane.clone(),
    }))
}

fn draw() -> u64 {
    random() as u64
}
