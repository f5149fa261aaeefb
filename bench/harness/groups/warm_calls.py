"""Warm calls: the smallest handler and larger ones in instances that are there, beside the peers."""

import contextlib
import http.client
import tempfile
import time

from harness import load, peers, sources
from harness.peers import FUNCTIONS, HELLO
from harness.platform import Platform

CONNECTIONS = (1, 16, 64)
ECHO_BYTES = 100 * 1024
ECHO_CONNECTIONS = 16
CALLS_PER_GUEST = 1_000
ANSWERS = {"python": HELLO, "node": HELLO, "exec": HELLO, "script": b"hello", "wasm": peers.WASM_GREETING}


def warm(options):
    """Requests a second, p50 and p99 of the smallest handler in one instance, ours and the peers'."""
    rows = []
    for runtime in options.among("python", "node", "script", "wasm"):
        with ours(runtime, "hello") as own, peers.contenders(runtime, "hello") as (others, missing):
            rows += side_by_side(runtime, own | others, CONNECTIONS, options) + missing
    return rows


def exec_(options):
    """A program for each call, in the whole sandbox: p50 at one connection, requests a second at four."""
    with ours("exec", "hello") as own, peers.contenders("exec", "hello") as (others, missing):
        return side_by_side("exec", own | others, (1, 4), options) + missing


def echo(options):
    """100 KB in and the same 100 KB out again, 16 connections."""
    rows, body = [], b"x" * ECHO_BYTES
    for runtime in options.among("python", "node", "script", "wasm"):
        with ours(runtime, "echo", body) as own, peers.contenders(runtime, "echo", body) as (others, missing):
            rows += side_by_side(runtime, own | others, (ECHO_CONNECTIONS,), options) + missing
    return rows


@contextlib.contextmanager
def ours(runtime, handler, body=b""):
    """Calls of our own function, by what it is to be called in the report; of `wasm` the smallest handler twice."""
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        if not platform.can_run(runtime):
            yield {"Alula": None}
            return
        expected = body or ANSWERS[runtime]
        platform.deploy(FUNCTIONS / f"{runtime}-{handler}")
        calls = {"Alula": platform.call(f"{runtime}-{handler}", expected, body)}
        if (runtime, handler) == ("wasm", "hello"):
            platform.deploy(sources.variant(folder, "wasm-hello", "wasm-reused", calls_per_guest=CALLS_PER_GUEST))
            calls = {"Alula, a guest for each call": calls["Alula"],
                     "Alula, guests reused": platform.call("wasm-reused", expected)}
        yield calls


def side_by_side(runtime, contenders, connections, options):
    """A row for each contender and number of connections."""
    absent = [{"runtime": runtime, "who": who, "note": f"no runtime {runtime} in this build or on this machine"}
              for who, call in contenders.items() if call is None]
    present = {who: call for who, call in contenders.items() if call}
    for call in present.values():
        load.wrk(call, ECHO_CONNECTIONS, 1)
    rows = []
    for count in connections:
        figures = load.interleaved(present, options.rounds, lambda call: load.wrk(call, count, options.seconds))
        rows += [{"runtime": runtime, "who": who, "connections": count, **row} for who, row in figures.items()]
    return sorted(rows, key=lambda row: list(present).index(row["who"])) + absent


def share(options):
    """Server-Timing tells the time inside the function's slot; the rest of a call at one connection is ours."""
    rows = []
    with Platform() as platform:
        for function in ("python-hello", "node-hello"):
            platform.deploy(FUNCTIONS / function)
            connection = http.client.HTTPConnection("127.0.0.1", platform.port)
            calls, slots = [], []
            until = time.perf_counter() + options.seconds
            while time.perf_counter() < until:
                started = time.perf_counter()
                connection.request("GET", f"/function/{function}")
                response = connection.getresponse()
                response.read()
                calls.append((time.perf_counter() - started) * 1000)
                slots.append(server_timing(response.headers["Server-Timing"]).get("run", 0.0))
            call, slot = load.spread(calls[100:]), load.spread(slots[100:])
            rows.append({"function": function, "call_p50_ms": call["p50_ms"], "in_slot_p50_ms": slot["p50_ms"],
                         "n": call["n"]})
    return rows


def server_timing(header):
    parts = [part.strip().split(";dur=") for part in (header or "").split(",") if ";dur=" in part]
    return {name: float(value) for name, value in parts}


def cores(options):
    """Python that computes, four callers: one instance, and two."""
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        calls = {}
        for count in (1, 2):
            platform.deploy(sources.variant(folder, "python-compute", f"compute-{count}", max_instances=count))
            calls[f"{count} instance{'s' * (count > 1)}"] = platform.call(f"compute-{count}", COMPUTED)
        rows = side_by_side("python", calls, (4,), options)
        return rows + [{"runtime": "python", "who": "two over one", "rps": rows[1]["rps"] / rows[0]["rps"]}]


COMPUTED = str(sum(number * number for number in range(20_000))).encode()
