//! What the three kinds of process say to each other.
//!
//! The platform asks the spawner for cells ([`Request`], [`Reply`]) and each cell's holder for what happens
//! inside it ([`Order`], [`Answer`]). Every question has a number and its answer the same; number 0 is news
//! that nobody asked for. No behaviour here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Layout;
use crate::report::Facts;

/// The number of messages that answer no question.
pub(crate) const NEWS: u64 = 0;

/// A numbered message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Numbered<T> {
    pub(crate) number: u64,
    pub(crate) body: T,
}

/// Platform to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Make a cell: [`Reply::Prepared`] with the link to its holder and its listeners. Where it is `within` another one,
    /// that one's zygote can fork processes into it.
    Prepare { plan: CellPlan, within: Option<u64> },
    /// Show one more host folder in a cell: [`Reply::Done`].
    Mount { cell: u64, mount: MountPlan },
    /// Give a cell that was prepared for nobody other limits and further mounts: [`Reply::Done`]. Its listeners are
    /// not looked at.
    Specialise { cell: u64, plan: CellPlan },
    /// Have a process forked into a cell by a zygote, with the descriptors of the message: [`Reply::Forked`]. Without a
    /// plan it is that of the cell which this one was made within.
    Fork { cell: u64, zygote: Option<ZygotePlan> },
    /// The process in this cell at the other end of the message's descriptor is a zygote now: [`Reply::Forked`] with its
    /// number outside.
    Breed { cell: u64 },
    /// End a cell: [`Reply::Done`] when nothing of it is left.
    Destroy { cell: u64 },
}

/// What a cell is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Processes that stay in it.
    Work,
    /// A process that others are forked from into cells of their own. What it may not write they could not write either,
    /// so Landlock lets it write wherever the mounts do.
    Breeding,
}

/// A cell to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CellPlan {
    pub(crate) purpose: Purpose,
    pub(crate) memory_bytes: u64,
    pub(crate) processes_max: u32,
    pub(crate) tmp_bytes: u64,
    pub(crate) cpu_weight: u32,
    pub(crate) listeners: Vec<u16>,
    pub(crate) mounts: Vec<MountPlan>,
}

/// A zygote: all that are asked for with the same plan are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ZygotePlan {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<MountPlan>,
}

/// A host folder or file to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) writable: bool,
}

/// Spawner to platform.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// News, once and first: what this machine gives and where the cells' control groups are.
    Hello { facts: Facts, groups: Option<Layout> },
    /// The cell, the name of its control group and its root's user outside, where that is another than ours.
    Prepared { cell: u64, group: String, owner: Option<u32> },
    /// The process in the cell, by its number inside. The holder must be told to adopt it.
    Forked { pid: i32 },
    /// It is done.
    Done,
    /// It could not be done.
    Failed { reason: String },
}

/// Platform to holder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Start a process with the descriptors of the message: [`Answer::Started`], later [`Answer::Ended`].
    Start { argv: Vec<String>, env: BTreeMap<String, String>, cwd: String },
    /// Take care of a process that a zygote forked into the cell, as if it had been started: [`Answer::Started`].
    Adopt { pid: i32 },
    /// Send a signal to the process that the `Start` of this number made. No answer.
    Signal { process: u64, signal: i32 },
    /// Make a socket inside: [`Answer::Done`] with the socket.
    Socket { kind: SocketKind },
    /// Kill everything but the holder: [`Answer::Done`].
    Sweep,
}

/// What kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SocketKind {
    /// TCP over IPv4.
    StreamV4,
    /// TCP over IPv6.
    StreamV6,
    /// UDP over IPv4.
    Datagram,
}

/// Holder to platform; the first one, `Ready` or `Failed`, goes to the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// News: the cell is complete; with its listeners, and after them the ruleset for processes that zygotes fork into
    /// it, where the kernel has Landlock.
    Ready,
    /// The process runs the program.
    Started,
    /// News: a process that was started has ended.
    Ended { process: u64, ending: Ending },
    /// It is done.
    Done,
    /// It could not be done.
    Failed { reason: String },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
}

/// What a zygote or its midwife is told. The descriptors of the message are, in this order: the cell's first process (a
/// pidfd), the Landlock ruleset where `landlock` says so, the new process's descriptors from 0 on, and the files of
/// the cell's control groups into which it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForkOrder {
    pub(crate) number: u64,
    pub(crate) landlock: bool,
    /// How many descriptors the new process has.
    pub(crate) standard: usize,
    /// Whether the outside has more than one user to map, so that groups can be given up.
    pub(crate) own_user: bool,
    pub(crate) last_capability: u32,
    pub(crate) keyctl: i64,
}

/// What a zygote or its midwife says: that it is ready (number 0), the pid inside the cell, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForkAnswer {
    pub(crate) number: u64,
    pub(crate) pid: Option<i32>,
    pub(crate) error: Option<String>,
}
