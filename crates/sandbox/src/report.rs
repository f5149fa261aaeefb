//! What this machine gives and what is missing, in words.
//!
//! The spawner finds the facts by making a real cell; here they become the list of protections that `alula
//! doctor` and the start-up messages show. Each says how it is done, or what its absence means and how to get
//! it.

use alula_runtime::{LauncherReport, Protection};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Controller, Layout, Version};

/// What the spawner found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Whether it is root with the rights to make devices and map users.
    pub(crate) privileged: bool,
    /// Why no cell could be made; `None` when one was.
    pub(crate) cell_error: Option<String>,
    /// The kernel's version of Landlock; 0 where there is none.
    pub(crate) landlock_abi: u32,
    /// The control groups.
    pub(crate) groups: Option<Layout>,
    /// Why there are none.
    pub(crate) groups_error: Option<String>,
}

/// How to make namespaces possible.
pub(crate) const NAMESPACE_REMEDY: &str = "run as root, or allow user namespaces: `sysctl user.max_user_namespaces` \
     above 0, `sysctl kernel.unprivileged_userns_clone=1` on Debian kernels, \
     `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu; in a container, run it privileged";

const GROUPS_REMEDY: &str = "run as root, or under systemd with `Delegate=yes` \
     (`systemd-run --user --scope -p Delegate=yes alula up`)";

/// The list of protections, the most important first.
pub(crate) fn describe(facts: &Facts) -> LauncherReport {
    let mut protections = isolation(facts);
    protections.extend([
        seccomp(facts),
        landlock(facts),
        memory(facts),
        processes(facts),
        separate_users(facts),
    ]);
    protections.push(cpu(facts));
    LauncherReport { protections }
}

fn isolation(facts: &Facts) -> Vec<Protection> {
    let about = [
        ("user namespace", "root inside has no rights outside"),
        ("mount namespace", "of the host's files only read-only /usr, and what a cell is given, are there"),
        ("pid namespace", "other processes cannot be seen or signalled"),
        ("network namespace", "own loopback interface only; neither host nor other cells can be reached"),
        ("ipc and uts namespaces", "own shared memory, semaphores and host name"),
    ];
    let protection = |(name, detail): (&'static str, &str)| match &facts.cell_error {
        None => protection(name, true, detail),
        Some(error) => protection(
            name,
            false,
            &format!("no sandbox can be made ({error}), so no process runtime can run; {NAMESPACE_REMEDY}"),
        ),
    };
    about.into_iter().map(protection).collect()
}

fn seccomp(facts: &Facts) -> Protection {
    match &facts.cell_error {
        None => protection("seccomp", true, "a list of allowed system calls; all others are refused"),
        Some(_) => protection("seccomp", false, "not tried, because no sandbox can be made"),
    }
}

fn landlock(facts: &Facts) -> Protection {
    let detail = match facts.landlock_abi {
        0 => "the kernel has none or it is off, so files are protected by mounts alone; Linux 5.13 or newer with \
              `landlock` in the kernel's `lsm=` list has it"
            .to_owned(),
        abi @ 1..=5 => {
            format!("version {abi}: writing only in /tmp and writable mounts; Linux 6.12 adds signals and sockets")
        }
        abi => format!("version {abi}: writing only in /tmp and writable mounts, no signals or sockets outwards"),
    };
    protection("landlock", facts.landlock_abi > 0 && facts.cell_error.is_none(), &detail)
}

fn memory(facts: &Facts) -> Protection {
    limit(facts, "memory limit", Controller::Memory, "a function can use up the machine's memory")
}

fn processes(facts: &Facts) -> Protection {
    limit(facts, "process limit", Controller::Pids, "a function can use up the machine's process numbers")
}

fn cpu(facts: &Facts) -> Protection {
    limit(facts, "cpu weight", Controller::Cpu, "a busy function takes CPU time from the others")
}

/// A limit that control groups give.
fn limit(facts: &Facts, name: &'static str, controller: Controller, without: &str) -> Protection {
    match &facts.groups {
        Some(layout) if layout.has(controller) => {
            let version = match layout.version {
                Version::One => 1,
                Version::Two => 2,
            };
            protection(name, true, &format!("control groups version {version}"))
        }
        Some(_) => protection(
            name,
            false,
            &format!("{without}: the kernel has no such controller; it must be mounted"),
        ),
        None => {
            let error = facts.groups_error.as_deref().unwrap_or("no control groups");
            protection(name, false, &format!("{without} ({error}); {GROUPS_REMEDY}"))
        }
    }
}

fn separate_users(facts: &Facts) -> Protection {
    if facts.privileged {
        let detail = "each sandbox has a range of users of its own outside, and zygotes can fork into it";
        return protection("separate users", true, detail);
    }
    let missing = "all sandboxes run as the user of the platform outside, so an escape would have its rights; \
                   run as root, which gives each sandbox users of its own without any rights, and lets zygotes \
                   fork into sandboxes, which makes starts cheaper";
    protection("separate users", false, missing)
}

fn protection(name: &'static str, in_force: bool, detail: &str) -> Protection {
    Protection { name, in_force, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(facts: &Facts) -> Vec<&'static str> {
        describe(facts).protections.into_iter().filter(|p| !p.in_force).map(|p| p.name).collect()
    }

    #[test]
    fn with_everything_nothing_is_missing() {
        let all = vec![Controller::Memory, Controller::Cpu, Controller::CpuAccounting, Controller::Pids];
        let groups = Some(Layout { version: Version::Two, parents: vec![("/sys/fs/cgroup/x".into(), all)] });
        let facts = Facts { privileged: true, landlock_abi: 7, groups, ..Facts::default() };
        assert!(missing(&facts).is_empty());
        assert_eq!(describe(&facts).protections.len(), 11);
    }

    #[test]
    fn what_is_missing_names_its_remedy() {
        let facts = Facts { groups_error: Some("not writable".to_owned()), ..Facts::default() };
        assert_eq!(
            missing(&facts),
            ["landlock", "memory limit", "process limit", "separate users", "cpu weight"]
        );
        let memory = describe(&facts).protections.into_iter().find(|p| p.name == "memory limit").unwrap();
        assert!(memory.detail.contains("not writable") && memory.detail.contains("Delegate=yes"));
    }

    #[test]
    fn without_namespaces_no_isolation_is_claimed() {
        let error = Some("Operation not permitted".to_owned());
        let facts = Facts { cell_error: error, landlock_abi: 7, ..Facts::default() };
        let missing = missing(&facts);
        for name in ["user namespace", "network namespace", "seccomp", "landlock"] {
            assert!(missing.contains(&name), "{name}");
        }
    }
}
