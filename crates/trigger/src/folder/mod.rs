//! Watched folders: a file that was written whole, or that went, becomes a call.
//!
//! ```text
//! kernel's word ---> pending names ---> look: the file against what was seen of it ---> seen and call in one commit
//! start, overflow -> every name ---/
//! ```
//!
//! The kernel's word only says where to look. What counts is the difference between the file and its record, so whatever
//! changed while the platform was not there is found at the next start, and the same content is never an event twice: a file
//! whose digest is the one that was seen was touched, not written. What lay in a folder before its trigger was made is
//! seen without a call.
//!
//! Only regular files directly in the folder count: no links, no folders. Names are bytes; one that is no UTF-8 is told in
//! base64 as well.
//!
//! Deliberately absent: handing the content over. A function reads the file where its sandbox shows the folder.

mod allowed;
mod event;
mod look;
mod pending;
mod ports;
mod seen;
mod service;
mod watch;

pub use allowed::Allowed;
pub use ports::{Deliver, Prepared};
pub use service::{Parts, Service};

/// Files of one folder that are watched; beyond it nothing is certain, and a warning says so.
pub const FILES_MAX: usize = 100_000;
/// Names that wait to be looked at; beyond it the whole folder is looked at instead.
const PENDING_MAX: usize = 1_024;
/// A file that nobody was seen to close is looked at when nobody has written it for so long.
const REST_MS: i64 = 2_000;
/// A folder is looked at so often even where the kernel says nothing, as for network file systems.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);
/// Wait after a folder could not be watched or a call not be handed in.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);
