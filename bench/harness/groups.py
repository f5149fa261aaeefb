"""What is measured: one function per group, each returns rows for the report."""

import http.client
import os
import pathlib
import tempfile
import time
import urllib.request

from harness import load, peers
from harness.platform import Platform, free_port

FUNCTIONS = pathlib.Path(__file__).resolve().parents[1] / "functions"
CONNECTIONS = (1, 16, 64)
GIGABYTE = 1 << 30
COLD_CALLS = 60
PUBLISHES = 20
STARTS = 10
MANY = 10_000
FUNCTIONS_PER_DEPLOY = 100


def warm(seconds):
    """Requests a second, p50 and p99 of the smallest handler, ours and the peers'."""
    rows = []
    for language in ("python", "node", "wasm"):
        with Platform() as platform:
            platform.deploy(FUNCTIONS / f"{language}-hello")
            rows += [dict(row, language=language, who="Alula") for row in points(platform.url(f"{language}-hello"), seconds)]
        port = free_port()
        for name, _, command in [peer for peer in peers.installed(port) if peer[1] == language]:
            with peers.running(command, port) as url:
                rows += [dict(row, language=language, who=name) for row in points(url, seconds)]
    return rows


def points(url, seconds):
    load.wrk(url, 16, 2)
    return [dict(load.wrk(url, connections, seconds), connections=connections) for connections in CONNECTIONS]


def share(seconds):
    """Server-Timing tells the time inside the function's slot; the rest of a call at one connection is ours."""
    rows = []
    with Platform() as platform:
        for function in ("python-hello", "node-hello"):
            platform.deploy(FUNCTIONS / function)
            connection = http.client.HTTPConnection("127.0.0.1", platform.port)
            calls, slots = [], []
            until = time.perf_counter() + seconds
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


def cold(_seconds):
    """The first call of a function that has no instance: a new version for each sample."""
    rows = []
    for function in ("exec-hello", "python-hello", "node-hello", "http-hello", "provided-hello", "wasm-hello"):
        with Platform() as platform, tempfile.TemporaryDirectory() as folder:
            samples, phases = [], []
            for number in range(COLD_CALLS):
                copy_with_change(FUNCTIONS / function, pathlib.Path(folder) / function, number)
                platform.deploy(pathlib.Path(folder) / function)
                took_ms, _ = load.once(platform.url(function))
                samples.append(took_ms)
            rows.append(dict(load.spread(samples[2:]), function=function))
    return rows


def copy_with_change(source, target, number):
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        copy = target / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(file.stat().st_mode)
    (target / "change.txt").write_text(str(number))


def start(_seconds):
    """From the start of the process to the first answer of /readyz."""
    samples = []
    for _ in range(STARTS):
        with Platform() as platform:
            samples.append(platform.ready_seconds * 1000)
    return [load.spread(samples)]


def memory(_seconds):
    """Resident memory of the idle server, and proportional memory that one more idle instance adds."""
    rows = []
    with Platform() as platform:
        time.sleep(2)
        rows.append({"what": "server process, nothing deployed", "mib": platform.resident_kib() / 1024})
        rows.append({"what": "with its spawner (PSS)", "mib": tree_pss_kib(platform.process.pid) / 1024})
        for function in ("python-hello", "node-hello"):
            before = tree_pss_kib(platform.process.pid)
            platform.deploy(FUNCTIONS / function)
            load.once(platform.url(function))
            time.sleep(1)
            rows.append({"what": f"one idle instance, {function} (PSS)",
                         "mib": (tree_pss_kib(platform.process.pid) - before) / 1024})
    return rows


def tree_pss_kib(root):
    """Proportional set size of a process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def publish(_seconds):
    """From the start of `alula deploy` of a changed file to the first answer of the new version."""
    samples = []
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "hello.py"
        for number in range(PUBLISHES + 2):
            source.write_text(f"def handler(event, context):\n    return {number}\n")
            started = time.perf_counter()
            platform.deploy(source)
            _, body = load.once(platform.url("hello"))
            samples.append((time.perf_counter() - started) * 1000)
            if body.strip() != str(number).encode():
                raise SystemExit(f"the old version answered: {body!r}")
    return [load.spread(samples[2:])]


def stream(_seconds):
    """1 GB each way through an `exec` function, with the growth of the server's peak memory."""
    rows = []
    with Platform() as platform:
        for function in ("stream-in", "stream-out"):
            platform.deploy(FUNCTIONS / function)
        load_small(platform)
        for function, way in (("stream-in", "in"), ("stream-out", "out")):
            before = platform.resident_kib(peak=True)
            started = time.perf_counter()
            moved = send_gigabyte(platform, function) if way == "in" else receive(platform, function)
            seconds = time.perf_counter() - started
            rows.append({"way": way, "bytes": moved, "mib_per_s": moved / seconds / (1 << 20),
                         "memory_growth_mib": (platform.resident_kib(peak=True) - before) / 1024})
    return rows


def load_small(platform):
    """One call of each kind first, so that the growth is the stream's and not the first call's."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    connection.request("POST", "/function/stream-in", b"x" * (1 << 20))
    connection.getresponse().read()
    connection.close()


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


def many(seconds):
    """A platform with ten functions and one with ten thousand: start with all of them, resident memory after that,
    the warm rate of one, and the time to publish one more."""
    return [with_functions(count, seconds) for count in (10, MANY)]


def with_functions(count, seconds):
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        platform.deploy(FUNCTIONS / "python-hello")
        began = time.perf_counter()
        for first in range(0, count, FUNCTIONS_PER_DEPLOY):
            source = pathlib.Path(folder) / str(first)
            write_functions(source, range(first, min(first + FUNCTIONS_PER_DEPLOY, count)))
            platform.deploy(source)
        deploy_seconds = time.perf_counter() - began
        ready_ms = []
        for _ in range(STARTS):
            platform.stop()
            platform.start()
            ready_ms.append(platform.ready_seconds * 1000)
        time.sleep(2)
        resident_mib = platform.resident_kib() / 1024
        url = platform.url("python-hello")
        load.wrk(url, 16, 2)
        warm_rps = load.wrk(url, 16, seconds)["rps"]
        publish = []
        for number in range(PUBLISHES):
            copy_with_change(FUNCTIONS / "exec-hello", pathlib.Path(folder) / "one-more", number)
            began = time.perf_counter()
            platform.deploy(pathlib.Path(folder) / "one-more")
            publish.append((time.perf_counter() - began) * 1000)
        return {"functions": count, "deploy_s": deploy_seconds, "ready_p50_ms": load.spread(ready_ms)["p50_ms"],
                "resident_mib": resident_mib, "warm_rps_16": warm_rps,
                "publish_p50_ms": load.spread(publish)["p50_ms"]}


def write_functions(folder, numbers):
    """A folder of small programs, no two of them alike."""
    manifest = ["[defaults]", 'runtime = "exec"', 'command = ["./run.sh"]']
    for number in numbers:
        source = folder / f"f{number:05}"
        source.mkdir(parents=True)
        (source / "run.sh").write_text(f"#!/bin/sh\necho {number}\n")
        (source / "run.sh").chmod(0o755)
        manifest += [f"[functions.f{number:05}]", f'source = "f{number:05}"', f'routes = ["GET /f{number:05}/{{id}}"]']
    (folder / "alula.toml").write_text("\n".join(manifest) + "\n")


GROUPS = {"start": start, "memory": memory, "warm": warm, "share": share, "cold": cold, "publish": publish,
          "stream": stream, "many": many}
