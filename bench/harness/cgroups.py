"""What the kernel tells of the processes of a platform: their tree, their memory, their control groups."""

import contextlib
import os
import pathlib

GROUPS = pathlib.Path("/sys/fs/cgroup")


def tree(root):
    """A process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
                children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def pss_kib(pids):
    """Proportional set size of processes: pages that several have are shared out among them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def group_of(pid, controller):
    """The folder of a process's control group, under version 1 or 2."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return GROUPS / controller / path.lstrip("/")
        if not controllers:
            unified = GROUPS / path.lstrip("/")
    return unified


def cells(root):
    """The processes of each cell below a platform, by the folder of their memory group."""
    own = {group_of(root, "memory")}
    found = {}
    for pid in tree(root):
        with contextlib.suppress(OSError):
            found.setdefault(group_of(pid, "memory"), []).append(pid)
    # The spawner and the zygotes are no cells: a cell has a group of its own, which its holder joined.
    return {group: pids for group, pids in found.items() if group not in own}


def charged_kib(group):
    """Memory that a group would give back: its processes' own pages, files that they were the first to read, and what the
    kernel holds for it. Pages that a process shares with the zygote it was forked from are the zygote's."""
    for name in ("memory.usage_in_bytes", "memory.current"):
        with contextlib.suppress(OSError):
            return int((group / name).read_text()) // 1024
    return 0


def is_frozen(pid):
    group = group_of(pid, "freezer")
    with contextlib.suppress(OSError):
        return (group / "freezer.state").read_text().strip() == "FROZEN"
    return "frozen 1" in (group / "cgroup.events").read_text()
