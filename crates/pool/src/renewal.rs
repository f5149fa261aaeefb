//! Replacing instances that were started with what does not hold any more, such as a secret that was changed.

use alula_runtime::VersionPlan;

use crate::decision::What;
use crate::pool::Pool;
use crate::version_pool::VersionPool;

impl Pool {
    /// Replaces the instances of the versions that `is_outdated` names. Calls that run end where they run; the next ones go
    /// to instances that are started from now on. Versions whose instances are idle have them stopped at once.
    pub fn renew(&self, is_outdated: impl Fn(&VersionPlan) -> bool) {
        for pool in self.pools().into_iter().filter(|pool| is_outdated(&pool.plan)) {
            let instances = pool.outdate();
            if instances > 0 {
                self.decided(&pool.plan.key, What::Renewed { instances });
            }
            self.replace_outdated(&pool);
        }
        self.raise_to_floors();
    }

    /// Starts what takes the place of outdated instances, and stops those that are not needed any more.
    pub(crate) fn replace_outdated(&self, pool: &std::sync::Arc<VersionPool>) {
        let (unneeded, needs_newer) = pool.take_outdated();
        unneeded.into_iter().for_each(|instance| self.stop(instance));
        if needs_newer {
            self.start_ahead(pool, 1, What::StartedToRenew);
        }
    }
}
