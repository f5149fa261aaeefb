//! A cell from inside: the process that builds it, locks itself in and then serves it as its first process.
//!
//! `blueprint` is what the spawner hands over, `mounts` builds the file system, `lock` gives every right
//! away, `holder` starts processes, reaps them and answers the platform.

mod blueprint;
mod holder;
mod idmap;
mod lock;
mod mounts;

pub(crate) use blueprint::{Blueprint, MountTree};
pub(crate) use holder::run;
pub(crate) use idmap::{IDS_PER_CELL, IdMap, write_maps};
pub(crate) use lock::confine_zygote;
pub(crate) use mounts::{attach, resize_tmp};
