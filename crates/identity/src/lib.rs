//! Who may do what: namespaces, users, keys, roles.
//!
//! ```text
//! records --load, follow--> Directory (in memory, swapped whole) --identify--> Principal --may(verb, resource, place)-->
//!    ^                                                                                        permission::TABLE
//!    └── Identity: create, change, rotate, revoke; each with its line of the audit record
//! ```
//!
//! A request is judged without the store: everything that is needed lies in memory, so that a store that is gone locks nobody
//! out, and a change is in force when the command returns, elsewhere as soon as it is followed.
//!
//! Who may call a function from outside is judged by [`calling`]. Deliberately absent: HTTP, and which route needs which
//! permission (the control API's).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod calling;
mod directory;
mod grant;
mod identity;
mod key;
mod keys;
mod last_use;
pub mod login;
mod members;
mod permission;
mod principal;
mod record;
mod role;
mod tokens;

pub use directory::{Directory, Refusal};
pub use grant::{Grant, Place};
pub use identity::{Identity, Parts};
pub use key::{KeyId, PlainKey};
pub use keys::{KeyInfo, NewKey};
pub use members::NewUser;
pub use permission::{Resource, TABLE, Verb};
pub use principal::{Principal, PrincipalKind};
pub use record::{KeyOwner, NamespaceRecord, UserRecord};
pub use role::{Role, Roles};
pub use tokens::Tokens;
