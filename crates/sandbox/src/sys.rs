//! The system calls that `rustix` does not wrap, each behind a safe signature.
//!
//! Together with `exec` and `midwife::tracee` this is the only place of the crate with `unsafe`. No policy: which namespace, which
//! right, which order is decided by the callers.

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of a [`fork`] this is.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent,
}

/// Number of threads of this process.
pub(crate) fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Forks a process that has one thread only, so that the child may do whatever the parent may.
pub(crate) fn fork_single_threaded() -> io::Result<Forked> {
    let threads = thread_count()?;
    if threads != 1 {
        return Err(io::Error::other(format!("the process already has {threads} threads")));
    }
    // SAFETY: there is one thread, so no lock can be held by a thread that does not exist in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Ends this process at once: no destructors, no exit handlers of the process it was forked from.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Starts `child` as a process in new namespaces (`flags` are `CLONE_NEW*`) and returns its pid and a pidfd.
/// The caller has one thread. The child ends with the status that `child` returns.
pub(crate) fn clone_into(flags: c_int, child: impl FnOnce() -> i32) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    // SAFETY: an all-zero `clone_args` is valid: it asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    // A brother has its parent's word for it.
    let is_child = flags & libc::CLONE_PARENT == 0;
    args.exit_signal = if is_child { libc::SIGCHLD.cast_unsigned().into() } else { 0 };
    // SAFETY: `args` lives over the call and has the size that is given; without CLONE_VM the child has its
    // own copy of the memory, and the caller has one thread, so the copy is consistent.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            exit_now(status)
        }
        // SAFETY: the kernel has just made this descriptor and nobody else has it.
        pid => Ok((i32::try_from(pid).unwrap_or(-1), unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Starts `child` as a brother of this process in new namespaces; its number as this process sees it, and a pidfd. As
/// for [`clone_into`] otherwise.
pub(crate) fn clone_beside(flags: c_int, child: impl FnOnce() -> i32) -> io::Result<(i32, OwnedFd)> {
    clone_into(flags | libc::CLONE_PARENT, child)
}

/// The number of the process behind a pidfd, as this process's `/proc` shows it.
pub(crate) fn pid_of(process: BorrowedFd<'_>) -> io::Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has ended"))
}

/// Moves this process into new namespaces (`CLONE_NEW*` only).
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: namespace flags change no memory and no descriptor table.
    check(unsafe { libc::unshare(flags) }.into())
}

/// Moves this process into the namespaces `flags` of a namespace descriptor or pidfd.
pub(crate) fn setns(fd: BorrowedFd<'_>, flags: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }.into())
}

/// `prctl` with plain numbers.
pub(crate) fn prctl(option: c_int, argument: c_ulong) -> io::Result<()> {
    // SAFETY: used with options whose arguments are numbers; the unused ones are zero as the kernel demands.
    check(unsafe { libc::prctl(option, argument, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) }.into())
}

/// Joins a new, empty session keyring.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is read or written.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_void>()) })
}

/// Gives up every capability of this thread.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let nothing = [0_u32; 6];
    // SAFETY: version 3 reads a header of two words and two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) })
}

/// What `mount_setattr` sets.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets `MOUNT_ATTR_*` on a mount and all mounts below it.
pub(crate) fn mount_set_attributes(tree: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is an empty C string, the struct has the size that is given and lives over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
}

/// The version of Landlock in the kernel; 0 where there is none.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: c_ulong = 1;
    // SAFETY: the version query takes a null pointer and no size.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<c_void>(), 0_usize, VERSION)
    };
    u32::try_from(abi).unwrap_or(0)
}

/// What a Landlock ruleset governs: file rights, TCP rights, scopes.
#[repr(C)]
pub(crate) struct LandlockRuleset {
    pub(crate) files: u64,
    pub(crate) tcp: u64,
    pub(crate) scopes: u64,
}

/// Makes a Landlock ruleset; `size` is how many bytes of it the kernel's version knows.
pub(crate) fn landlock_create(ruleset: &LandlockRuleset, size: usize) -> io::Result<OwnedFd> {
    let size = size.min(size_of::<LandlockRuleset>());
    // SAFETY: the struct lives over the call and is at least `size` bytes.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(ruleset), size, 0 as c_ulong)
    };
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// Allows `rights` below the folder or on the file `path`.
pub(crate) fn landlock_allow(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, rights: u64) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        path: i32,
    }
    const RULE_PATH_BENEATH: c_int = 1;
    let rule = PathBeneath { rights, path: path.as_raw_fd() };
    // SAFETY: both descriptors are open and the rule lives over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0 as c_ulong,
        )
    })
}

/// Puts this thread and its later children under the ruleset, for ever.
pub(crate) fn landlock_restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0 as c_ulong) })
}

/// Installs a seccomp filter on this thread and its later children, for ever.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions, which live over the call, and writes nothing.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0 as c_ulong, &raw const program)
    })
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives over the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}

/// The addresses of this machine's own network interfaces.
pub(crate) fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` is a valid place for the list's head.
    check(unsafe { libc::getifaddrs(&raw mut first) }.into())?;
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: every entry of the list is valid until `freeifaddrs`.
        let entry = unsafe { &*next };
        // SAFETY: the address is null or points to a `sockaddr` of its family.
        found.extend(unsafe { ip_of(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: the list came from `getifaddrs` and nothing borrows from it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// Reads an IP address.
///
/// # Safety
/// `address` is null or points to a socket address of the size of its family.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, so every family begins with the family field.
    match c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a `sockaddr_in`.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a `sockaddr_in6`.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(v6.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: callers hold no owned descriptor in that range that they use or drop afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) })
}

/// Makes `fd` the descriptor `target`, which stays open for the rest of this process.
pub(crate) fn place_fd(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    // SAFETY: what was open as `target` is a standard stream or unowned, as `close_from` demands too.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())
}

/// Takes ownership of a descriptor that [`place_fd`] put at a fixed number.
pub(crate) fn adopt_fd(number: i32) -> OwnedFd {
    // SAFETY: `place_fd` made it and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Blocks SIGCHLD and gives a descriptor that becomes readable with it.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is valid memory for `sigemptyset`; the other calls take that set.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Ignores signals in this process.
pub(crate) fn ignore_signals(signals: &[c_int]) {
    for signal in signals {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Takes back the handlers that the Rust runtime has for faults: a handler could be run by a signal from any
/// process of the cell, and without one the kernel keeps all signals away from a first process.
pub(crate) fn default_fault_signals() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action runs no code of this program.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Kills every process of this process's pid namespace but the first one, which this must be.
pub(crate) fn kill_all_others() {
    // SAFETY: plain system call; as the first process of a namespace it reaches that namespace only.
    unsafe {
        if libc::getpid() == 1 {
            libc::kill(-1, libc::SIGKILL);
        }
    }
}

/// Whether `path` leads to an existing file, as this process sees it.
pub(crate) fn exists(path: &CStr) -> bool {
    // SAFETY: `path` is a C string.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// Drops the mapped pages of a range that maps a file privately and whose pages were never written.
pub(crate) fn forget_file_pages(start: usize, length: usize) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
    // SAFETY: the callers' range is mapped from a file and was never written, so that the next use of a page finds in it
    // what was there before.
    check(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) }.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
