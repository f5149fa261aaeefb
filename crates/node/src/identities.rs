//! Puts identity over the platform's records, with its audit entries in the record of the control, and the gate over both.

use std::sync::Arc;

use alula_courier::KeyFetcher;
use alula_identity::calling::{FetchKeys, Gate, KEY_SET_BYTES_MAX};
use alula_identity::{Identity, Parts, Tokens};
use alula_runtime::BoxFuture;
use alula_sandbox::CheckedEgress;

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

/// The tokens that the data directory brings.
pub(crate) fn tokens(core: &Core) -> Tokens {
    Tokens::default().with("admin", Tokens::digest_of(&core.token.text))
}

/// What judges who may call functions.
pub(crate) fn gate(core: &Core, identity: &Identity, sources: &mut Sources) -> Result<Gate, Error> {
    let default = core.config.access.default.clone();
    default.validate().map_err(Error::component("access.default is wrong"))?;
    let egress = Arc::new(CheckedEgress::new(core.egress.clone()));
    let fetch = Arc::new(PublishedKeys(KeyFetcher::new(egress)));
    let gate = Gate::new(identity.clone(), tokens(core), default, fetch);
    let looked_after = gate.clone();
    sources.add(|stop| async move { looked_after.run(stop).await });
    Ok(gate)
}

/// Keys of issuers, by the network that functions have: an address is the word of whoever owns the function.
#[derive(Debug)]
struct PublishedKeys(KeyFetcher);

impl FetchKeys for PublishedKeys {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(self.0.fetch(url, KEY_SET_BYTES_MAX))
    }
}
