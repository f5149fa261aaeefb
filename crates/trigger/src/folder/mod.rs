//! Watched folders: a file that was written whole, or that went, becomes a call.
//!
//! ```text
//! kernel's word ---> names ---> look: the file against what was seen of it ---> seen and call in one commit
//! start, overflow, half a minute -> every name ---/
//! ```
//!
//! The kernel's word only says where to look. What counts is the difference between the file and its record, so whatever
//! changed while the platform was not there is found at the next start, and the same content is never an event twice: a file
//! whose digest is the one that was seen was touched, not written. What lay in a folder before its trigger was in force is
//! seen without a call.
//!
//! Whether a file is whole is the kernel's word too: it tells of every write and of the end of writing. Where it told
//! nothing, because the platform was away or the file system is another machine's, a file is whole when it rests.
//!
//! Only regular files directly in the folder count: no links, no folders. Names are bytes; one that is no UTF-8 is told in
//! base64 as well. A folder is opened anew for every look and no name in it is followed, so a link that somebody puts in the
//! way leads nowhere.
//!
//! Deliberately absent: handing the content over. A function reads the file where its sandbox shows the folder.

mod allowed;
mod decide;
mod event;
mod look;
mod notices;
mod opened;
mod ports;
mod round;
mod seen;
mod service;
mod watch;

#[cfg(test)]
mod tests;

pub use allowed::Allowed;
pub use ports::{Deliver, Observe};
pub use service::{Handle, Parts, Service};

use std::time::Duration;

/// Files of one folder that are watched; beyond it nothing is certain, and a warning says so.
pub const FILES_MAX: usize = 100_000;
/// Names that the kernel told and that are looked at one by one; for more the whole folder is looked at.
const NAMES_MAX: usize = 1_024;
/// Files that somebody is writing and whose end the kernel will tell. Beyond it all are taken for whole when they rest.
const WRITTEN_MAX: usize = 10_000;
/// A file of whose end of writing the kernel told nothing is whole when nobody has written it for so long.
const REST: Duration = Duration::from_secs(2);
/// A folder is looked at so often even where the kernel says nothing, as for network file systems.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Wait after a folder could not be watched or a call not be handed in, and between two looks at a pause.
const RETRY: Duration = Duration::from_secs(5);
/// Files that are read, and then settled, at once: their commits share the store's next write to the disk.
const FILES_AT_ONCE: usize = 16;
/// What the kernel's times of files may be behind its clock: the longest of its ticks, and some.
const FILE_CLOCK_LAG_MS: i64 = 20;
