"""Load: wrk for many requests, a raw socket for single ones."""

import http.client
import re
import statistics
import subprocess
import time
import urllib.parse

UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def wrk(url, connections, seconds):
    """Requests a second and the 50th and 99th percentile in ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
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


def once(url):
    """Milliseconds from sending one request on a new connection to the end of its answer."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.connect()
    started = time.perf_counter()
    connection.request("GET", parts.path)
    response = connection.getresponse()
    body = response.read()
    took_ms = (time.perf_counter() - started) * 1000
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{url} answered {response.status}: {body[:500]!r}")
    return took_ms, body


def spread(samples_ms):
    """Median, 99th percentile and count of samples in ms."""
    ordered = sorted(samples_ms)
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "n": len(ordered),
    }
