"""Load: wrk for many requests, connections of our own for single ones and for crowds."""

import concurrent.futures
import dataclasses
import http.client
import pathlib
import re
import statistics
import subprocess
import time
import urllib.parse

UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
UNITS_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
POST = pathlib.Path(__file__).with_name("post.lua")
POST_KEYS = pathlib.Path(__file__).with_name("post_keys.lua")
TIMEOUT_SECONDS = 60
# Threads of ours that call at the same time.
CALLERS_MAX = 256


class WrongAnswer(Exception):
    """What came back is not what the function answers."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A request, a POST where it has a body, and its right answer: the body, None where the caller looks at it, and the
    status."""

    url: str
    expected: bytes | None
    body: bytes = b""
    status: int = 200


def once(call, connection=None):
    """Milliseconds from sending one request on an open connection to the end of its answer, and the answer's body.
    Without a connection, on a new one."""
    parts = urllib.parse.urlsplit(call.url)
    own = connection or connect(call.url)
    started = time.perf_counter()
    path = parts.path + ("?" + parts.query if parts.query else "")
    if call.body:
        own.request("POST", path, call.body, {"Content-Type": "text/plain"})
    else:
        own.request("GET", path)
    response = own.getresponse()
    answer = response.read()
    took_ms = (time.perf_counter() - started) * 1000
    if connection is None:
        own.close()
    if response.status != call.status or call.expected not in (None, answer):
        raise WrongAnswer(f"{call.url} answered {response.status}: {answer[:500]!r}")
    return took_ms, answer


def connect(url):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    connection.connect()
    return connection


def wrk(call, connections, seconds, script=POST):
    """Requests a second, the 50th and 99th percentile in ms, and how many failed. wrk looks at the status of each answer;
    its body is looked at before and after, and the bytes that came tell that no answer was short of it."""
    once(call)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    post = ["-s", script, call.url, "--", str(len(call.body))] if call.body else [call.url]
    text = subprocess.run([*command, *post], capture_output=True, text=True, check=True).stdout
    once(call)
    requests, amount, unit = re.search(r"(\d+) requests in \S+, ([\d.]+)([KMG]?B) read", text).groups()
    if call.expected is not None and float(amount) * UNITS_BYTES[unit] < 0.99 * int(requests) * len(call.expected):
        raise WrongAnswer(f"{call.url}: {requests} answers in {amount} {unit} are too short")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text) or re.search(r"Socket errors: (.*)", text)
    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "p50_ms": percentile(text, "50%"),
        "p99_ms": percentile(text, "99%"),
        "failed": failed[1] if failed else "0",
    }


def percentile(text, name):
    value, unit = re.search(rf"{re.escape(name)}\s+([\d.]+)(us|ms|s)", text).groups()
    return float(value) * UNITS_MS[unit]


def crowd(calls, per_second=None):
    """Makes each call on a connection of its own, all at once or so many a second whatever becomes of the earlier ones.
    Returns the ms that the answered ones took, why others failed, and the seconds that all took together."""
    began = time.perf_counter()

    def make(index):
        if per_second:
            time.sleep(max(0.0, began + index / per_second - time.perf_counter()))
        return once(calls[index])[0]

    with concurrent.futures.ThreadPoolExecutor(min(len(calls), CALLERS_MAX)) as callers:
        running = [callers.submit(make, index) for index in range(len(calls))]
    seconds = time.perf_counter() - began
    failures = [one.exception() for one in running if one.exception()]
    return [one.result() for one in running if not one.exception()], failures, seconds


def interleaved(contenders, rounds, measure):
    """Measures every contender once in each round, so that a slow minute of the machine meets all of them. Returns the
    median of each figure by contender."""
    taken = {who: [] for who in contenders}
    for _ in range(rounds):
        for who, call in contenders.items():
            taken[who].append(measure(call))
    return {who: medians(rows) for who, rows in taken.items()}


def medians(rows):
    """The median of each figure; of anything else, the first that is not \"0\"."""
    def middle(values):
        if isinstance(values[0], float):
            return statistics.median(values)
        return next((value for value in values if value != "0"), values[0])

    return {key: middle([row[key] for row in rows]) for key in rows[0]}


def spread(samples_ms):
    """Median, 99th percentile and count of samples in ms."""
    ordered = sorted(samples_ms)
    if not ordered:
        raise WrongAnswer("there is nothing to take a median of")
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "n": len(ordered),
    }
