"""Reads files of the host and writes outside /tmp; answers with what succeeded, which must be nothing."""

import os

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

SECRETS = [
    "/etc/shadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/root", "/home", "/var/lib", "/var/log", "/run",
    "/boot", "/mnt", "/srv", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/proc/kcore", "/proc/kmsg",
    "/proc/1/environ", "/proc/1/root/etc/shadow", "/proc/self/root/etc/shadow", "/proc/1/cwd/etc/shadow",
    "/proc/self/cwd/../etc/shadow", "/code/../etc/shadow", "/code/../../../../etc/shadow", "/sys/kernel/debug",
]
PLACES = [
    "/", "/code", "/alula", "/usr", "/usr/bin", "/etc", "/dev", "/proc", "/sys", "/bin", "/lib", "/opt", "/var", "/run",
    "/home", "/root", "/sys/fs/cgroup", "/proc/1/root", "/proc/self/root", "/proc/1/root/code",
]
SWITCHES = [
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory",
    "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/1/oom_score_adj",
    "/code/main.py", "/alula/shim.py", "/usr/bin/python3", "/proc/1/mem", "/proc/self/exe",
]


def read(path):
    """Content that is not empty, of a file or a folder."""
    if os.path.isdir(path):
        return os.listdir(path)
    with open(path, "rb", buffering=0) as file:
        return file.read(64)


def create(path):
    with open(path, "wb") as file:
        file.write(b"mine")
    return True


def overwrite(path):
    with open(path, "r+b", buffering=0) as file:
        return file.write(b"0")


def attempt(what, path):
    try:
        return bool(what(path))
    except OSError:
        return False


def handler(event, context):
    data_dir = event["body"]
    secrets = SECRETS + [data_dir, f"{data_dir}/admin.token", f"/proc/1/root{data_dir}/admin.token"]
    succeeded = [f"read {path}" for path in secrets if attempt(read, path)]
    succeeded += [f"write {place}/x" for place in PLACES + [data_dir] if attempt(create, f"{place}/x")]
    succeeded += [f"change {path}" for path in SWITCHES if attempt(overwrite, path)]
    for link, target in [("/tmp/shadow", "/etc/shadow"), ("/tmp/up", "/proc/1/root/etc/shadow")]:
        os.path.lexists(link) or os.symlink(target, link)
        succeeded += [f"read {target} by a link"] if attempt(read, link) else []
    # The same functions do succeed where it is allowed, so that their failures mean something.
    works = attempt(create, "/tmp/x") and attempt(read, "/tmp/x") and attempt(overwrite, "/tmp/x")
    return {"succeeded": succeeded, "control": "written and read" if works else "broken"}
