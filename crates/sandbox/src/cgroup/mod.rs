//! Control groups: how much memory, CPU and how many processes a cell may use.
//!
//! Version 1 has a hierarchy for each controller, version 2 one for all. Both become a list of folders with
//! the controllers they serve; what is written where is a table in `v1` and `v2`. All groups of one data
//! directory lie below one parent of ours, other groups are never touched.

mod find;
mod groups;
mod v1;
mod v2;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use find::{Machine, find};
pub(crate) use groups::Groups;

/// What a cell may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    /// Processes and threads, the holder included.
    pub(crate) processes_max: u64,
    /// 100 is one usual instance.
    pub(crate) cpu_weight: u32,
}

/// Which of the kernel's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    One,
    Two,
}

/// What is limited or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    /// The counting of CPU time, a controller of its own in version 1.
    CpuAccounting,
    Pids,
    /// Taking the CPU away from a group altogether, and giving it back.
    Freezer,
}

/// Whether the processes of a group get any CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Frozen,
    Thawed,
}

/// Where the groups of our cells are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) version: Version,
    /// The parents of our groups, each with the controllers that it serves.
    pub(crate) parents: Vec<(PathBuf, Vec<Controller>)>,
}

/// One value to write into a group.
#[derive(PartialEq, Eq)]
struct Setting {
    file: &'static str,
    value: String,
    /// Whether the group is of no use without it.
    required: bool,
}

impl Setting {
    fn write_into(&self, group: &Path) -> io::Result<()> {
        let written = OpenOptions::new()
            .write(true)
            .open(group.join(self.file))
            .and_then(|mut file| io::Write::write_all(&mut file, self.value.as_bytes()));
        match written {
            Err(error) if self.required => {
                Err(io::Error::new(error.kind(), format!("{}: {error}", self.file)))
            }
            _ => Ok(()),
        }
    }
}

impl Version {
    /// What freezes or thaws a group.
    fn activity(self, activity: Activity) -> Setting {
        match self {
            Self::One => v1::activity(activity),
            Self::Two => v2::activity(activity),
        }
    }

    /// What gives a group another share of the CPU.
    fn cpu_weight(self, weight: u32) -> Setting {
        match self {
            Self::One => v1::cpu_weight(weight),
            Self::Two => v2::cpu_weight(weight),
        }
    }

    /// The file into which a process with one thread writes itself to join a group.
    fn join_file(self) -> &'static str {
        match self {
            Self::One => v1::JOIN,
            Self::Two => v2::JOIN,
        }
    }

    /// What belongs into a group below a parent that serves `controller`.
    fn settings(self, controller: Controller, limits: &Limits) -> Vec<Setting> {
        match self {
            Self::One => v1::settings(controller, limits),
            Self::Two => v2::settings(controller, limits),
        }
    }
}

impl Layout {
    /// Whether the controller is there.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.parent_of(controller).is_some()
    }

    fn parent_of(&self, controller: Controller) -> Option<&Path> {
        let serves = |(_, served): &&(PathBuf, Vec<Controller>)| served.contains(&controller);
        self.parents.iter().find(serves).map(|(path, _)| path.as_path())
    }

    /// Memory that the group uses now, in bytes.
    pub(crate) fn memory_bytes(&self, group: &str) -> u64 {
        let file = match self.version {
            Version::One => v1::MEMORY_USED,
            Version::Two => v2::MEMORY_USED,
        };
        self.read(Controller::Memory, group, file).trim().parse().unwrap_or(0)
    }

    /// CPU time that the group has used, in microseconds.
    pub(crate) fn cpu_us(&self, group: &str) -> u64 {
        match self.version {
            Version::One => v1::cpu_us(&self.read(Controller::CpuAccounting, group, v1::CPU_USED)),
            Version::Two => v2::cpu_us(&self.read(Controller::CpuAccounting, group, v2::CPU_USED)),
        }
    }

    /// How often a process of the group was killed because the group was over its memory.
    pub(crate) fn oom_kills(&self, group: &str) -> u64 {
        let file = match self.version {
            Version::One => v1::OOM_EVENTS,
            Version::Two => v2::OOM_EVENTS,
        };
        keyed_value(&self.read(Controller::Memory, group, file), "oom_kill").unwrap_or(0)
    }

    /// Freezes or thaws a group. Freezing is under way when this returns; the last of the two that was asked for holds.
    pub(crate) fn set_activity(&self, group: &str, activity: Activity) -> io::Result<()> {
        let parent = self.parent_of(Controller::Freezer).ok_or(io::ErrorKind::Unsupported)?;
        self.version.activity(activity).write_into(&parent.join(group))
    }

    /// Gives a group another share of the CPU; without effect where the machine does not share it out by weight.
    pub(crate) fn set_cpu_weight(&self, group: &str, weight: u32) -> io::Result<()> {
        let Some(parent) = self.parent_of(Controller::Cpu) else { return Ok(()) };
        let setting = Setting { required: true, ..self.version.cpu_weight(weight) };
        setting.write_into(&parent.join(group))
    }

    /// The text of one file of a group; empty where there is none.
    fn read(&self, controller: Controller, group: &str, file: &str) -> String {
        let Some(parent) = self.parent_of(controller) else { return String::new() };
        std::fs::read_to_string(parent.join(group).join(file)).unwrap_or_default()
    }
}

/// The number behind `key` in a file of `key value` lines.
fn keyed_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
