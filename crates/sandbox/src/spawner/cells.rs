//! Making cells and ending them; never waiting for one.
//!
//! A cell is `SettingUp` until its holder says that it is complete, then `Running`, then `Dead` (its holder
//! has ended by itself: its group stays readable until somebody asks to destroy it) or `Ending`.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::pipe::PipeFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::slots::Slots;
use super::template::Template;
use super::within;
use super::zygotes::{Fork, Zygotes};
use crate::cell::{self, Blueprint, IDS_PER_CELL, IdMap, MountTree};
use crate::cgroup::{Groups, Limits};
use crate::link;
use crate::protocol::{CellPlan, MountPlan, Purpose, ZygotePlan};
use crate::sys;

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Listeners and mounts of one cell: both travel as descriptors.
const PARTS_MAX: usize = 32;

/// Where a cell is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    /// The holder builds it; the platform's end of its link waits here. The number is that of the request.
    SettingUp { link: OwnedFd, listeners: usize, request: u64 },
    /// The platform has it.
    Running,
    /// The platform has done with it, but there are cells within it, which would end with its holder. It ends with the
    /// last of them.
    Lingering,
    /// Its holder has ended.
    Dead,
    /// Killed; all who asked for it are answered when the holder has ended.
    Ending { requests: Vec<u64> },
}

/// One cell.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) stage: Stage,
    pub(super) holder: OwnedFd,
    /// Its mount namespace. Opened while the holder lets itself be looked into, which it ends when it is complete.
    mounts: OwnedFd,
    pub(super) group: String,
    pub(super) map: IdMap,
    limits: Limits,
    tmp_bytes: u64,
    /// The Landlock rules for processes that zygotes fork into it.
    pub(super) ruleset: Option<OwnedFd>,
    pub(super) purpose: Purpose,
    /// The platform's end of its holder's link where cells may be within it: the holder ends with the last such end.
    pub(super) link: Option<OwnedFd>,
    /// The cell that it is within.
    outer: Option<u64>,
    /// Its range of users, which is also that of the cell that it is within.
    slot: u32,
}

/// What cells are made from.
pub(super) struct Maker {
    pub(super) template: Template,
    pub(super) groups: Option<Groups>,
    pub(super) filter: Vec<libc::sock_filter>,
    pub(super) landlock_abi: u32,
    pub(super) last_capability: u32,
    /// First user of the cells' range; `None` where only the own user can be mapped.
    pub(super) uid_base: Option<u32>,
}

/// All cells.
pub(super) struct Cells {
    pub(super) maker: Maker,
    pub(super) live: HashMap<u64, Cell>,
    pub(super) zygotes: Zygotes,
    slots: Slots,
    last: u64,
}

impl Cells {
    pub(super) fn new(maker: Maker) -> Self {
        Self { maker, live: HashMap::new(), zygotes: Zygotes::default(), slots: Slots::new(), last: 0 }
    }

    /// Starts making a cell, within the cell `outer` where that is given.
    pub(super) fn prepare(&mut self, plan: &CellPlan, outer: Option<u64>, request: u64) -> io::Result<u64> {
        if plan.listeners.len() > PARTS_MAX || plan.mounts.len() > PARTS_MAX {
            return Err(io::Error::other(format!("more than {PARTS_MAX} listeners or mounts in one cell")));
        }
        let outside = match outer {
            Some(cell) => Outside::Cell(cell, running(&self.live, cell)?),
            None => Outside::Host(
                self.slots
                    .take()
                    .ok_or_else(|| io::Error::other("there are as many cells as there can be"))?,
            ),
        };
        self.last += 1;
        let group = format!("cell-{}", self.last);
        match self.maker.make(plan, request, &outside, &group) {
            Ok(cell) => {
                self.live.insert(self.last, cell);
                Ok(self.last)
            }
            Err(error) => {
                if let Outside::Host(slot) = outside {
                    self.slots.give_back(slot);
                }
                self.maker.remove_group(&group);
                Err(error)
            }
        }
    }

    /// Shows one more host folder in a cell.
    pub(super) fn mount(&mut self, cell: u64, mount: &MountPlan) -> io::Result<()> {
        running(&self.live, cell)?;
        let tree = self.maker.fetch_read_only(mount)?;
        let mounts = &running(&self.live, cell)?.mounts;
        self.maker.template.change_in(mounts, &[(tree, &*mount.target)], None)
    }

    /// Makes a cell that was prepared for nobody into one of `plan`. Limits come first, so that nothing of the
    /// version is visible inside before they hold.
    pub(super) fn specialise(&mut self, cell: u64, plan: &CellPlan) -> io::Result<()> {
        let Some(found) = self.live.get_mut(&cell).filter(|cell| matches!(cell.stage, Stage::Running)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the cell is gone"));
        };
        let limits = limits_of(plan);
        if let Some(groups) = &self.maker.groups {
            groups.change(&found.group, &found.limits, &limits)?;
        }
        found.limits = limits;
        let trees = plan.mounts.iter().map(|mount| Ok((self.maker.fetch_read_only(mount)?, &*mount.target)));
        let trees = trees.collect::<io::Result<Vec<_>>>()?;
        let tmp_bytes = (plan.tmp_bytes != found.tmp_bytes).then_some(plan.tmp_bytes);
        found.tmp_bytes = plan.tmp_bytes;
        self.maker.template.change_in(&found.mounts, &trees, tmp_bytes)
    }

