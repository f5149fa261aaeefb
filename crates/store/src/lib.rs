//! What survives: records, packages, history, queue, behind four narrow ports.
//!
//! The ports say what callers may rely on. The memory implementation is their executable specification; every
//! other back end passes the same conformance suite and nobody outside the assembly knows which one is in use.
//!
//! Read the ports first (`records`, `queue` with `message`, `history`, `packages`), then `memory`, then `sqlite`,
//! then `postgres`.
//!
//! Deliberately absent: what the records mean (that is `control`'s), any clock (the present is passed in), and
//! any HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod audit;
mod data_dir;
mod disk_packages;
mod error;
mod history;
mod memory;
mod message;
mod packages;
mod postgres;
mod queue;
mod records;
mod sqlite;

#[cfg(test)]
mod agreement;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use audit::{AuditTrail, Unaudited};
pub use data_dir::DataDir;
pub use disk_packages::DiskPackages;
pub use error::Error;
pub use history::{History, PAGE_LEN_MAX, RunFilter, RunPage};
pub use memory::{MemoryPackages, MemoryStore};
pub use message::{
    Claim, Claims, DeadLetter, Found, MESSAGE_BYTES_MAX, MessageId, MessageState, NewDeadLetter, NewMessage,
    REASON_BYTES_MAX, Receipt, Settlement, TRAIL_BYTES_MAX,
};
pub use packages::{OpenPackage, PackageInfo, Packages, digest_of};
pub use postgres::{PostgresOptions, PostgresStore, open_postgres};
pub use queue::{CLAIM_LEN_MAX, DeadLetters, LaneHead, LaneStats, Queue, QueueCounts, Totals};
pub use records::{
    BATCH_LEN_MAX, Batch, Committed, EXPIRE_LEN_MAX, Expect, KEY_BYTES_MAX, Key, Record, Records, Revision,
    SCAN_LEN_MAX, VALUE_BYTES_MAX, Write,
};
pub use sqlite::{SqliteOptions, SqliteStore, open_sqlite};

/// Everything that a back end keeps in a database, for the assembly: it hands each component the port that it needs.
pub trait Store: Records + WholeQueue + History {}

impl<T: Records + WholeQueue + History> Store for T {}

/// The queue with all of its sides.
pub trait WholeQueue: Queue + DeadLetters + QueueCounts {}

impl<T: Queue + DeadLetters + QueueCounts> WholeQueue for T {}

/// A boxed future that may cross threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
/// What every operation of a port returns.
pub type Result<T> = std::result::Result<T, Error>;
