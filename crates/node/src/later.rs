//! The asynchronous part, assembled: who accepts, who runs, who sends out.

use std::sync::Arc;

use alula_control::Catalog;
use alula_courier::{MailOptions, NetworkCourier, SigningKey};
use alula_invoke::Invoker;
use alula_invoke::later::{self, Acceptor, AcceptorParts, Calls, NoTopics, Service, WorkerParts};
use alula_model::Clock;
use alula_sandbox::{CheckedEgress, EgressPolicy};
use alula_store::{DataDir, DiskPackages, SqliteStore};
use alula_telemetry::metrics::Metrics;

use crate::adapters::QueueMetrics;
use crate::clock::random;
use crate::secret::{self, Secret};
use crate::up::Error;

/// Folder of contents that are too large for a message.
const BLOBS: &str = "blobs";

/// What the asynchronous part is made from.
pub(crate) struct Base<'a> {
    pub(crate) options: later::Options,
    pub(crate) mail: MailOptions,
    pub(crate) key: SigningKey,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) catalog: Catalog,
    pub(crate) invoker: Invoker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) policy: EgressPolicy,
    pub(crate) data_plane: tokio::runtime::Handle,
}

/// The key that everything is signed with which is sent out.
pub(crate) fn signing_key(data_dir: &DataDir) -> Result<SigningKey, Error> {
    let secret = Secret::open(data_dir.path(), secret::SIGNING_KEY, random);
    let secret = secret.map_err(Error::system("the signing key cannot be read"))?;
    Ok(SigningKey::new(secret.text))
}

/// Makes the acceptor and the worker.
pub(crate) fn assemble(base: Base<'_>) -> Result<(Calls, Service), Error> {
    let blobs = DiskPackages::open_in(base.data_dir, BLOBS);
    let blobs = blobs.map_err(Error::component("the contents of calls cannot be opened"))?;
    let parts = AcceptorParts {
        catalog: base.catalog,
        records: base.store.clone(),
        blobs: Arc::new(blobs),
        clock: Arc::clone(&base.clock),
        observe: Arc::new(QueueMetrics::new(base.metrics)),
    };
    let courier = NetworkCourier::new(
        alula_courier::Parts {
            egress: Arc::new(CheckedEgress::new(base.policy)),
            key: base.key,
            clock: base.clock,
            mail: base.mail,
        },
        &alula_courier::Options::default(),
    );
    let courier = courier.map_err(Error::component("mail cannot be sent as it is configured"))?;
    Ok(Calls::with_worker(WorkerParts {
        acceptor: Acceptor::new(base.options, parts),
        queue: base.store,
        invoker: base.invoker,
        courier: Arc::new(courier),
        topics: Arc::new(NoTopics),
        random: draw,
        data_plane: base.data_plane,
    }))
}

fn draw() -> u64 {
    random() as u64
}
