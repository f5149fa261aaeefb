//! Version 1 runs on this kind of machine in the cell tests; version 2 is tested here on a folder that looks
//! like it and on texts as a kernel writes them.

use std::fs;
use std::path::PathBuf;

use super::*;

const MOUNTINFO_V2: &str = "24 1 0:21 / /proc rw - proc proc rw\n31 24 0:26 / MOUNT rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const MOUNTINFO_V1: &str = "\
40 30 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
41 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
42 30 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("alula-cgroup-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A group with the files of version 2.
    fn group(&self, path: &str, files: &[(&str, &str)]) -> PathBuf {
        let group = self.0.join(path);
        fs::create_dir_all(&group).unwrap();
        for (name, text) in files {
            fs::write(group.join(name), text).unwrap();
        }
        group
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn v2(parent: PathBuf) -> Layout {
    let all = vec![
        Controller::Memory,
        Controller::Pids,
        Controller::Cpu,
        Controller::CpuAccounting,
        Controller::Freezer,
    ];
    Layout { version: Version::Two, parents: vec![(parent, all)] }
}

#[test]
fn version_2_numbers_are_read_from_recorded_files() {
    let folder = Folder::new("numbers");
    folder.group(
        "cell-1",
        &[
            ("memory.current", "12345678\n"),
            ("cpu.stat", "usage_usec 54321\nuser_usec 50000\nsystem_usec 4321\nnr_periods 0\n"),
            ("memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ],
    );
    let layout = v2(folder.0.clone());
    assert_eq!(layout.memory_bytes("cell-1"), 12_345_678);
    assert_eq!(layout.cpu_us("cell-1"), 54_321);
    assert_eq!(layout.oom_kills("cell-1"), 2);
    assert_eq!((layout.memory_bytes("gone"), layout.cpu_us("gone"), layout.oom_kills("gone")), (0, 0, 0));
}

#[test]
fn version_1_numbers_are_read_from_recorded_files() {
    let folder = Folder::new("numbers1");
    folder.group(
        "cell-1",
        &[
            ("memory.usage_in_bytes", "4096\n"),
            ("cpuacct.usage", "54321999\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"),
        ],
    );
    let layout = Layout { version: Version::One, ..v2(folder.0.clone()) };
    assert_eq!(layout.memory_bytes("cell-1"), 4096);
    assert_eq!(layout.cpu_us("cell-1"), 54_321);
    assert_eq!(layout.oom_kills("cell-1"), 5);
}

#[test]
fn version_2_hands_its_controllers_on_to_our_parent() {
    let folder = Folder::new("delegate");
    folder.group("", &[("cgroup.subtree_control", "cpu memory pids io\n")]);
    folder.group("alula-x", &[("cgroup.subtree_control", "")]);
    let machine = Machine {
        mountinfo: MOUNTINFO_V2.replace("MOUNT", folder.0.to_str().unwrap()),
        own_groups: "0::/\n".to_owned(),
        own_pids: vec![1],
    };
    assert_eq!(find(&machine, "alula-x").unwrap(), v2(folder.0.join("alula-x")));
    let given = fs::read_to_string(folder.0.join("alula-x/cgroup.subtree_control")).unwrap();
    assert_eq!(given, "+memory +pids +cpu");
}

#[test]
fn version_2_falls_back_to_the_group_that_was_delegated_to_us() {
    let folder = Folder::new("own");
    // The root of the mount has no such file here, as where it may not be written.
    folder.group("user/service", &[("cgroup.subtree_control", "memory pids cpu\n")]);
    folder.group("user/service/alula-x", &[("cgroup.subtree_control", "memory pids cpu")]);
    let machine = Machine {
        mountinfo: MOUNTINFO_V2.replace("MOUNT", folder.0.to_str().unwrap()),
        own_groups: "0::/user/service\n".to_owned(),
        own_pids: vec![],
    };
    assert_eq!(find(&machine, "alula-x").unwrap(), v2(folder.0.join("user/service/alula-x")));
}

#[test]
fn without_any_hierarchy_the_reason_is_told() {
    let machine = Machine { mountinfo: String::new(), own_groups: String::new(), own_pids: vec![] };
    assert!(find(&machine, "x").unwrap_err().to_string().contains("no control groups"));
}

#[test]
fn version_1_controllers_that_share_a_mount_share_a_parent() {
    let layout = find::layout_of(MOUNTINFO_V1, "alula-x").unwrap();
    let expected = vec![
        (PathBuf::from("/sys/fs/cgroup/memory/alula-x"), vec![Controller::Memory]),
        (
            PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/alula-x"),
            vec![Controller::Cpu, Controller::CpuAccounting],
        ),
    ];
    assert_eq!(layout.parents, expected);
    assert!(!layout.has(Controller::Pids));
}

#[test]
fn limits_become_the_values_of_each_version() {
    let limits = Limits { memory_bytes: 1 << 20, processes_max: 17, cpu_weight: 50 };
    let text = |settings: Vec<Setting>| -> Vec<String> {
        settings.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    };
    assert_eq!(text(v1::settings(Controller::Cpu, &limits)), ["cpu.shares=512"]);
    assert_eq!(text(v1::settings(Controller::Pids, &limits)), ["pids.max=17"]);
    assert_eq!(text(v2::settings(Controller::Cpu, &limits)), ["cpu.weight=50"]);
    assert_eq!(text(v2::settings(Controller::Memory, &limits)), ["memory.max=1048576", "memory.swap.max=0"]);
}

#[test]
fn the_share_of_the_cpu_can_be_changed_and_where_there_is_none_that_is_no_error() {
    let folder = Folder::new("weight");
    let group = folder.group("cell-1", &[("cpu.weight", "100")]);
    let layout = v2(folder.0.clone());
    layout.set_cpu_weight("cell-1", 250).unwrap();
    assert_eq!(fs::read_to_string(group.join("cpu.weight")).unwrap(), "250");
    assert!(layout.set_cpu_weight("cell-2", 250).is_err(), "there is no such group");
    let without = Layout { version: Version::Two, parents: Vec::new() };
    assert!(without.set_cpu_weight("cell-1", 250).is_ok());
}

#[test]
fn version_2_groups_are_frozen_and_thawed() {
    let folder = Folder::new("freezer");
    let group = folder.group("cell-1", &[("cgroup.freeze", "0")]);
    let layout = v2(folder.0.clone());
    for (activity, expected) in [(Activity::Frozen, "1"), (Activity::Thawed, "0")] {
        layout.set_activity("cell-1", activity).unwrap();
        assert_eq!(fs::read_to_string(group.join("cgroup.freeze")).unwrap(), expected);
    }
    assert!(layout.set_activity("cell-2", Activity::Frozen).is_err(), "there is no such group");
}
