"""Looks for other processes and for descriptors that were left open; answers with what succeeded."""

import ctypes
import os
import signal
import subprocess

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PIDFD_OPEN, PIDFD_GETFD, PROCESS_VM_READV = 434, 438, 310


def processes():
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def is_ours(pid):
    """The first process of the sandbox holds it together; the only other one is this."""
    return pid in (1, os.getpid())


def touch(pid):
    """What can be done to a process that is not ours."""
    done = []
    for request in (PTRACE_ATTACH, PTRACE_SEIZE):
        if libc.ptrace(request, pid, None, None) == 0:
            done.append(f"ptrace {pid}")
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    if pidfd >= 0 and libc.syscall(PIDFD_GETFD, pidfd, 0, 0) >= 0:
        done.append(f"descriptor of {pid}")
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    if libc.syscall(PROCESS_VM_READV, pid, vector, 1, vector, 1, 0) > 0:
        done.append(f"memory of {pid}")
    for name in ("environ", "mem", "maps", "stack", "fd/0", "cwd/etc/shadow"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                if file.read(16):
                    done.append(f"{name} of {pid}")
        except OSError:
            pass
    return done


def signalled(pid):
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        return []
    return [f"signal to {pid}"]


def grown_or_shrunk(descriptor):
    """The memory that this instance shares with the platform is its own to write, but not to resize."""
    done = []
    for size in (0, 1 << 30):
        try:
            os.ftruncate(descriptor, size)
            done.append(f"descriptor {descriptor} has {size} bytes now")
        except OSError:
            pass
    return done


def descriptors():
    """Everything that is open, without the standard streams, the platform's socket and this listing."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("/memfd:alula-bodies"):
            found += grown_or_shrunk(int(name))
            continue
        is_own = target.startswith(("/dev/null", "pipe:", "/code/", "/alula/", "/usr/", f"/proc/{os.getpid()}/fd"))
        if not is_own and not target.startswith(("socket:", "anon_inode:[event", "/dev/urandom")):
            found.append(f"descriptor {name} is {target}")
    sockets = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    sockets = [name for name in sockets if os.readlink(f"/proc/self/fd/{name}").startswith("socket:")]
    return found + ([f"{len(sockets)} sockets are open"] if len(sockets) > 1 else [])


def handler(event, context):
    platform = int(event["body"])
    succeeded = [f"process {pid} is visible" for pid in processes() if not is_ours(pid)]
    succeeded += descriptors() + touch(1)
    for pid in {platform, os.getppid() or 1, 2} - {os.getpid(), 1}:
        succeeded += touch(pid) + signalled(pid)
    child = subprocess.Popen(["sleep", "60"])
    works = child.pid in processes() and libc.syscall(PIDFD_OPEN, 1 << 22, 0) < 0
    child.kill()
    child.wait()
    return {"succeeded": succeeded, "control": "a child was seen and ended" if works else "broken"}
