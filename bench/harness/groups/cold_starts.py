"""Calls that find no instance, or one that sleeps."""

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
# A version's zygote is made when its first instance is there, and runs the imports once more.
ZYGOTE_SECONDS = 3


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
    expected = {"http": HELLO, "provided": b'"Hello, World!"'}.get(runtime) or ANSWERS[runtime]
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(COLD_CALLS):
            platform.deploy(sources.variant(folder, f"{runtime}-hello", change=number))
            samples.append(load.once(platform.call(f"{runtime}-hello", expected))[0])
    return load.spread(samples[WARM_UP:])


def imports(options):
    """A version with a second of imports: its first instance, and further ones while the earlier ones are busy."""
    first, further = [], []
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        for version in range(IMPORT_VERSIONS):
            name = f"imports-{version}"
            platform.deploy(sources.variant(folder, "python-imports", name))
            first.append(load.once(platform.call(name, b"first"))[0])
            time.sleep(ZYGOTE_SECONDS)
            further += while_busy(platform, name)
    return [{"instance": "first", **load.spread(first)}, {"instance": "further", **load.spread(further)}]


def while_busy(platform, name):
    """Keeps every instance busy, then calls: the call needs a new instance. A caller that goes away ends its call."""
    samples, held = [], []
    for _ in range(IMPORT_STARTS):
        # An answer comes before its slot is free.
        time.sleep(SLOT_FREE_SECONDS)
        held.append(load.connect(platform.url(name)))
        held[-1].request("GET", f"/function/{name}?hold={HOLD_SECONDS}")
        until_busy(platform, name)
        samples.append(load.once(platform.call(name, b"first"))[0])
    for connection in held:
        connection.close()
    return samples


def until_busy(platform, name):
    while True:
        states = [one["state"] for one in platform.api("/v1/instances")["instances"] if one["function"] == name]
        if set(states) == {"busy"}:
            return
        time.sleep(0.005)


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
