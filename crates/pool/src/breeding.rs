//! When zygotes are made, used and let go: processes of one version that its instances are forked from.
//!
//! The rules are in `version_pool::breeding`; here they are carried out. A start with a zygote that fails is made once
//! more in the usual way, so a zygote makes starts faster and never impossible.

use std::sync::Arc;

use alula_model::{Blame, Fault};
use alula_runtime::{Bred, Started};
use tokio::time::{Instant, sleep};

use crate::decision::What;
use crate::ledger::Scope;
use crate::pool::Pool;
use crate::version_pool::{VersionPool, ZygoteEnd};

impl Pool {
    /// Starts an instance, from the zygote where there is one.
    pub(crate) async fn start_instance(&self, pool: &Arc<VersionPool>) -> Result<Started, Fault> {
        if let Some(zygote) = pool.zygote(Instant::now()) {
            match zygote.start(self.next_id()).await {
                Ok(started) => return Ok(started),
                Err(fault) => self.zygote_failed(pool, &fault),
            }
        }
        let started = self.shared.backend.start(Arc::clone(&pool.plan), self.next_id()).await?;
        let key = &pool.plan.key;
        let is_worth = {
            let mut keeper = self.keeper();
            let forking = keeper.forking(key);
            forking.count(key.version, &started);
            forking.are_worth_a_zygote(key.version, &started)
        };
        if is_worth && pool.claim_breeding() {
            let (this, pool, init) = (self.clone(), Arc::clone(pool), started.init);
            self.shared.runtime.spawn(async move { this.breed(&pool, init).await });
        }
        Ok(started)
    }

    fn zygote_failed(&self, pool: &VersionPool, fault: &Fault) {
        let key = &pool.plan.key;
        tracing::debug!(version = %key, code = %fault.code, "nothing was forked: {fault}");
        if pool.let_zygote_go() {
            self.decided(key, What::ZygoteLetGo { end: ZygoteEnd::Gone });
        }
        self.no_zygote(pool, "an instance that was forked did not start", fault);
    }

    /// Makes a zygote that was claimed. There must be room for it: nobody gives way.
    async fn breed(&self, pool: &Arc<VersionPool>, init: std::time::Duration) {
        let era = pool.era();
        let Ok(turn) = self.shared.starts.turn().await else { return pool.bred(None, era, Instant::now()) };
        turn.comes(|| true).await;
        let key = &pool.plan.key;
        let Ok(share) = self.shared.ledger.reserve_memory(&pool.plan, pool.memory_expected()) else {
            return pool.bred(None, era, Instant::now());
        };
        match self.shared.backend.breed(Arc::clone(&pool.plan), self.next_id()).await {
            Ok(Bred::Zygote(zygote)) => {
                pool.bred(Some((zygote, share)), era, Instant::now());
                self.decided(key, What::Bred { init });
                self.serve_line_from_zygote(pool).await;
            }
            Ok(Bred::Unfit { reason }) => {
                pool.bred(None, era, Instant::now());
                self.unfit(pool, reason);
            }
            Err(fault) => {
                tracing::debug!(version = %key, code = %fault.code, "no zygote was made: {fault}");
                pool.bred(None, era, Instant::now());
                self.no_zygote(pool, "its process did not get ready", &fault);
            }
        }
    }

    /// Looks at the line for those in it, who look again only after the time that starts took before there was a zygote.
    async fn serve_line_from_zygote(&self, pool: &Arc<VersionPool>) {
        self.start_if_wanted(pool);
        sleep(pool.start_estimate()).await;
        self.start_if_wanted(pool);
    }

    /// What failed because of the function's code will fail again; anything else is tried again after further starts.
    fn no_zygote(&self, pool: &VersionPool, what: &str, fault: &Fault) {
        match fault.blame() {
            Blame::Function => self.unfit(pool, format!("{what}: {fault}")),
            Blame::Caller | Blame::Platform => self.keeper().forking(&pool.plan.key).start_over(),
        }
    }

    fn unfit(&self, pool: &VersionPool, reason: String) {
        let key = &pool.plan.key;
        self.keeper().forking(key).unfit(key.version);
        self.decided(key, What::Unfit { reason });
    }

    /// Lets the zygote of `scope` go that has not been used for the longest time; false where there is none.
    pub(crate) fn one_zygote_gives_way(&self, scope: &Scope) -> bool {
        let pools = self.pools();
        let in_scope = pools.iter().filter(|pool| scope.holds(&pool.plan));
        let oldest = in_scope.filter_map(|pool| Some((pool.zygote_used_at()?, pool)));
        let Some((_, pool)) = oldest.min_by_key(|(used_at, _)| *used_at) else { return false };
        if pool.let_zygote_go() {
            self.decided(&pool.plan.key, What::ZygoteLetGo { end: ZygoteEnd::GaveWay });
            self.keeper().forking(&pool.plan.key).start_over();
        }
        true
    }

    /// Lets the zygote of a version go where it is not worth its memory any more.
    pub(crate) fn look_at_zygote(&self, pool: &VersionPool, now: Instant) {
        if let Some(end) = pool.look_at_zygote(now) {
            self.decided(&pool.plan.key, What::ZygoteLetGo { end });
        }
    }
}
