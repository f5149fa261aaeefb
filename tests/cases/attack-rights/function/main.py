"""Calls what only an administrator may; answers with what succeeded."""

import ctypes
import os
import shutil
import stat
import subprocess

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

libc = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACES = {
    "mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000,
    "pid": 0x20000000, "network": 0x40000000,
}
# Numbers of x86-64. Each is called with arguments that succeed for an administrator, or would load what is given.
CALLS = {
    "keyctl": (250, 0, -3, 1), "add_key": (248, b"user", b"name", b"value", 5, -3), "request_key": (249, b"user", b"name", 0, 0),
    "init_module": (175, b"\x7fELF", 4, b""), "finit_module": (313, 0, b"", 0), "delete_module": (176, b"loop", 0),
    "bpf": (321, 0, None, 0), "perf_event_open": (298, None, 0, -1, -1, 0), "io_uring_setup": (425, 4, None),
    "userfaultfd": (323, 0), "open_by_handle_at": (304, -100, None, 0), "kexec_load": (246, 0, 0, None, 0),
    "iopl": (172, 3), "ioperm": (173, 0x80, 1, 1), "syslog": (103, 10, None, 0), "acct": (163, None), "swapon": (167, b"/tmp/x", 0),
    "settimeofday": (164, None, None), "quotactl": (179, 0, None, 0, None), "fsopen": (430, b"tmpfs", 0),
    "open_tree": (428, -100, b"/", 1), "move_mount": (429, -100, b"/", -100, b"/tmp", 0), "mount_setattr": (442, -100, b"/", 0, None, 0),
    "pivot_root": (155, b"/tmp", b"/tmp"), "setns": (308, 0, 0), "ptrace": (101, 16, 1, 0, 0), "personality": (135, 0x0040000),
    "memfd_secret": (447, 0), "fanotify_init": (300, 0, 0), "landlock_restrict_self": (446, -1, 1),
}

def call(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments)


def attempt(what, *arguments):
    try:
        what(*arguments)
        return True
    except (OSError, PermissionError):
        return False


def mounts():
    os.makedirs("/tmp/m", exist_ok=True)
    tried = [("proc", b"proc", 0), ("tmpfs", b"tmpfs", 0), ("bind", None, 4096), ("remount", None, 32), ("cgroup2", b"cgroup2", 0)]
    for name, kind, flags in tried:
        target = b"/" if name == "remount" else b"/tmp/m"
        if libc.mount(b"/", target, kind, flags, None) == 0:
            yield f"mount {name}"
    for place in (b"/proc", b"/tmp", b"/code", b"/"):
        if libc.umount2(place, 2) == 0:
            yield f"umount {place}"


def users():
    for name, what in [("setuid", os.setuid), ("setgid", os.setgid)]:
        if os.getuid() != 0 and attempt(what, 0):
            yield name
    if attempt(os.setgroups, [0]):
        yield "setgroups"
    if attempt(os.chroot, "/tmp"):
        yield "chroot"
    if attempt(os.mknod, "/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)):
        yield "mknod"
    if libc.sethostname(b"mine", 4) == 0:
        yield "sethostname"


def programs():
    """A program that is marked to run as another user."""
    os.path.exists("/tmp/own") or shutil.copy("/usr/bin/id", "/tmp/own")
    attempt(os.chmod, "/tmp/own", 0o4755)
    ran = subprocess.run(["/tmp/own", "-u"], capture_output=True, text=True)
    if ran.stdout.strip() not in ("", str(os.getuid())):
        yield "a program of another user"


def handler(event, context):
    succeeded = [f"unshare {name}" for name, flag in NEW_NAMESPACES.items() if libc.unshare(flag) == 0]
    succeeded += [f"unshare user and {name}" for name, flag in NEW_NAMESPACES.items() if libc.unshare(flag | 0x10000000) == 0]
    succeeded += [*mounts(), *users(), *programs()]
    for name, (number, *arguments) in CALLS.items():
        if call(number, *arguments) >= 0:
            succeeded.append(name)
    with open("/proc/self/status") as file:
        rights = [line.split() for line in file if line.startswith("Cap")]
    succeeded += [f"{name} {value}" for name, value in rights if int(value, 16)]
    works = call(39) == os.getpid()
    return {"succeeded": succeeded, "control": "an allowed call works" if works else "broken"}