    /// Has a process forked into a cell by a zygote: the one with this plan, or that of the cell which it is within.
    /// Returns the zygotes that were started for it.
    pub(super) fn fork(
        &mut self,
        number: u64,
        cell: u64,
        zygote: Option<&ZygotePlan>,
        standard: &[OwnedFd],
    ) -> io::Result<Vec<u64>> {
        let group = running(&self.live, cell)?.group.clone();
        let groups = self.maker.groups.as_ref().map(|groups| groups.joins(&group)).transpose()?;
        let groups = groups.unwrap_or_default();
        let Some(found) = self.live.get(&cell) else { return Ok(Vec::new()) };
        let (holder, ruleset) = (&found.holder, found.ruleset.as_ref());
        let fork = Fork { number, holder, ruleset, standard, groups: &groups };
        match (zygote, found.outer) {
            (Some(plan), _) => self.zygotes.fork(&mut self.maker, plan, &fork),
            (None, Some(outer)) => self.zygotes.fork_version(&self.maker, outer, &fork).map(|()| Vec::new()),
            (None, None) => Err(io::Error::other("the cell is within no other")),
        }
    }

    /// Makes the process in a cell at the other end of `zygote` one that others are forked from. Returns what must be
    /// watched.
    pub(super) fn breed(&mut self, number: u64, cell: u64, zygote: &OwnedFd) -> io::Result<u64> {
        if running(&self.live, cell)?.purpose != Purpose::Breeding {
            return Err(io::Error::other("the cell was not made for zygotes"));
        }
        self.zygotes.breed(number, cell, zygote)
    }

    /// Kills a cell; false when there is nothing to wait for. One with others within it stays until those have ended.
    pub(super) fn kill(&mut self, cell: u64, request: u64) -> bool {
        let has_inner = self.has_inner(cell);
        self.zygotes.end_version(cell);
        let Some(found) = self.live.get_mut(&cell) else { return false };
        match &mut found.stage {
            Stage::Running if has_inner => {
                found.stage = Stage::Lingering;
                if let Some(groups) = &self.maker.groups {
                    groups.thaw(&found.group);
                }
                false
            }
            Stage::Lingering => false,
            _ => self.kill_now(cell, request),
        }
    }

    /// Kills a cell and with it what is within it; false when there is nothing to wait for.
    fn kill_now(&mut self, cell: u64, request: u64) -> bool {
        let Some(found) = self.live.get_mut(&cell) else { return false };
        match &mut found.stage {
            Stage::Dead => {
                self.forget(cell);
                return false;
            }
            Stage::Ending { requests } => requests.push(request),
            Stage::SettingUp { .. } | Stage::Running | Stage::Lingering => {
                let _ = pidfd_send_signal(&found.holder, Signal::KILL);
                if let Some(groups) = &self.maker.groups {
                    groups.thaw(&found.group);
                }
                found.stage = Stage::Ending { requests: vec![request] };
            }
        }
        true
    }

    fn has_inner(&self, cell: u64) -> bool {
        self.live.values().any(|other| other.outer == Some(cell))
    }

    /// Collects an ended holder. With it the kernel has ended everything in the cell.
    pub(super) fn reap(&mut self, cell: u64) {
        if let Some(found) = self.live.get(&cell) {
            let _ = waitid(WaitId::PidFd(found.holder.as_fd()), WaitIdOptions::EXITED);
        }
    }

    /// Removes what is left of an ended cell.
    pub(super) fn forget(&mut self, cell: u64) {
        let Some(found) = self.live.remove(&cell) else { return };
        self.zygotes.end_version(cell);
        self.maker.remove_group(&found.group);
        // Cells within each other have one range of users, which the last of them gives back.
        if !self.live.values().any(|other| other.slot == found.slot) {
            self.slots.give_back(found.slot);
        }
        if let Some(outer) = found.outer
            && self.live.get(&outer).is_some_and(|outer| matches!(outer.stage, Stage::Lingering))
            && !self.has_inner(outer)
        {
            self.kill_now(outer, crate::protocol::NEWS);
        }
    }

    /// Ends all cells and waits for it.
    pub(super) fn end_all(&mut self) {
        let mut cells: Vec<_> = self.live.iter().map(|(id, cell)| (cell.outer.is_none(), *id)).collect();
        // What is within another cell is collected first, since the other cannot end before.
        cells.sort_unstable();
        for (_, cell) in &cells {
            self.zygotes.end_version(*cell);
            self.kill_now(*cell, crate::protocol::NEWS);
        }
        for (_, cell) in cells {
            self.reap(cell);
            self.forget(cell);
        }
    }
}

