//! Starting a program inside a cell: a child that shares memory with its parent until it has become the
//! program.
//!
//! The parent sleeps until then (`CLONE_VM | CLONE_VFORK`), so nothing is copied and the outcome of `execve`
//! is simply there when it wakes. The child inherits every restriction from the holder that starts it;
//! nothing here decides about rights.

use std::ffi::{CStr, CString, NulError, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::link::FDS_MAX;

/// Where `PATH` is not given.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The child's stack until `execve`: it calls a dozen system calls and nothing that recurses.
const STACK_BYTES: usize = 64 * 1024;

/// A program to start, with everything laid out so that the child need not allocate.
pub(crate) struct Image {
    /// Paths to try, in order.
    pub(crate) candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    fds: Vec<OwnedFd>,
    /// A Landlock ruleset that the program is put under, besides what it inherits.
    ruleset: Option<c_int>,
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The process could not be made.
    Clone,
    /// The descriptors could not be put in place.
    Descriptors,
    /// The ruleset.
    Rights,
    /// The working directory.
    Directory,
    /// The program.
    Program,
}

impl Image {
    /// Lays out a start. `argv` is not empty.
    pub(crate) fn new(
        argv: &[String],
        env: impl Iterator<Item = (String, String)>,
        cwd: &str,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, NulError> {
        let mut path = DEFAULT_PATH.to_owned();
        let mut variables = Vec::new();
        for (name, value) in env {
            if name == "PATH" {
                path.clone_from(&value);
            }
            variables.push(CString::new(format!("{name}={value}"))?);
        }
        let program = argv.first().map_or("", String::as_str);
        let candidates = if program.contains('/') {
            vec![CString::new(program)?]
        } else {
            path.split(':')
                .map(|folder| CString::new(format!("{folder}/{program}")))
                .collect::<Result<_, _>>()?
        };
        let argv = argv.iter().map(|part| CString::new(part.as_str())).collect::<Result<_, _>>()?;
        Ok(Self { candidates, argv, env: variables, cwd: CString::new(cwd)?, fds, ruleset: None })
    }

    /// The same program under one more Landlock ruleset than it inherits.
    pub(crate) fn under(self, ruleset: Option<c_int>) -> Self {
        Self { ruleset, ..self }
    }
}

/// What the child reads and where it leaves its outcome.
struct Plan<'a> {
    candidates: &'a [CString],
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    cwd: &'a CStr,
    fds: Vec<c_int>,
    ruleset: Option<c_int>,
    failed: Option<(Step, i32)>,
}

impl<'a> Plan<'a> {
    fn of(image: &'a Image) -> Self {
        Self {
            candidates: &image.candidates,
            argv: pointers(&image.argv),
            env: pointers(&image.env),
            cwd: &image.cwd,
            fds: image.fds.iter().map(AsRawFd::as_raw_fd).collect(),
            ruleset: image.ruleset,
            failed: None,
        }
    }
}

/// Starts the program and returns its pid once `execve` has succeeded.
pub(crate) fn spawn(image: &Image) -> Result<i32, (Step, io::Error)> {
    let mut plan = Plan::of(image);
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is aligned, grows down from its end and outlives the child's use of it, since this
    // process sleeps until the child has left this memory; `plan` does too.
    let pid = unsafe { libc::clone(become_program, top.cast(), flags, (&raw mut plan).cast()) };
    if pid == -1 {
        return Err((Step::Clone, io::Error::last_os_error()));
    }
    match plan.failed {
        None => Ok(pid),
        Some((step, errno)) => {
            // SAFETY: waits for the child that was just made and has ended; no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            Err((step, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Makes this process the program; returns only when that failed.
pub(crate) fn replace(image: &Image) -> (Step, io::Error) {
    let mut plan = Plan::of(image);
    let (step, errno) = try_become(&mut plan);
    (step, io::Error::from_raw_os_error(errno))
}

/// A null-terminated array for `execve`, valid as long as `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The child. Only system calls, no allocation, no panic.
extern "C" fn become_program(argument: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its plan and sleeps, so this is the only access.
    let plan = unsafe { &mut *argument.cast::<Plan<'_>>() };
    let (step, errno) = try_become(plan);
    plan.failed = Some((step, errno));
    127
}

/// Returns only when something failed.
fn try_become(plan: &mut Plan<'_>) -> (Step, i32) {
    // SAFETY: plain system calls on this process's own signals and session; the set lives over the calls.
    unsafe {
        libc::setsid();
        // What the platform and the spawner ignore, a program must not.
        for signal in [libc::SIGPIPE, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    if let Some(ruleset) = plan.ruleset {
        // SAFETY: plain system call on a number.
        if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) } == -1 {
            return (Step::Rights, errno());
        }
    }
    if let Err(errno) = place_descriptors(&mut plan.fds) {
        return (Step::Descriptors, errno);
    }
    // SAFETY: `cwd` is a C string.
    if unsafe { libc::chdir(plan.cwd.as_ptr()) } == -1 {
        return (Step::Directory, errno());
    }
    let mut worst = libc::ENOENT;
    for candidate in plan.candidates {
        // SAFETY: C strings and null-terminated arrays of C strings that live in the sleeping parent.
        unsafe { libc::execve(candidate.as_ptr(), plan.argv.as_ptr(), plan.env.as_ptr()) };
        let errno = errno();
        if errno != libc::ENOENT && errno != libc::ENOTDIR {
            worst = errno;
        }
    }
    (Step::Program, worst)
}

/// Makes the given descriptors 0, 1, 2... and closes all others. They are moved out of the way first, since
/// one may stand where another must go.
fn place_descriptors(fds: &mut [c_int]) -> Result<(), i32> {
    let above = FDS_MAX as c_int;
    for fd in fds.iter_mut() {
        // SAFETY: plain system call on a number; a closed descriptor is an error, not undefined.
        *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, above) };
        if *fd == -1 {
            return Err(errno());
        }
    }
    let mut next = 0;
    for fd in fds.iter() {
        // SAFETY: as above. The table of descriptors is this child's own copy.
        if unsafe { libc::dup2(*fd, next) } == -1 {
            return Err(errno());
        }
        next += 1;
    }
    // SAFETY: as above; nothing in this child owns what is closed.
    if unsafe { libc::syscall(libc::SYS_close_range, next, c_int::MAX, 0) } == -1 {
        return Err(errno());
    }
    Ok(())
}

fn errno() -> i32 {
    // SAFETY: the location is always valid; parent and child share it, and the parent sleeps.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn image(program: &str, path: Option<&str>) -> Image {
        let env: BTreeMap<_, _> = path.map(|path| ("PATH".to_owned(), path.to_owned())).into_iter().collect();
        Image::new(&[program.to_owned()], env.into_iter(), "/", Vec::new()).unwrap()
    }

    #[test]
    fn a_name_is_looked_up_in_the_given_path_and_a_path_is_not() {
        assert_eq!(image("tool", Some("/a:/b")).candidates, [c"/a/tool".to_owned(), c"/b/tool".to_owned()]);
        assert_eq!(image("/x/tool", Some("/a")).candidates, [c"/x/tool".to_owned()]);
        assert_eq!(image("tool", None).candidates.len(), 6);
    }

    #[test]
    fn text_with_a_nul_byte_is_refused() {
        assert!(Image::new(&["a\0b".to_owned()], std::iter::empty(), "/", Vec::new()).is_err());
    }

    #[test]
    fn what_failed_is_told() {
        let step = |image: &Image| spawn(image).map_err(|(step, error)| (step, error.raw_os_error()));
        assert_eq!(step(&image("/no/such", None)), Err((Step::Program, Some(libc::ENOENT))));
        assert_eq!(step(&image("/etc/passwd", None)), Err((Step::Program, Some(libc::EACCES))));
        let nowhere = Image::new(&["true".to_owned()], std::iter::empty(), "/no/such", Vec::new()).unwrap();
        assert_eq!(step(&nowhere), Err((Step::Directory, Some(libc::ENOENT))));
    }
}
