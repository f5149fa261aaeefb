//! Room for instances: who gives way where a ceiling is reached, before a start and after instances have grown.

use std::sync::Arc;

use alula_model::Fault;
use tokio::time::Instant;

use crate::decision::What;
use crate::give_way;
use crate::ledger::{Reached, Scope, Share};
use crate::pool::Pool;
use crate::version_pool::VersionPool;

/// What became of the search for an idle instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// One was let go.
    LetGo,
    /// One was idle and was lent in this very moment; others may be idle still.
    Lent,
    /// None is idle above its floor.
    Nothing,
}

impl Pool {
    /// Makes room for one more instance of `pool`: idle instances give way until it fits.
    pub(crate) fn make_room(&self, pool: &VersionPool) -> Result<Share, Fault> {
        let memory_bytes = pool.memory_expected();
        loop {
            let reached = match self.shared.ledger.reserve(&pool.plan, memory_bytes) {
                Ok(share) => return Ok(share),
                Err(reached) => reached,
            };
            if reached.is_memory() && self.one_zygote_gives_way(&reached.scope) {
                continue;
            }
            let what = What::GaveWay { to: pool.plan.key.to_string() };
            if self.one_gives_way(&reached.scope, &what) == Search::Nothing {
                return Err(self.shared.ledger.fault(&reached));
            }
        }
    }

    /// Lets idle instances go where those that are there have grown beyond a ceiling.
    pub(crate) fn make_up_for_growth(&self) {
        for Reached { scope, .. } in self.shared.ledger.outgrown() {
            let what = What::LetGoForMemory { scope: scope.to_string() };
            let is_over = || self.shared.ledger.outgrown().iter().any(|reached| reached.scope == scope);
            while is_over() && self.one_zygote_gives_way(&scope) {}
            while is_over() && self.one_gives_way(&scope, &what) != Search::Nothing {}
        }
    }

    /// Lets the idle instance of `scope` go whose turn to give way it is.
    fn one_gives_way(&self, scope: &Scope, what: &What) -> Search {
        let now = Instant::now();
        let (timestamp, pools) = (self.timestamp(now), self.pools());
        let keeper = self.keeper();
        let first = pools.iter().filter(|pool| scope.holds(&pool.plan)).filter_map(|pool| {
            let idle = pool.idle(now)?;
            Some((give_way::order(idle, keeper.next_call_in(&pool.plan.key, timestamp)), pool))
        });
        let first = first.min_by_key(|(order, _)| *order).map(|(_, pool): (_, &Arc<VersionPool>)| pool);
        drop(keeper);
        let Some(first) = first else { return Search::Nothing };
        let Some(instance) = first.take_one_idle(now) else { return Search::Lent };
        self.decided(&first.plan.key, what.clone());
        self.stop(instance);
        Search::LetGo
    }
}
