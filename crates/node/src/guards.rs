//! Puts limits and protections over the platform's records, with their audit entries in the record of the control.

use std::sync::Arc;

use alula_guard::protect::{Book, Parts};
use alula_pool::Ceilings;

use crate::assembly::Core;
use crate::clock::random;
use crate::limits;
use crate::sources::Sources;
use crate::up::Error;

/// What is set, in force and followed from now on; `stated` are the ceilings of the configuration.
pub(crate) async fn load(core: &Core, stated: Ceilings, sources: &mut Sources) -> Result<Book, Error> {
    let parts = Parts {
        records: core.store.clone(),
        clock: Arc::clone(&core.clock),
        audit: Arc::new(core.control.clone()),
        random,
        options: core.config.limits.clone(),
        guard: core.invoker.guard().clone(),
    };
    let book = Book::load(parts).await.map_err(Error::component("limits cannot be read"))?;
    let followed = book.clone();
    sources.add(|stop| async move { followed.run(stop).await });
    let (pool, of_pool) = (core.pool.clone(), book.clone());
    sources.add(|stop| limits::follow(pool, stated, of_pool, stop));
    Ok(book)
}
