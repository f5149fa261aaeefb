//! Control groups, version 1: file names and values. A table, no behaviour.

use super::{Activity, Controller, Limits, Setting};

pub(super) const MEMORY_USED: &str = "memory.usage_in_bytes";
/// Moves the writing thread alone. For a process with one thread that is the same as moving the process, but moving a
/// process waits until no processor of the machine can be in a fork any more, which takes milliseconds.
pub(super) const JOIN: &str = "tasks";
pub(super) const CPU_USED: &str = "cpuacct.usage";
pub(super) const OOM_EVENTS: &str = "memory.oom_control";

/// CPU shares of a group with weight 100: the kernel's default.
const SHARES_PER_100: u64 = 1024;

/// What is written into a new group below a parent that serves `controller`.
pub(super) fn settings(controller: Controller, limits: &Limits) -> Vec<Setting> {
    let memory = limits.memory_bytes.to_string();
    match controller {
        Controller::Memory => vec![
            Setting { file: "memory.limit_in_bytes", value: memory.clone(), required: true },
            // Memory and swap together: no swap. The file is missing where the kernel does not count swap.
            Setting { file: "memory.memsw.limit_in_bytes", value: memory, required: false },
        ],
        Controller::Cpu => vec![cpu_weight(limits.cpu_weight)],
        Controller::CpuAccounting | Controller::Freezer => Vec::new(),
        Controller::Pids => {
            vec![Setting { file: "pids.max", value: limits.processes_max.to_string(), required: true }]
        }
    }
}

/// What gives a group another share of the CPU; 100 is one usual instance.
pub(super) fn cpu_weight(weight: u32) -> Setting {
    let shares = (u64::from(weight) * SHARES_PER_100 / 100).max(2);
    Setting { file: "cpu.shares", value: shares.to_string(), required: false }
}

/// What freezes or thaws a group below the parent that serves the freezer.
pub(super) fn activity(activity: Activity) -> Setting {
    let value = match activity {
        Activity::Frozen => "FROZEN",
        Activity::Thawed => "THAWED",
    };
    Setting { file: "freezer.state", value: value.to_owned(), required: true }
}

/// Microseconds from the file's nanoseconds.
pub(super) fn cpu_us(text: &str) -> u64 {
    text.trim().parse::<u64>().unwrap_or(0) / 1_000
}
