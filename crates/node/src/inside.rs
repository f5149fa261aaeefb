//! What answers functions that call the platform from inside their sandboxes: a gateway behind the door, and the buckets.

use std::sync::Arc;

use alula_bucket::{Buckets, Insider};
use alula_control::Catalog;
use alula_gateway::{Asker, Objects, Options, Parts, Unobserved};
use alula_invoke::Invoker;
use alula_runtime::{Body, BodyError, BoxFuture, Visits};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::up::Error;

/// Time between two requests on one connection: a call in the same machine opens a new one in microseconds, and a function
/// that is frozen must not hold connections for long.
const IDLE_TIMEOUT_MS: u64 = 20_000;

/// The other side of the door.
#[derive(Debug)]
pub(crate) struct Inside {
    visits: Visits,
    objects: Arc<dyn Objects>,
}

impl Inside {
    pub(crate) fn new(visits: Visits, buckets: Buckets) -> Self {
        let service = alula_bucket::Service::new(buckets);
        Self { visits, objects: Arc::new(BucketsInside { service }) }
    }

    /// Answers until `stop`, as the public gateway does with these `options` and `parts`.
    pub(crate) fn serve(
        self,
        options: &Options,
        parts: &Parts<Invoker, Catalog>,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
        let options = Options {
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            tls: None,
            trusted_proxies: Vec::new(),
            ..options.clone()
        };
        let parts = Parts { observe: Arc::new(Unobserved), ..parts.clone() };
        let gateway = alula_gateway::Service::new(options, parts)
            .map_err(Error::component("the gateway for functions cannot be set up"))?;
        Ok(gateway.run_inside(self.visits, self.objects, stop))
    }
}

/// The S3 endpoint without its listener.
#[derive(Debug)]
struct BucketsInside {
    service: alula_bucket::Service,
}

impl Objects for BucketsInside {
    fn answer(&self, request: Request<Incoming>, asker: Asker) -> BoxFuture<'_, Response<Body>> {
        let Asker { namespace, lineage } = asker;
        Box::pin(async move {
            match self.service.answer(request, Insider { namespace, lineage }).await {
                Ok(response) => response.map(|body| Body::stream(body.map_err(|_| BodyError::Disconnected))),
                Err(error) => {
                    tracing::debug!(%error, "a request of a function for the buckets broke off");
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    response
                }
            }
        })
    }
}
