//! Instances: start, lend, keep, evict.
//!
//! ```text
//! lease ──> a slot is free ───────────────────────────────> Lease (warm)
//!   │
//!   └─> wait in line ──> a slot is given back ────────────> Lease (warm)
//!          │
//!          └─> is a start cheaper than the wait? ─> start ─> Lease (cold)
//! ```
//!
//! One [`VersionPool`](version_pool::VersionPool) per version holds its instances and the line of those who wait; the
//! node-wide pool is the map
//! of them; `starts` bounds how many start at once and in a second. What happens when a request finds no slot is decided in one place, `demand`;
//! what the instances may take together is in the `ledger`, who makes
//! room when it is full in `room` and `give_way`.
//!
//! Instances of a version whose code takes long to load are forked from a process that has loaded it: `breeding`.
//!
//! Once a second `upkeep` looks at everything: it lets go what is not worth its memory, starts what will be called, holds
//! the floors. How long is worth it is the policy of `keep_alive`, which `simulate` runs on traces of calls; what is
//! remembered of each function is in the `keeper`.
//!
//! It knows no HTTP, no store and no clock but the runtime's monotonic one, so all of it runs on the fake back end
//! with paused time.

mod breeding;
mod decision;
mod demand;
mod fair;
mod give_way;
mod health;
pub mod keep_alive;
mod keeper;
mod lease;
mod ledger;
mod options;
mod pool;
mod prewarm;
mod renewal;
mod room;
pub mod simulate;
mod starts;
mod upkeep;
mod version_pool;
mod view;
mod weights;

pub use decision::{Decision, What};
pub use health::VersionHealth;
pub use keeper::Explanation;
pub use lease::{Lease, Place, Released};
pub use ledger::{Ceiling, Ceilings, Scope, Standing};
pub use options::PoolOptions;
pub use pool::Pool;
pub use prewarm::Short;
pub use version_pool::ZygoteEnd;
pub use view::{InstanceCounts, InstanceState, InstanceView, VersionStanding};
