"""A platform with ten functions beside one with ten thousand."""

import contextlib
import pathlib
import statistics
import tempfile
import time

from harness import load, sources
from harness.peers import FUNCTIONS, HELLO
from harness.platform import Platform

FEW, MANY = 10, 10_000
CALLED = 1_000
STARTS = 5
PUBLISHES = 20
WARM_CONNECTIONS = 16
SETTLE_SECONDS = 2


def many(options):
    """Ten deployed functions and ten thousand: start, memory, a thousand of them called in turn, memory after that, the
    warm rate of one function in both platforms by turns, publishing one more."""
    with contextlib.ExitStack() as stack:
        platforms = {count: stack.enter_context(Platform()) for count in (FEW, MANY)}
        rows = {count: prepared(platform, count) for count, platform in platforms.items()}
        calls = {count: platform.call("python-hello", HELLO) for count, platform in platforms.items()}
        for call in calls.values():
            load.wrk(call, WARM_CONNECTIONS, 2)
        rounds = [{count: load.wrk(call, WARM_CONNECTIONS, options.seconds) for count, call in by_turns(calls, number)}
                  for number in range(2 * options.rounds)]
        for count, platform in platforms.items():
            rows[count] |= {f"warm_{key}": value for key, value in load.medians([one[count] for one in rounds]).items()}
            rows[count] |= {"publish_p50_ms": publishes(platform)}
        ratio = statistics.median(one[MANY]["rps"] / one[FEW]["rps"] for one in rounds)
    return [*rows.values(), {"functions": "median of the ratios", "warm_rps": ratio}]


def by_turns(calls, number):
    """Who is first changes from round to round."""
    return list(calls.items())[::1 if number % 2 else -1]


def prepared(platform, count):
    """Deploys, starts, calls."""
    platform.deploy(FUNCTIONS / "python-hello")
    began = time.perf_counter()
    sources.deploy_all(platform, sources.programs, count)
    row = {"functions": count, "deploy_s": time.perf_counter() - began}
    ready_ms = []
    for _ in range(STARTS):
        platform.stop()
        platform.start()
        ready_ms.append(platform.ready_seconds * 1000)
    time.sleep(SETTLE_SECONDS)
    row |= {"ready_p50_ms": load.spread(ready_ms)["p50_ms"], "resident_mib": platform.resident_kib() / 1024}
    took_ms = [load.once(platform.call(f"f{number:05}", f"{number}\n".encode()))[0]
               for number in range(0, count, max(1, count // CALLED))]
    time.sleep(SETTLE_SECONDS)
    return row | {"called": len(took_ms), "call_p50_ms": load.spread(took_ms)["p50_ms"],
                  "resident_after_calls_mib": platform.resident_kib() / 1024}


def publishes(platform):
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PUBLISHES):
            source = sources.variant(folder, "exec-hello", "one-more", change=number)
            began = time.perf_counter()
            platform.deploy(source)
            samples.append((time.perf_counter() - began) * 1000)
    return load.spread(samples)["p50_ms"]


def publish(options):
    """From the start of `alula deploy` of a changed file to the first answer of the new version."""
    samples = []
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "hello.py"
        for number in range(PUBLISHES + 2):
            source.write_text(f"def handler(event, context):\n    return {number}\n")
            began = time.perf_counter()
            platform.deploy(source)
            load.once(platform.call("hello", str(number).encode()))
            samples.append((time.perf_counter() - began) * 1000)
    return [load.spread(samples[2:])]
