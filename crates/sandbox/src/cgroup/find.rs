//! Finding the place for our control groups on a machine.
//!
//! Version 1 is used where the memory controller is mounted that way; then our parent lies directly below
//! each controller's mount. Under version 2 it lies below the first of these that takes it: the root of the
//! mount, then this process's own group (which a service manager may have delegated to us).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, Layout, Version};

/// Where our own processes go under version 2 when our own group must become an inner node, since only leaves
/// may hold processes.
const LEAF: &str = "alula-platform";

/// What the kernel says about mounts and groups: the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(crate) struct Machine {
    pub(crate) mountinfo: String,
    pub(crate) own_groups: String,
    /// The platform and the spawner.
    pub(crate) own_pids: Vec<i32>,
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    version: Version,
    options: Vec<String>,
}

/// Makes the parent group `name` and says where it is; the error says what is in the way.
pub(crate) fn find(machine: &Machine, name: &str) -> io::Result<Layout> {
    let mounts = mounted(&machine.mountinfo);
    let layout = match layout_v1(&mounts, name) {
        Some(layout) => layout,
        None => return find_v2(machine, &mounts, name),
    };
    for (parent, _) in &layout.parents {
        make_folder(parent)?;
    }
    Ok(layout)
}

/// The hierarchies in a `mountinfo` text.
fn mounted(mountinfo: &str) -> Vec<Mounted> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = right.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mounted { at, version, options })
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// Version 1, where memory and pids are mounted that way. Controllers that share a mount share a parent.
fn layout_v1(mounts: &[Mounted], name: &str) -> Option<Layout> {
    let mut parents: Vec<(PathBuf, Vec<Controller>)> = Vec::new();
    for (controller, option) in [
        (Controller::Memory, "memory"),
        (Controller::Pids, "pids"),
        (Controller::Cpu, "cpu"),
        (Controller::CpuAccounting, "cpuacct"),
        (Controller::Freezer, "freezer"),
    ] {
        let has =
            |mount: &&Mounted| mount.version == Version::One && mount.options.iter().any(|o| o == option);
        let Some(mount) = mounts.iter().find(has) else { continue };
        let parent = mount.at.join(name);
        match parents.iter_mut().find(|(path, _)| *path == parent) {
            Some((_, served)) => served.push(controller),
            None => parents.push((parent, vec![controller])),
        }
    }
    let layout = Layout { version: Version::One, parents };
    layout.has(Controller::Memory).then_some(layout)
}

/// The layout that a `mountinfo` text gives for version 1.
#[cfg(test)]
pub(super) fn layout_of(mountinfo: &str, name: &str) -> Option<Layout> {
    layout_v1(&mounted(mountinfo), name)
}

fn find_v2(machine: &Machine, mounts: &[Mounted], name: &str) -> io::Result<Layout> {
    let Some(mount) = mounts.iter().find(|mount| mount.version == Version::Two) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no control groups are mounted"));
    };
    let own = machine.own_groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.map(|path| mount.at.join(path)).filter(|path| *path != mount.at);
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "no control group may be used");
    for above in [Some(mount.at.clone()), own].into_iter().flatten() {
        match open_parent_v2(&above, name, &machine.own_pids) {
            Ok(parent) => {
                // Every group but the root can be frozen there.
                let all = vec![
                    Controller::Memory,
                    Controller::Pids,
                    Controller::Cpu,
                    Controller::CpuAccounting,
                    Controller::Freezer,
                ];
                return Ok(Layout { version: Version::Two, parents: vec![(parent, all)] });
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// Makes `above/name` with all controllers usable below it.
fn open_parent_v2(above: &Path, name: &str, own_pids: &[i32]) -> io::Result<PathBuf> {
    let parent = above.join(name);
    make_folder(&parent)?;
    if let Err(error) = delegate(above) {
        // Processes in `above` itself are in the way: ours move into a leaf, others make this place unusable.
        let leaf = above.join(LEAF);
        make_folder(&leaf)?;
        for pid in own_pids {
            fs::write(leaf.join("cgroup.procs"), pid.to_string())?;
        }
        delegate(above).map_err(|_| error)?;
    }
    delegate(&parent)?;
    Ok(parent)
}

/// Hands memory, pids and cpu on to the groups below `group`.
fn delegate(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let given = fs::read_to_string(&file)?;
    let missing: Vec<_> = ["memory", "pids", "cpu"]
        .into_iter()
        .filter(|name| !given.split_whitespace().any(|word| word == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { fs::write(&file, missing.join(" ")) }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
