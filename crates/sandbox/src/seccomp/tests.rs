//! The filter is run here by a small interpreter, so that what it answers is tested without installing it.

use std::collections::BTreeSet;

use super::*;

const DENIED: &[(&str, libc::c_long)] = &[
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("process_madvise", libc::SYS_process_madvise),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("fsopen", libc::SYS_fsopen),
    ("setns", libc::SYS_setns),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("kexec_load", libc::SYS_kexec_load),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("quotactl", libc::SYS_quotactl),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("syslog", libc::SYS_syslog),
    ("acct", libc::SYS_acct),
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("sethostname", libc::SYS_sethostname),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("kcmp", libc::SYS_kcmp),
];

/// What the program answers to a call.
fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0_u32; 16];
    data[0] = number;
    data[1] = architecture;
    for (index, argument) in arguments.iter().enumerate() {
        data[4 + 2 * index] = (*argument & 0xffff_ffff) as u32;
        data[5 + 2 * index] = (*argument >> 32) as u32;
    }
    let (mut at, mut register) = (0_usize, 0_u32);
    loop {
        let step = program[at];
        at += 1;
        let taken = match u32::from(step.code) {
            code if code == BPF_LD | BPF_W | BPF_ABS => {
                register = data[(step.k / 4) as usize];
                continue;
            }
            code if code == BPF_RET | BPF_K => return step.k,
            code if code == BPF_JMP | BPF_JEQ | BPF_K => register == step.k,
            code if code == BPF_JMP | BPF_JGE | BPF_K => register >= step.k,
            code if code == BPF_JMP | BPF_JSET | BPF_K => register & step.k != 0,
            code => panic!("unknown instruction {code:#x}"),
        };
        at += usize::from(if taken { step.jt } else { step.jf });
    }
}

fn answer(number: libc::c_long, arguments: [u64; 6]) -> u32 {
    run(&filter().unwrap(), ARCHITECTURE, u32::try_from(number).unwrap(), arguments)
}

const REFUSED: u32 = SECCOMP_RET_ERRNO | EPERM;

#[test]
fn the_program_answers_as_the_table_says_for_every_number() {
    let program = filter().unwrap();
    let allowed: BTreeSet<_> =
        ALLOWED.iter().flat_map(|g| g.calls.iter().copied().flatten()).map(|c| c.1).collect();
    let by_argument: BTreeSet<_> = ARGUMENTS.iter().map(|(call, ..)| call.1).collect();
    for number in (0..1200).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
        if by_argument.contains(&i64::from(number)) {
            continue;
        }
        let expected = if number >= FIRST_NEW_CALL {
            SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()
        } else if allowed.contains(&i64::from(number)) {
            SECCOMP_RET_ALLOW
        } else {
            REFUSED
        };
        assert_eq!(run(&program, ARCHITECTURE, number, [0; 6]), expected, "call {number}");
    }
}

#[test]
fn no_listed_call_is_redundant() {
    let mut seen = BTreeSet::new();
    let ruled = ARGUMENTS.iter().map(|(call, ..)| call);
    for call in ALLOWED.iter().flat_map(|group| group.calls.iter().copied().flatten()).chain(ruled) {
        assert!(seen.insert(call.1), "{} is listed twice", call.0);
    }
    assert!(ALLOWED.iter().all(|group| !group.reason.is_empty()));
}

#[test]
fn dangerous_calls_are_refused() {
    for (name, number) in DENIED {
        assert_eq!(answer(*number, [0; 6]), REFUSED, "{name}");
    }
}

#[test]
fn arguments_decide_where_they_must() {
    let clone = |flags: i32| answer(libc::SYS_clone, [u64::from(flags.cast_unsigned()), 0, 0, 0, 0, 0]);
    assert_eq!(clone(libc::SIGCHLD | libc::CLONE_VM | libc::CLONE_THREAD), SECCOMP_RET_ALLOW);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID] {
        assert_eq!(clone(libc::SIGCHLD | flag), REFUSED);
    }
    assert_eq!(answer(libc::SYS_clone3, [0; 6]), SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let socket = |family: i32| answer(libc::SYS_socket, [u64::from(family.cast_unsigned()), 0, 0, 0, 0, 0]);
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
        assert_eq!(socket(family), SECCOMP_RET_ALLOW);
    }
    for family in [libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG, libc::AF_BLUETOOTH, 0, 99] {
        assert_eq!(socket(family), REFUSED, "family {family}");
    }
    assert_eq!(answer(libc::SYS_socket, [16, 0, 9, 0, 0, 0]), REFUSED, "the audit protocol of netlink");
    assert_eq!(answer(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(answer(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]), REFUSED);
    assert_eq!(answer(libc::SYS_prlimit64, [1, 0, 0, 0, 0, 0]), REFUSED);
    assert_eq!(answer(libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]), REFUSED);
    // The kernel looks at the low half of an ioctl's request only, and so must the filter.
    assert_eq!(answer(libc::SYS_ioctl, [0, 0x1_0000_5412, 0, 0, 0, 0]), REFUSED);
    assert_eq!(answer(libc::SYS_ioctl, [0, 0x5401, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
}

#[test]
fn another_architecture_ends_the_process() {
    let i386 = 0x4000_0003;
    assert_eq!(run(&filter().unwrap(), i386, 1, [0; 6]), SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn the_program_is_short() {
    // Each start installs it, and the kernel translates it then.
    assert!(filter().unwrap().len() < 260, "{} instructions", filter().unwrap().len());
}
