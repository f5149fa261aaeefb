//! Making and removing the groups of cells, and removing what a crashed platform left.
//!
//! The parents are held open, so this works after the file system they are mounted in is out of sight.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::{Activity, Controller, Layout, Limits, Version};

/// How often the clean-up at the start looks whether killed processes and the previous spawner have ended,
/// ten seconds in all: killing is immediate, only the kernel's freeing of memory takes time.
const CLEAN_LOOKS: u32 = 2000;
/// Pause between two looks at a group that is ending.
const CLEAN_STEP: Duration = Duration::from_millis(5);

/// The parents of our groups, open.
#[derive(Debug)]
pub(crate) struct Groups {
    version: Version,
    parents: Vec<Parent>,
}

#[derive(Debug)]
struct Parent {
    /// A way to the folder through an open descriptor.
    path: PathBuf,
    serves: Vec<Controller>,
    open: File,
    /// What `path` goes through.
    _above: File,
}

impl Parent {
    fn open(path: &Path, serves: &[Controller]) -> io::Result<Self> {
        let above = File::open(path.parent().unwrap_or(path))?;
        let name = path.file_name().unwrap_or_default();
        let way = PathBuf::from(format!("/proc/self/fd/{}", above.as_raw_fd())).join(name);
        Ok(Self { path: way, serves: serves.to_vec(), open: File::open(path)?, _above: above })
    }

    /// Whether the folder is still the one that was opened.
    fn is_there(&self) -> bool {
        let number = |meta: io::Result<fs::Metadata>| meta.map(|meta| meta.ino()).ok();
        number(fs::metadata(&self.path)) == number(self.open.metadata())
    }
}

impl Groups {
    /// Opens the parents, makes sure that no other spawner uses them and removes what is left in them. `None`
    /// when a spawner that ended meanwhile removed the parents: they must be made again.
    pub(crate) fn open(layout: &Layout) -> io::Result<Option<Self>> {
        let parents = layout.parents.iter().map(|(path, serves)| Parent::open(path, serves));
        let parents: Vec<Parent> = match parents.collect() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            parents => parents?,
        };
        let groups = Self { version: layout.version, parents };
        groups.lock()?;
        if !groups.parents.iter().all(Parent::is_there) {
            return Ok(None);
        }
        groups.remove_leftovers()?;
        Ok(Some(groups))
    }

    /// Removes the parents when no cell is left. Under version 2 the service manager's group stays as it is.
    pub(crate) fn remove_parents(&self) {
        for parent in &self.parents {
            // Not empty: the next start tries again.
            let _ = fs::remove_dir(&parent.path);
        }
    }

    /// One spawner at a time. The lock ends with the spawner and its cells, so a predecessor that is still
    /// cleaning up is waited for.
    fn lock(&self) -> io::Result<()> {
        let Some(first) = self.parents.first() else { return Ok(()) };
        for _ in 0..CLEAN_LOOKS {
            if rustix::fs::flock(&first.open, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(());
            }
            std::thread::sleep(CLEAN_STEP);
        }
        Err(io::Error::other("another running platform uses the same group name"))
    }

    /// Makes the group of a cell and returns the files into which its first process writes itself, while it has one
    /// thread.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<Vec<OwnedFd>> {
        let made: io::Result<_> =
            self.parents.iter().map(|parent| self.create_in(parent, name, limits)).collect();
        if made.is_err() {
            let _ = self.remove(name);
        }
        made
    }

    fn create_in(&self, parent: &Parent, name: &str, limits: &Limits) -> io::Result<OwnedFd> {
        let group = parent.path.join(name);
        fs::create_dir(&group)?;
        for controller in &parent.serves {
            for setting in self.version.settings(*controller, limits) {
                setting.write_into(&group)?;
            }
        }
        self.open_join(&group)
    }

    /// The files into which a process writes itself to join a cell's group, as [`Groups::create`] returned them.
    pub(crate) fn joins(&self, name: &str) -> io::Result<Vec<OwnedFd>> {
        self.parents.iter().map(|parent| self.open_join(&parent.path.join(name))).collect()
    }

    /// Changes the limits of a cell's group from `old` to `new`. Nothing is written where nothing differs.
    pub(crate) fn change(&self, name: &str, old: &Limits, new: &Limits) -> io::Result<()> {
        for parent in &self.parents {
            let group = parent.path.join(name);
            for controller in &parent.serves {
                let before = self.version.settings(*controller, old);
                let mut changed = self.version.settings(*controller, new);
                changed.retain(|setting| !before.contains(setting));
                // Version 1 refuses a moment in which memory alone may be more than memory and swap together.
                if new.memory_bytes > old.memory_bytes {
                    changed.reverse();
                }
                changed.iter().try_for_each(|setting| setting.write_into(&group))?;
            }
        }
        Ok(())
    }

    /// Lets the processes of a cell's group run, so that they can die: what is frozen does not.
    pub(crate) fn thaw(&self, name: &str) {
        let setting = self.version.activity(Activity::Thawed);
        for parent in self.parents.iter().filter(|parent| parent.serves.contains(&Controller::Freezer)) {
            // A group that is gone needs none.
            let _ = setting.write_into(&parent.path.join(name));
        }
    }

    fn open_join(&self, group: &Path) -> io::Result<OwnedFd> {
        Ok(OpenOptions::new().write(true).open(group.join(self.version.join_file()))?.into())
    }

    /// Removes the group of a cell whose processes have ended. Busy for a moment is possible.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        for parent in &self.parents {
            match fs::remove_dir(parent.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Kills and removes everything below our parents.
    fn remove_leftovers(&self) -> io::Result<()> {
        let mut left = 0;
        for _ in 0..CLEAN_LOOKS {
            left = 0;
            for group in self.parents.iter().flat_map(|parent| groups_in(&parent.path)) {
                end_group(self.version, &group);
                left += usize::from(fs::remove_dir(&group).is_err());
            }
            if left == 0 {
                return Ok(());
            }
            std::thread::sleep(CLEAN_STEP);
        }
        Err(io::Error::other(format!("{left} control groups of a crashed platform do not end")))
    }
}

/// The groups directly below `parent`.
fn groups_in(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Kills every process of a group. A frozen process does not die, so the group is thawed too.
fn end_group(version: Version, group: &Path) {
    // Not where the parent serves other controllers.
    let _ = version.activity(Activity::Thawed).write_into(group);
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
