//! The system call filter: which calls a cell may make.
//!
//! An allow list (`calls`, a table with reasons), a few calls that are allowed by their arguments
//! (`ARGUMENTS`), and everything else answers EPERM, or ENOSYS where a call is newer than this list. The
//! program is a binary search over the ranges of allowed numbers: the kernel translates a filter each time it
//! is installed, so it must be short, and a list of three hundred comparisons is not. Calls of another
//! architecture (32 bit) kill the process: nothing that runs here makes them by mistake.

mod calls;

use std::io;

use calls::{ALLOWED, Call};
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// Flags of `clone` that make namespaces.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// A rule on one argument of a call.
enum Argument {
    /// Allowed when it has none of these bits.
    WithoutBits(u32),
    /// Allowed when it is one of these.
    OneOf(&'static [u32]),
    /// Allowed when it is none of these.
    NoneOf(&'static [u32]),
    /// Allowed when it is one of `these`, or `other` and the third argument is zero.
    OneOfOrThirdZero { these: &'static [u32], other: u32 },
    /// Never allowed, with this error instead of EPERM.
    Refused(i32),
}

/// Calls that depend on their arguments: the call, which argument, the rule. The reason stands above each.
const ARGUMENTS: &[(Call, u32, Argument)] = &[
    // Processes and threads, but no namespaces.
    (("clone", libc::SYS_clone), 0, Argument::WithoutBits(NEW_NAMESPACES)),
    // Its flags lie behind a pointer that a filter cannot follow; everybody falls back to `clone` on ENOSYS.
    (("clone3", libc::SYS_clone3), 0, Argument::Refused(libc::ENOSYS)),
    // Families that the network namespace separates, and of netlink only the route protocol (0), which lists
    // interfaces. AF_VSOCK would reach the host of a virtual machine.
    (
        ("socket", libc::SYS_socket),
        0,
        Argument::OneOfOrThirdZero {
            these: &[
                libc::AF_UNIX.cast_unsigned(),
                libc::AF_INET.cast_unsigned(),
                libc::AF_INET6.cast_unsigned(),
            ],
            other: libc::AF_NETLINK.cast_unsigned(),
        },
    ),
    // Asking, and setting the default: other personalities weaken address randomisation.
    (("personality", libc::SYS_personality), 0, Argument::OneOf(&[0xffff_ffff, 0])),
    // Limits of the process itself; the holder has the same user.
    (("prlimit64", libc::SYS_prlimit64), 0, Argument::OneOf(&[0])),
    // Terminals, sockets and files, but no typing into a terminal that somebody else reads.
    (("ioctl", libc::SYS_ioctl), 1, Argument::NoneOf(&[0x5412, 0x541c])),
];

/// The filter for cells.
pub(crate) fn filter() -> io::Result<Vec<sock_filter>> {
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        give(SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_AT),
    ];
    for (call, argument, rule) in ARGUMENTS {
        let body = argument_rule(*argument, rule)?;
        program.push(jump(BPF_JEQ, number(call)?, 0, short(body.len())?));
        program.extend(body);
    }
    program.extend([
        jump(BPF_JGE, FIRST_NEW_CALL, 0, 1),
        give(SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]);
    let mut numbers = Vec::new();
    for call in ALLOWED.iter().flat_map(|group| group.calls.iter().copied().flatten()) {
        numbers.push(number(call)?);
    }
    numbers.sort_unstable();
    program.extend(search(&edges(&numbers), SECCOMP_RET_ERRNO | EPERM)?);
    Ok(program)
}

/// Calls from here on are younger than the libraries that run here rely on (`cachestat`, Linux 6.5): they get
/// ENOSYS, on which a library falls back to the older way, as it would on an older kernel.
const FIRST_NEW_CALL: u32 = 451;

const EPERM: u32 = libc::EPERM.cast_unsigned();

/// The instructions for one rule: each way through them ends.
fn argument_rule(argument: u32, rule: &Argument) -> io::Result<Vec<sock_filter>> {
    let refuse = give(SECCOMP_RET_ERRNO | EPERM);
    let allow = give(SECCOMP_RET_ALLOW);
    // The low half of the argument; these are all 32 bit values.
    let mut body = vec![load(ARGUMENTS_AT + 8 * argument)];
    let any_of = |values: &[u32], found: sock_filter, other: sock_filter| -> io::Result<Vec<sock_filter>> {
        let mut tests = Vec::new();
        for (index, value) in values.iter().enumerate() {
            tests.push(jump(BPF_JEQ, *value, short(values.len() - index)?, 0));
        }
        tests.extend([other, found]);
        Ok(tests)
    };
    body.extend(match rule {
        Argument::WithoutBits(bits) => vec![jump(BPF_JSET, *bits, 0, 1), refuse, allow],
        Argument::OneOf(values) => any_of(values, allow, refuse)?,
        Argument::NoneOf(values) => any_of(values, refuse, allow)?,
        Argument::OneOfOrThirdZero { these, other } => {
            let third = [load(ARGUMENTS_AT + 8 * 2), jump(BPF_JEQ, 0, 0, 1), allow, refuse];
            let mut tests = vec![jump(BPF_JEQ, *other, 0, short(third.len())?)];
            tests.extend(third);
            tests.extend(any_of(these, allow, refuse)?);
            tests
        }
        Argument::Refused(errno) => vec![give(SECCOMP_RET_ERRNO | errno.cast_unsigned())],
    });
    Ok(body)
}

/// Where the answer changes, from number 0 on: `[3, 5]` allows 3 and 4.
fn edges(sorted: &[u32]) -> Vec<u32> {
    let mut edges: Vec<u32> = Vec::new();
    for number in sorted {
        match edges.last_mut() {
            Some(end) if *end == *number => *end += 1,
            Some(end) if *end > *number => {}
            _ => edges.extend([*number, *number + 1]),
        }
    }
    edges
}

/// A binary search over `edges`; `below` is the answer for numbers under the first one.
fn search(edges: &[u32], below: u32) -> io::Result<Vec<sock_filter>> {
    let other =
        |answer| if answer == SECCOMP_RET_ALLOW { SECCOMP_RET_ERRNO | EPERM } else { SECCOMP_RET_ALLOW };
    let middle = edges.len() / 2;
    let Some(edge) = edges.get(middle) else { return Ok(vec![give(below)]) };
    let (left, right) =
        (edges.get(..middle).unwrap_or_default(), edges.get(middle + 1..).unwrap_or_default());
    let at_edge = if middle.is_multiple_of(2) { other(below) } else { below };
    let left = search(left, below)?;
    let mut program = vec![jump(BPF_JGE, *edge, short(left.len())?, 0)];
    program.extend(left);
    program.extend(search(right, at_edge)?);
    Ok(program)
}

fn number(call: &Call) -> io::Result<u32> {
    u32::try_from(call.1).map_err(io::Error::other)
}

/// The length of a jump, which has eight bits.
fn short(length: usize) -> io::Result<u8> {
    u8::try_from(length)
        .map_err(|_| io::Error::other("the system call filter needs a longer jump than there is"))
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(test: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(BPF_JMP | test | BPF_K, value, if_true, if_false)
}

fn give(answer: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, answer, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Codes of classic BPF are below 256.
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests;
