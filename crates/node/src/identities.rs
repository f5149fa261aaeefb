//! Puts identity over the platform's records, with its audit entries in the record of the control.

use std::sync::Arc;

use alula_identity::{Identity, Parts};

use crate::assembly::Core;
use crate::clock::random;
use crate::sources::Sources;
use crate::up::Error;

/// Everybody who is known, followed from now on.
pub(crate) async fn load(core: &Core, sources: &mut Sources) -> Result<Identity, Error> {
    let parts = Parts {
        records: core.store.clone(),
        clock: Arc::clone(&core.clock),
        audit: Arc::new(core.control.clone()),
        random,
    };
    let identity = Identity::load(parts).await.map_err(Error::component("users and keys cannot be read"))?;
    let followed = identity.clone();
    sources.add(|stop| async move { followed.run(stop).await });
    Ok(identity)
}
