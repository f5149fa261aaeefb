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
//! of them, the bound on starts at once, and the loop that lets idle instances go. What happens when a request
//! finds no slot is decided in one place, `demand`.
//!
//! It knows no HTTP, no store and no clock but the runtime's monotonic one, so all of it runs on the fake back end
//! with paused time.

mod demand;
pub mod keep_alive;
mod lease;
mod options;
mod pool;
pub mod simulate;
mod version_pool;
mod view;

pub use lease::{Lease, Place, Released};
pub use options::PoolOptions;
pub use pool::Pool;
pub use view::{InstanceCounts, InstanceState, InstanceView};
