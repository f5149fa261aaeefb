//! The Linux sandbox of processes: cells made by a spawner, behind the ports of `alula-runtime`.
//!
//! ```text
//!   platform (threads, tokio)                 spawner (one thread, forked first)
//!   ┌───────────────────────┐    link         ┌────────────────────────────┐
//!   │ Sandbox ── client     ├────────────────►│ spawner: template, cells   │
//!   │ egress proxy          │  make, destroy  └──────┬─────────────────────┘
//!   └──────────┬────────────┘                        │ clone3 into new namespaces
//!              │ link per cell                ┌──────▼─────────────────────┐
//!              └─────────────────────────────►│ holder: pid 1 of the cell  │
//!                 start, signal, socket,      │   ├─ program               │
//!                 sweep                       │   └─ program               │
//!                                             └────────────────────────────┘
//! ```
//!
//! [`fork_spawner`] is called first in `main`; [`Sandbox::connect`] takes its link inside the runtime. A
//! holder builds its cell, gives every right away and only then starts programs, which inherit what it has:
//! that makes a start one small fork and an `execve`, and leaves no moment in which a program's process has a
//! right.
//!
//! Read `cell::lock` for what a cell may do, `seccomp::calls` for its system calls, `spawner::template` for
//! its files, `egress` for its network, `report` for what is said where a machine lacks something. `unsafe`
//! is in `sys`, `exec` and `midwife::tracee`. Deliberately absent: pools of cells and what runs in them.

#![allow(
    unsafe_code,
    reason = "namespaces, filters and descriptors need system calls that have no safe wrapper"
)]
#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod cell;
mod cgroup;
mod client;
mod egress;
mod exec;
mod landlock;
mod link;
mod midwife;
mod protocol;
mod report;
mod resident;
mod seccomp;
mod spawner;
mod sys;

pub use client::{Sandbox, SpawnerWatch, inspect};
pub use egress::{
    CheckedEgress, EgressGate, EgressLimits, EgressOptions, EgressPolicy, Observe as ObserveEgress, Subnet,
    SubnetError, Unobserved as UnobservedEgress,
};
pub use resident::forget_start;
pub use spawner::{CELLS_MAX, SpawnerError, SpawnerLink, SpawnerOptions, UID_BASE_DEFAULT, fork_spawner};
