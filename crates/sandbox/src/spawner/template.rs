//! The root that all cells share, in a mount namespace of the spawner's own where nothing else of the host
//! is.
//!
//! ```text
//! /            a small tmpfs
//! ├─ proc      the host's: the kernel demands a visible one before it lets a cell mount its own
//! ├─ root      the tmpfs of the cells' root, writable for the spawner: new mount points are made here
//! └─ cell      the same tmpfs read-only, with /usr and devices mounted in it: what each cell clones
//! ```
//!
//! Few mounts, because every cell copies them all. Small things from `/etc` are therefore copied once instead
//! of mounted each. Host folders for a cell are fetched from the host's namespace, which stays open.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use super::etc;
use crate::protocol::MountPlan;
use crate::sys;

/// A folder that every Linux has and nothing is needed from: the template is put together over it.
const STAGE: &str = "/sys";
/// Size of the two tmpfs: `/etc` is copied into one; nothing else is large.
const TMPFS: &std::ffi::CStr = c"size=32m,nr_inodes=16384,mode=0755";
/// Mount points that may be made below `/code`, `/alula` and `/build` in the life of a spawner.
const MOUNT_POINTS_MAX: usize = 1024;

const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEV: u64 = 0x4;

const DEVICES: [(&str, u32, u32); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// The template, and the way back to the host's files.
#[derive(Debug)]
pub(super) struct Template {
    host: OwnedFd,
    own: OwnedFd,
    mount_points: usize,
}

impl Template {
    /// Builds it and moves this process into it. `privileged`: whether devices may be made.
    pub(super) fn build(privileged: bool, extra_readonly: &[PathBuf]) -> io::Result<Self> {
        let namespace = || File::open("/proc/self/ns/mnt").map(OwnedFd::from);
        let host = namespace()?;
        sys::unshare(libc::CLONE_NEWNS)?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let stage = Path::new(STAGE);
        mount_tmpfs(stage)?;
        for folder in ["proc", "root", "cell"] {
            fs::create_dir(stage.join(folder))?;
        }
        let (root, cell) = (stage.join("root"), stage.join("cell"));
        mount_tmpfs(&root)?;
        fill_root(&root)?;
        rustix::mount::mount_bind(&root, &cell)?;
        set(&cell, READ_ONLY | NO_SUID)?;
        bind(Path::new("/usr"), &root, &cell)?;
        show_top_folders(&root, &cell)?;
        for folder in extra_readonly {
            checked_extra(folder)
                .and_then(|()| bind(folder, &root, &cell))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
        }
        make_devices(privileged, &root, &cell)?;
        rustix::mount::mount_bind_recursive("/proc", stage.join("proc"))?;
        rustix::process::chdir(STAGE)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(Self { host, own: namespace()?, mount_points: 0 })
    }

    /// Clones a host folder or file as an unattached mount and makes the place for it in the root.
    pub(super) fn fetch(&mut self, mount: &MountPlan) -> io::Result<OwnedFd> {
        let target = checked_target(&mount.target)?;
        sys::setns(self.host.as_fd(), libc::CLONE_NEWNS)?;
        let tree = rustix::mount::open_tree(CWD, &mount.source, clone_flags());
        sys::setns(self.own.as_fd(), libc::CLONE_NEWNS)?;
        let tree = tree.map_err(|errno| {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("{}: {error}", mount.source.display()))
        })?;
        let access = if mount.writable { 0 } else { READ_ONLY };
        sys::mount_set_attributes(tree.as_fd(), NO_SUID | NO_DEV | access)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
        self.make_mount_point(&target, kind)?;
        Ok(tree)
    }

    /// Attaches mounts in the mount namespace of a running cell, and gives its `/tmp` another size.
    pub(super) fn change_in(
        &self,
        mounts: &OwnedFd,
        trees: &[(OwnedFd, &Path)],
        tmp_bytes: Option<u64>,
    ) -> io::Result<()> {
        sys::setns(mounts.as_fd(), libc::CLONE_NEWNS)?;
        let mut trees = trees.iter();
        let attached = trees.try_for_each(|(tree, target)| crate::cell::attach(tree.as_fd(), target));
        let changed = attached
            .map_err(io::Error::from)
            .and_then(|()| tmp_bytes.map_or(Ok(()), crate::cell::resize_tmp));
        sys::setns(self.own.as_fd(), libc::CLONE_NEWNS)?;
        changed
    }

    fn make_mount_point(&mut self, target: &Path, kind: FileType) -> io::Result<()> {
        let place = Path::new("/root").join(target);
        if place.exists() {
            return Ok(());
        }
        if self.mount_points == MOUNT_POINTS_MAX {
            return Err(io::Error::other(format!("more than {MOUNT_POINTS_MAX} different mount points")));
        }
        self.mount_points += 1;
        if kind == FileType::Directory {
            return fs::create_dir_all(place);
        }
        fs::create_dir_all(place.parent().unwrap_or(Path::new("/root")))?;
        File::create(place).map(drop)
    }
}