fn running(live: &HashMap<u64, Cell>, cell: u64) -> io::Result<&Cell> {
    let found = live.get(&cell).filter(|cell| matches!(cell.stage, Stage::Running));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the cell is gone"))
}

/// Where a cell is made.
enum Outside<'a> {
    /// On the host, with this range of users.
    Host(u32),
    /// Within another cell.
    Cell(u64, &'a Cell),
}

impl Maker {
    fn make(
        &mut self,
        plan: &CellPlan,
        request: u64,
        outside: &Outside<'_>,
        group: &str,
    ) -> io::Result<Cell> {
        let mounts = plan
            .mounts
            .iter()
            .map(|mount| {
                let tree = self.template.fetch(mount)?;
                Ok(MountTree { tree, target: mount.target.clone(), writable: mount.writable })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let limits = limits_of(plan);
        let joins = self.groups.as_ref().map(|groups| groups.create(group, &limits)).transpose()?;
        let (ours, theirs) = link::pair()?;
        let (mapped, map_done) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let blueprint = Blueprint {
            purpose: plan.purpose,
            link: theirs,
            mapped,
            groups: joins.unwrap_or_default(),
            own_user: self.uid_base.is_some(),
            tmp_bytes: plan.tmp_bytes,
            listeners: plan.listeners.clone(),
            mounts,
            landlock_abi: self.landlock_abi,
            filter: &self.filter,
            last_capability: self.last_capability,
        };
        let (pid, holder, map) = self.start_holder(outside, &blueprint)?;
        let told = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).and_then(|mounts| {
            if matches!(outside, Outside::Host(_)) {
                cell::write_maps(pid, map)?;
            }
            rustix::io::write(&map_done, b"1")?;
            Ok(mounts.into())
        });
        let mounts = told.map_err(|error: io::Error| {
            let _ = pidfd_send_signal(&holder, Signal::KILL);
            let _ = waitid(WaitId::PidFd(holder.as_fd()), WaitIdOptions::EXITED);
            io::Error::new(error.kind(), format!("user map: {error}"))
        })?;
        let stage = Stage::SettingUp { link: ours, listeners: plan.listeners.len(), request };
        let (slot, outer) = match outside {
            Outside::Host(slot) => (*slot, None),
            Outside::Cell(id, outer) => (outer.slot, Some(*id)),
        };
        Ok(Cell {
            stage,
            purpose: plan.purpose,
            link: None,
            outer,
            holder,
            mounts,
            group: group.to_owned(),
            map,
            limits,
            tmp_bytes: plan.tmp_bytes,
            ruleset: None,
            slot,
        })
    }

    /// Starts the first process of a cell; on the host its users are still to be mapped.
    fn start_holder(
        &self,
        outside: &Outside<'_>,
        blueprint: &Blueprint<'_>,
    ) -> io::Result<(i32, OwnedFd, IdMap)> {
        let map = match (outside, self.uid_base) {
            (Outside::Host(slot), Some(base)) => IdMap::Range { base: base + slot * IDS_PER_CELL },
            (Outside::Host(_), None) => IdMap::Own,
            (Outside::Cell(_, outer), _) => match outer.map {
                IdMap::Range { base } => IdMap::Within { base },
                IdMap::Within { .. } | IdMap::Own => {
                    return Err(io::Error::other("no cell can be made within this one"));
                }
            },
        };
        let (pid, holder) = match outside {
            Outside::Host(_) => sys::clone_into(NAMESPACES, || cell::run(blueprint))?,
            Outside::Cell(_, outer) => within::start_holder(&outer.holder, NAMESPACES, map, blueprint)?,
        };
        Ok((pid, holder, map))
    }

    /// A host folder for a cell that is complete.
    fn fetch_read_only(&mut self, mount: &MountPlan) -> io::Result<OwnedFd> {
        if mount.writable {
            return Err(io::Error::other("a writable folder must be named when the cell is made"));
        }
        self.template.fetch(mount)
    }

    /// A group may be busy for a moment after its last process; the kernel is given some rounds for it, and
    /// what is left then is removed by the next start.
    fn remove_group(&self, group: &str) {
        const ROUNDS: u32 = 20;
        let Some(groups) = &self.groups else { return };
        for _ in 0..ROUNDS {
            if groups.remove(group).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

fn limits_of(plan: &CellPlan) -> Limits {
    Limits {
        memory_bytes: plan.memory_bytes,
        // The holder counts too.
        processes_max: u64::from(plan.processes_max) + 1,
        cpu_weight: plan.cpu_weight,
    }
}

/// The number of the kernel's highest capability.
pub(super) fn last_capability() -> u32 {
    /// `CAP_CHECKPOINT_RESTORE`, the highest one when this was written.
    const KNOWN: u32 = 40;
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/cap_last_cap")).unwrap_or_default();
    text.trim().parse().unwrap_or(KNOWN)
}
