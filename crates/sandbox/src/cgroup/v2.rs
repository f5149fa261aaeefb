//! Control groups, version 2: file names and values. A table, no behaviour.

use super::{Activity, Controller, Limits, Setting, keyed_value};

pub(super) const MEMORY_USED: &str = "memory.current";
pub(super) const JOIN: &str = "cgroup.procs";
pub(super) const CPU_USED: &str = "cpu.stat";
pub(super) const OOM_EVENTS: &str = "memory.events";

/// What is written into a new group for `controller`.
pub(super) fn settings(controller: Controller, limits: &Limits) -> Vec<Setting> {
    match controller {
        Controller::Memory => vec![
            Setting { file: "memory.max", value: limits.memory_bytes.to_string(), required: true },
            // The file is missing where the kernel has no swap accounting.
            Setting { file: "memory.swap.max", value: "0".to_owned(), required: false },
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
    Setting { file: "cpu.weight", value: weight.clamp(1, 10_000).to_string(), required: false }
}

/// What freezes or thaws a group.
pub(super) fn activity(activity: Activity) -> Setting {
    let value = match activity {
        Activity::Frozen => "1",
        Activity::Thawed => "0",
    };
    Setting { file: "cgroup.freeze", value: value.to_owned(), required: true }
}

/// Microseconds from `cpu.stat`.
pub(super) fn cpu_us(text: &str) -> u64 {
    keyed_value(text, "usage_usec").unwrap_or(0)
}
