//! The system calls of cells: a table, grouped by purpose, with the reason for each group. No behaviour.
//!
//! Enough for CPython, Node, Go, Rust, Perl, Ruby, PHP, shells, and for `pip`, `npm` and `cargo` in builds.
//! What is missing is missing on purpose: tracing and other processes' memory, keyrings, kernel modules,
//! mounts, namespaces, io_uring (it would pass by this filter), BPF, performance counters, clocks, swap,
//! quotas.

/// A call's name and number.
pub(super) type Call = (&'static str, libc::c_long);

/// Calls that are there for one reason.
pub(super) struct Group {
    #[cfg_attr(not(test), expect(dead_code, reason = "read by people and by the test that demands it"))]
    pub(super) reason: &'static str,
    pub(super) calls: &'static [&'static [Call]],
}

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Calls that only older architectures have; newer ones do the same with the `at` forms.
macro_rules! legacy {
    ($($name:ident)*) => {{
        #[cfg(target_arch = "x86_64")]
        const CALLS: &[Call] = calls![$($name)*];
        #[cfg(not(target_arch = "x86_64"))]
        const CALLS: &[Call] = &[];
        CALLS
    }};
}

pub(super) const ALLOWED: &[Group] = &[
    Group {
        reason: "reading, writing and moving data between descriptors",
        calls: &[calls![
            SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2
            SYS_pwritev2 SYS_lseek SYS_sendfile SYS_splice SYS_tee SYS_vmsplice SYS_copy_file_range SYS_readahead
            SYS_fadvise64
        ]],
    },
    Group {
        reason: "opening, closing and duplicating descriptors",
        calls: &[
            calls![SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_pipe2],
            legacy![SYS_open SYS_creat SYS_dup2 SYS_pipe],
        ],
    },
    Group {
        reason: "files and folders: Landlock and the mounts decide which",
        calls: &[
            calls![
                SYS_newfstatat SYS_fstat SYS_statx SYS_statfs SYS_fstatfs SYS_getdents64 SYS_faccessat
                SYS_faccessat2 SYS_readlinkat SYS_mkdirat SYS_mknodat SYS_unlinkat SYS_renameat SYS_renameat2
                SYS_linkat SYS_symlinkat SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat
                SYS_truncate SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_flock
                SYS_chdir SYS_fchdir SYS_getcwd SYS_umask SYS_memfd_create SYS_getxattr SYS_lgetxattr
                SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_setxattr SYS_lsetxattr
                SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_name_to_handle_at
            ],
            legacy![
                SYS_stat SYS_lstat SYS_access SYS_getdents SYS_readlink SYS_mkdir SYS_rmdir SYS_mknod SYS_unlink
                SYS_rename SYS_link SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes
                SYS_futimesat
            ],
        ],
    },
    Group {
        reason: "noticing changes of files: development servers and build tools",
        calls: &[
            calls![SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch],
            legacy![SYS_inotify_init],
        ],
    },
    Group {
        reason: "waiting for descriptors, events and timers",
        calls: &[
            calls![
                SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2
                SYS_eventfd2 SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_signalfd4
                SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
                SYS_getitimer SYS_setitimer
            ],
            legacy![
                SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd SYS_alarm SYS_pause
            ],
        ],
    },
    Group {
        reason: "asynchronous input and output of the older kind: databases in builds and libraries",
        calls: &[calls![SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents]],
    },
    Group {
        reason: "memory of the process itself, with the hints that allocators and collectors give",
        calls: &[calls![
            SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mincore SYS_mlock
            SYS_mlock2 SYS_munlock SYS_mlockall SYS_munlockall SYS_membarrier SYS_get_mempolicy SYS_set_mempolicy
            SYS_mbind SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
        ]],
    },
    Group {
        reason: "shared memory and semaphores of the cell's own ipc namespace",
        calls: &[calls![
            SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget
            SYS_msgsnd SYS_msgrcv SYS_msgctl
        ]],
    },
    Group {
        reason: "starting and ending processes; `clone` has a rule of its own",
        calls: &[
            calls![
                SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_getpid SYS_getppid
                SYS_gettid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_pidfd_open SYS_pidfd_send_signal
                SYS_prctl SYS_set_tid_address SYS_getpriority SYS_setpriority SYS_getrlimit SYS_setrlimit
                SYS_getrusage SYS_times
            ],
            legacy![SYS_fork SYS_vfork SYS_getpgrp SYS_arch_prctl],
        ],
    },
    Group {
        reason: "threads, locks and processors",
        calls: &[calls![
            SYS_futex SYS_futex_waitv SYS_set_robust_list SYS_get_robust_list SYS_rseq SYS_sched_yield
            SYS_sched_getaffinity SYS_sched_setaffinity SYS_sched_getparam SYS_sched_setparam
            SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr
            SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getcpu
            SYS_ioprio_get SYS_ioprio_set
        ]],
    },
    Group {
        reason: "signals inside the cell's own pid namespace",
        calls: &[calls![
            SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigsuspend
            SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_sigaltstack SYS_kill SYS_tkill
            SYS_tgkill SYS_restart_syscall
        ]],
    },
    Group {
        reason: "sockets in the cell's own network namespace; `socket` has a rule of its own",
        calls: &[calls![
            SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_shutdown SYS_getsockname
            SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg
            SYS_sendmmsg SYS_recvmmsg
        ]],
    },
    Group {
        reason: "users and capabilities: a process may change within the cell's range, and without capabilities it \
                 can only ask or give up",
        calls: &[calls![
            SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getresuid SYS_getresgid SYS_setuid
            SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups SYS_setfsuid
            SYS_setfsgid SYS_capget SYS_capset
        ]],
    },
    Group {
        reason: "time, read only, and sleeping",
        calls: &[
            calls![
                SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday
            ],
            legacy![SYS_time],
        ],
    },
    Group {
        reason: "what machine this is, and randomness",
        calls: &[calls![SYS_uname SYS_sysinfo SYS_getrandom], legacy![SYS_sysfs]],
    },
    Group {
        reason: "a process that restricts itself further",
        calls: &[calls![
            SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
        ]],
    },
];
