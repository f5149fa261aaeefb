"""Calls that find no instance, or one that sleeps."""

import contextlib
import tempfile
import time

from harness import cgroups, load, sources
from harness.groups.warm_calls import ANSWERS
from harness.peers import FUNCTIONS, HELLO
from harness.platform import Platform

COLD_CALLS = 60
PAIRS = 30
WARM_UP = 2
# Another sandbox is ready after that, and the instances of the pair before are gone.
REFILL_SECONDS = 0.4
GONE_AFTER_MS = 200
FREEZE_AFTER_MS = 200
THAWS = 40
IMPORT_VERSIONS = 3
IMPORT_STARTS = 5
HOLD_SECONDS = 60
SLOT_FREE_SECONDS = 0.1
# A version's zygote is made when its second instance is there, and runs the imports once more.
STATE_SECONDS_MAX = 15


def cold(options):
    """The first call of a function that has no instance, on an open connection: a new version for each sample."""
    rows = []
    for runtime in options.among("exec", "python", "node", "script", "wasm", "http", "provided"):
        with Platform() as platform:
            rows.append({"runtime": runtime, **first_calls(platform, runtime)})
    return rows


def empty(options):
    """The first call of a Python function while another has just taken the only prepared sandbox."""
    samples = []
    with Platform(stems_per_runtime=1, stems_per_runtime_max=1) as platform:
        sources.deploy_all(platform, sources.counters, 2 * PAIRS, idle_timeout_ms=GONE_AFTER_MS)
        for first in range(0, 2 * PAIRS, 2):
            pair = [platform.call(f"c{number:03}", f"{number} 0".encode()) for number in (first, first + 1)]
            took_ms, failures, _ = load.crowd(pair)
            if failures:
                raise failures[0]
            samples.append(max(took_ms))
            time.sleep(REFILL_SECONDS)
    return [{"runtime": "python", **load.spread(samples[WARM_UP:])}]


def first_calls(platform, runtime):
    if not platform.can_run(runtime):
        return {"note": f"no runtime {runtime} in this build or on this machine"}
    expected = ANSWERS.get(runtime, HELLO)
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(COLD_CALLS):
            platform.deploy(sources.variant(folder, f"{runtime}-hello", change=number))
            samples.append(load.once(platform.call(f"{runtime}-hello", expected))[0])
    return load.spread(samples[WARM_UP:])


def imports(options):
    """A version with a second of imports: the two instances that load its code, and further ones from its zygote, each
    while all that are there are busy."""
    first, further = [], []
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        for version in range(IMPORT_VERSIONS):
            name = f"imports-{version}"
            platform.deploy(sources.variant(folder, "python-imports", name))
            first.append(load.once(platform.call(name, b"first"))[0])
            with busy(platform, name) as hold:
                hold()
                first.append(load.once(platform.call(name, b"first"))[0])
                until_states(platform, name, lambda states: "zygote" in states)
                for _ in range(IMPORT_STARTS):
                    hold()
                    further.append(load.once(platform.call(name, b"first"))[0])
    return [{"instance": "first two", **load.spread(first)}, {"instance": "further", **load.spread(further)}]


@contextlib.contextmanager
def busy(platform, name):
    """Gives what keeps one more instance busy, so that the next call needs a new one. A caller that goes away ends its
    call."""
    held = []

    def hold():
        # An answer comes before its slot is free.
        time.sleep(SLOT_FREE_SECONDS)
        held.append(load.connect(platform.url(name)))
        held[-1].request("GET", f"/function/{name}?hold={HOLD_SECONDS}")
        until_states(platform, name, lambda states: states <= {"busy", "zygote"})
        # Long enough that a call is not expected to find it free again in a moment.
        time.sleep(SLOT_FREE_SECONDS)

    try:
        yield hold
    finally:
        for connection in held:
            connection.close()


def until_states(platform, name, are_reached):
    """Waits until the states of a function's instances are these."""
    until = time.monotonic() + STATE_SECONDS_MAX
    while time.monotonic() < until:
        instances = platform.api("/v1/instances")["instances"]
        states = {one["state"] for one in instances if one["function"] == name}
        if are_reached(states):
            return
        time.sleep(0.005)
    raise SystemExit(f"the instances of {name} are {', '.join(sorted(states)) or 'none'} still")


def frozen(options):
    """A call of an instance that was frozen because nobody called it, on an open connection."""
    with Platform(pool_freeze_after_ms=FREEZE_AFTER_MS) as platform:
        platform.deploy(FUNCTIONS / "python-hello")
        call = platform.call("python-hello", HELLO)
        load.once(call)
        connection, samples = load.connect(call.url), []
        for _ in range(THAWS):
            until_frozen(platform)
            samples.append(load.once(call, connection)[0])
        warm = [load.once(call, connection)[0] for _ in range(THAWS)]
    return [{"instance": "frozen", **load.spread(samples)}, {"instance": "running", **load.spread(warm)}]


def until_frozen(platform):
    until = time.monotonic() + 10 * FREEZE_AFTER_MS / 1000
    while time.monotonic() < until:
        time.sleep(FREEZE_AFTER_MS / 1000)
        if any(cgroups.is_frozen(pid) for pids in cgroups.cells(platform.process.pid).values() for pid in pids):
            return
    raise SystemExit("the idle instance was not frozen")
