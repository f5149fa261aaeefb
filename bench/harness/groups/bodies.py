"""Large bodies: streamed ones, and an event that is larger than a socket holds."""

import http.client
import time
import urllib.request

from harness import load
from harness.peers import FUNCTIONS
from harness.platform import Platform

GIGABYTE = 1 << 30
EVENT_BYTES = 5 << 20
# More than any body has: all of them through the socket.
NEVER = 1 << 40


def stream(options):
    """1 GB each way through an `exec` function, with the growth of the server's peak memory."""
    rows = []
    with Platform() as platform:
        for function in ("stream-in", "stream-out"):
            platform.deploy(FUNCTIONS / function)
        # One call first, so that the growth is the stream's and not the first call's.
        load.once(load.Call(platform.url("stream-in"), b"1048576\n", b"x" * (1 << 20)))
        for function, way in (("stream-in", "in"), ("stream-out", "out")):
            before = platform.resident_kib(peak=True)
            started = time.perf_counter()
            moved = send_gigabyte(platform, function) if way == "in" else receive(platform, function)
            seconds = time.perf_counter() - started
            rows.append({"way": way, "bytes": moved, "mib_per_s": moved / seconds / (1 << 20),
                         "memory_growth_mib": (platform.resident_kib(peak=True) - before) / 1024})
    return rows


def send_gigabyte(platform, function):
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=120)
    block = b"x" * (1 << 20)
    connection.request("POST", f"/function/{function}", (block for _ in range(GIGABYTE // len(block))),
                       {"Content-Length": str(GIGABYTE)})
    answer = connection.getresponse().read()
    if answer.strip() != str(GIGABYTE).encode():
        raise SystemExit(f"the function counted {answer!r} bytes")
    return GIGABYTE


def receive(platform, function):
    moved = 0
    with urllib.request.urlopen(platform.url(function), timeout=120) as response:
        while block := response.read(1 << 20):
            moved += len(block)
    if moved != GIGABYTE:
        raise SystemExit(f"{moved} bytes came back")
    return moved


def large(options):
    """An event of 5 MB into a Python handler, by shared memory and through the socket; one and four callers."""
    return through("shared memory", options) + through("socket", options, sandbox_socket_body_bytes_max=NEVER)


def through(path, options, **settings):
    body = b"x" * EVENT_BYTES
    with Platform(**settings) as platform:
        platform.deploy(FUNCTIONS / "python-length")
        call = platform.call("python-length", f"{EVENT_BYTES} x".encode(), body)
        load.wrk(call, 1, 1)
        return [{"path": path, "connections": count,
                 **load.medians([load.wrk(call, count, options.seconds) for _ in range(options.rounds)])}
                for count in (1, 4)]
