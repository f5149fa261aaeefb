//! Secrets of namespaces: kept encrypted, versioned, and opened only for instances that start.
//!
//! ```text
//! set -> Sealed (a data key of its own, AES-256-GCM; the data key under the master key) -> records
//! records --load, follow--> Directory (still sealed, in memory, swapped whole) --open--> values for one start
//!                                 \--changes--> whoever has to replace instances
//! ```
//!
//! What seals is [`sealed`], which keys there are is [`keyring`], and all else is [`Vault`]. A start needs no store: what is
//! sealed lies in memory, so functions start while the store is gone.
//!
//! Deliberately absent: who may do what (identity), which function uses what (the catalog knows), and how a value gets into
//! an instance (runtime). No value ever leaves by [`Vault::list`], an error, `Debug` or the audit record.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod directory;
pub mod keyring;
mod record;
mod rotation;
pub mod sealed;

mod vault;

pub use directory::{Changed, SecretInfo, VersionInfo};
pub use keyring::{Keyring, KeyringError, MasterKey};
pub use rotation::Rotated;
pub use vault::{Changes, OpenSecrets, Parts, Vault};
