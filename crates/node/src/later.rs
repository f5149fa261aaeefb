//! The asynchronous part, assembled: who accepts, who runs, who sends out, who publishes.

use std::sync::Arc;

use alula_courier::{NetworkCourier, SigningKey};
use alula_gateway::PlatformEvents;
use alula_invoke::later::{Acceptor, AcceptorParts, Calls, Options, Service, StoreUse, WorkerParts};
use alula_sandbox::CheckedEgress;
use alula_store::{DataDir, DiskPackages};
use alula_trigger::topic::{self, Topics};
use alula_trigger::webhook::{self, Webhooks};

use crate::adapters::QueueMetrics;
use crate::assembly::Core;
use crate::clock::random;
use crate::secret::{self, Secret};
use crate::up::Error;

/// Folder of contents that are too large for a message.
const BLOBS: &str = "blobs";

/// The key that everything is signed with which is sent out.
pub(crate) fn signing_key(data_dir: &DataDir) -> Result<SigningKey, Error> {
    let secret = Secret::open(data_dir.path(), secret::SIGNING_KEY, random);
    let secret = secret.map_err(Error::system("the signing key cannot be read"))?;
    Ok(SigningKey::new(secret.text))
}

/// The asynchronous part.
pub(crate) struct Later {
    pub(crate) calls: Calls,
    pub(crate) worker: Service,
    pub(crate) events: PlatformEvents,
}

/// Makes the acceptor, the worker, and what publishes.
pub(crate) fn assemble(core: &Core, key: SigningKey) -> Result<Later, Error> {
    let blobs = DiskPackages::open_in(&core.data_dir, BLOBS);
    let blobs = blobs.map_err(Error::component("the contents of calls cannot be opened"))?;
    let parts = AcceptorParts {
        guard: core.invoker.guard().clone(),
        catalog: core.control.catalog().clone(),
        records: core.store.clone(),
        blobs: Arc::new(blobs),
        clock: Arc::clone(&core.clock),
        observe: Arc::new(QueueMetrics::new(core.telemetry.metrics.clone())),
    };
    let courier = NetworkCourier::new(
        alula_courier::Parts {
            egress: Arc::new(CheckedEgress::new(core.egress.clone())),
            key,
            clock: Arc::clone(&core.clock),
            mail: core.config.mail.clone(),
        },
        &alula_courier::Options::default(),
    );
    let courier = courier.map_err(Error::component("mail cannot be sent as it is configured"))?;
    let store = if core.config.store.url.is_empty() { StoreUse::Alone } else { StoreUse::Shared };
    let options = Options { store, ..core.config.asynchronous.clone() };
    let acceptor = Acceptor::new(options, parts);
    let events = events(core, &acceptor);
    let (calls, worker) = Calls::with_worker(WorkerParts {
        acceptor,
        queue: core.store.clone(),
        invoker: core.invoker.clone(),
        courier: Arc::new(courier),
        topics: Arc::new(events.topics.clone()),
        random: draw,
        data_plane: core.data_plane.clone(),
    });
    Ok(Later { calls, worker, events })
}

fn events(core: &Core, acceptor: &Acceptor) -> PlatformEvents {
    let topics = topic::Parts {
        catalog: core.control.catalog().clone(),
        records: core.store.clone(),
        acceptor: acceptor.clone(),
        clock: Arc::clone(&core.clock),
    };
    let webhooks = webhook::Parts {
        catalog: core.control.catalog().clone(),
        records: core.store.clone(),
        clock: Arc::clone(&core.clock),
    };
    PlatformEvents {
        topics: Topics::new(topic::Options::default(), topics),
        webhooks: Webhooks::new(webhooks),
    }
}

fn draw() -> u64 {
    random() as u64
}