/// The target relative to the root, if it is where mounts may go.
fn checked_target(target: &Path) -> io::Result<PathBuf> {
    let mut parts = target.components();
    let rooted = parts.next() == Some(Component::RootDir);
    let plain = parts.clone().all(|part| matches!(part, Component::Normal(_)));
    let first = parts.next().map(|part| part.as_os_str().to_owned());
    let allowed = first.is_some_and(|name| ["code", "alula", "build"].iter().any(|known| name == *known));
    if rooted && plain && allowed {
        return Ok(target.strip_prefix("/").unwrap_or(target).to_owned());
    }
    let text = format!("`{}` is not below /code, /alula or /build", target.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Refuses an extra folder at a place that is the cell's own, or is shown anyway.
fn checked_extra(folder: &Path) -> io::Result<()> {
    const TAKEN: [&str; 9] =
        ["/usr", "/etc", "/dev", "/proc", "/tmp", "/var/tmp", "/code", "/alula", "/build"];
    let plain = folder.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let is_root = folder.parent().is_none();
    // A link in the cell's root would lead back to the host while the root is put together.
    let is_link = |place: &Path| fs::symlink_metadata(place).is_ok_and(|meta| meta.is_symlink());
    let taken = TAKEN.iter().any(|taken| folder.starts_with(taken)) || folder.ancestors().any(is_link);
    if folder.is_absolute() && plain && !is_root && !taken {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "this folder cannot be shown in addition"))
}

fn fill_root(root: &Path) -> io::Result<()> {
    for folder in ["usr", "etc", "dev", "proc", "tmp", "code", "alula", "build", "var"] {
        fs::create_dir(root.join(folder))?;
    }
    symlink("/tmp", root.join("var/tmp"))?;
    // Shared memory and semaphores by name live in /dev/shm; here they count as /tmp.
    for (name, to) in [
        ("dev/shm", "/tmp"),
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(to, root.join(name))?;
    }
    etc::fill(&root.join("etc"))
}

/// `/bin`, `/lib` and so on, as the host has them: links into `/usr`, or folders of their own.
fn show_top_folders(root: &Path, cell: &Path) -> io::Result<()> {
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        if let Ok(to) = fs::read_link(&host) {
            symlink(to, root.join(name))?;
        } else if host.is_dir() {
            bind(&host, root, cell)?;
        }
    }
    Ok(())
}

/// Shows a host folder read-only at the same place.
fn bind(host: &Path, root: &Path, cell: &Path) -> io::Result<()> {
    let inside = host.strip_prefix("/").map_err(io::Error::other)?;
    fs::create_dir_all(root.join(inside))?;
    show(host, &cell.join(inside), READ_ONLY | NO_SUID | NO_DEV)
}

/// Mounts a host folder or file at an existing place.
fn show(host: &Path, place: &Path, attributes: u64) -> io::Result<()> {
    let tree = rustix::mount::open_tree(CWD, host, clone_flags())?;
    sys::mount_set_attributes(tree.as_fd(), attributes)?;
    Ok(crate::cell::attach(tree.as_fd(), place)?)
}

/// Devices are made where that is allowed and mounted from the host where it is not.
fn make_devices(privileged: bool, root: &Path, cell: &Path) -> io::Result<()> {
    for (name, major, minor) in DEVICES {
        let place = root.join("dev").join(name);
        if privileged {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
            rustix::fs::chmod(&place, Mode::from_raw_mode(0o666))?;
        } else {
            File::create(&place)?;
            show(&Path::new("/dev").join(name), &cell.join("dev").join(name), NO_SUID)?;
        }
    }
    Ok(())
}

fn mount_tmpfs(at: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::NOSUID, TMPFS)?)
}

fn set(mount: &Path, attributes: u64) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let opened = rustix::mount::open_tree(CWD, mount, flags)?;
    sys::mount_set_attributes(opened.as_fd(), attributes)
}

fn clone_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_folders_do_not_cover_the_cells_own() {
        assert!(checked_extra(Path::new("/srv/models")).is_ok());
        for bad in ["/", "/usr/lib", "/tmp/x", "/var/tmp", "/proc", "srv", "/srv/../etc", "/bin"] {
            let is_folder_of_its_own = bad == "/bin" && !Path::new(bad).is_symlink();
            assert!(is_folder_of_its_own || checked_extra(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_go_only_where_they_may() {
        for good in ["/code", "/alula/shim", "/build/a/b"] {
            assert!(checked_target(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["code", "/", "/etc", "/usr/lib", "/tmp/x", "/code/../etc", "/codeine", ""] {
            assert!(checked_target(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
