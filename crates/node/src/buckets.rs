//! Buckets, assembled: their store, their subscribers, their endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use alula_bucket::{Buckets, Observe, Parts, Service, Subscribers};
use alula_invoke::later::Calls;
use alula_store::DiskPackages;
use alula_telemetry::metrics::BucketMetrics;
use tokio_util::sync::CancellationToken;

use crate::assembly::{Core, invocation_id};
use crate::clock::random;
use crate::sources::Sources;
use crate::up::Error;

/// Folder of the contents of objects.
const OBJECTS: &str = "objects";

/// Makes the buckets; what nobody refers to is swept while the node runs.
pub(crate) fn assemble(core: &Core, calls: &Calls, sources: &mut Sources) -> Result<Buckets, Error> {
    let packages = DiskPackages::open_in(&core.data_dir, OBJECTS);
    let packages = packages.map_err(Error::component("the contents of buckets cannot be opened"))?;
    let catalog = core.control.catalog().clone();
    let subscribers = Subscribers::new(catalog, calls.acceptor().clone(), core.store.clone(), invocation_id);
    let parts = Parts {
        options: core.config.bucket.clone(),
        data_dir: core.data_dir.path().to_owned(),
        records: core.store.clone(),
        packages: Arc::new(packages),
        announce: Arc::new(subscribers),
        audit: Arc::new(core.control.clone()),
        observe: Arc::new(Counted(core.telemetry.metrics.buckets())),
        seal: core.invoker.seal().clone(),
        clock: Arc::clone(&core.clock),
        draw_id: || uuid::Uuid::now_v7().to_string(),
        draw_secret: random,
    };
    let buckets = Buckets::open(parts).map_err(Error::component("the buckets cannot be opened"))?;
    let sweeping = buckets.clone();
    sources.add(|stop| sweeping.run(stop));
    Ok(buckets)
}

/// Counts what happens to buckets.
#[derive(Debug)]
struct Counted(BucketMetrics);

impl Observe for Counted {
    fn answered(&self, method: &str, status: u16) {
        self.0.answered(method, status);
    }

    fn received(&self, bytes: u64) {
        self.0.received(bytes);
    }

    fn sent(&self, bytes: u64) {
        self.0.sent(bytes);
    }

    fn told(&self, change: &'static str, calls: usize) {
        self.0.told(change, calls as u64);
    }
}

/// Serves S3 clients until it is told to stop.
pub(crate) async fn serve(listener: tokio::net::TcpListener, buckets: Buckets, stop: CancellationToken) {
    alula_bucket::serve(listener, Service::new(buckets), stop).await;
}

/// Where S3 clients find the buckets.
pub(crate) fn url(listener: SocketAddr) -> String {
    crate::announce::base_url(listener, false)
}
