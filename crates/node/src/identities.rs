//! Puts identity over the platform's records, with its audit entries in the record of the control.

use std::sync::Arc;

use alula_control::Control;
use alula_identity::{AuditTrail, Identity, Parts};
use alula_model::AuditEntry;
use alula_store::{Batch, BoxFuture, Committed, Error as StoreError};

use crate::assembly::Core;
use crate::clock::random;
use crate::sources::Sources;
use crate::up::Error;

#[derive(Debug)]
struct ControlsTrail(Control);

impl AuditTrail for ControlsTrail {
    fn commit(&self, batch: Batch, entry: AuditEntry) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { self.0.commit_audited(batch, &[entry]).await })
    }
}

/// Everybody who is known, followed from now on.
pub(crate) async fn load(core: &Core, sources: &mut Sources) -> Result<Identity, Error> {
    let parts = Parts {
        records: core.store.clone(),
        clock: Arc::clone(&core.clock),
        audit: Arc::new(ControlsTrail(core.control.clone())),
        random,
    };
    let identity = Identity::load(parts).await.map_err(Error::component("users and keys cannot be read"))?;
    let followed = identity.clone();
    sources.add(|stop| async move { followed.run(stop).await });
    Ok(identity)
}
