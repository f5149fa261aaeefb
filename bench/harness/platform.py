"""The platform under test: a release binary with a data directory and ports of its own."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from harness.load import Call

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Taken out of the environment: to `alula up` it would be a setting.
BINARY = pathlib.Path(os.environ.pop("ALULA_BINARY", ROOT / "target/release/alula"))
READY_SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Platform:
    """A running `alula up`. Use it as a context. Settings are named like their environment variables, without the prefix
    and in lower case: `Platform(stems_per_runtime=0)`."""

    def __init__(self, **settings):
        self.environment = os.environ | {f"ALULA_{name.upper()}": str(value) for name, value in settings.items()}

    def __enter__(self):
        self.data_dir = pathlib.Path(tempfile.mkdtemp(prefix="alula-bench-"))
        self.port, self.control_port = free_port(), free_port()
        self.log = open(self.data_dir / "platform.log", "wb")
        self.start()
        self.token = (self.data_dir / "data/admin.token").read_text().strip()
        return self

    def start(self):
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [BINARY, "up", "--data-dir", self.data_dir / "data", "--listen", f"127.0.0.1:{self.port}",
             "--control-listen", f"127.0.0.1:{self.control_port}"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.until_ready(started)
        self.ready_seconds = time.perf_counter() - started

    def until_ready(self, started):
        while time.perf_counter() - started < READY_SECONDS_MAX:
            with contextlib.suppress(OSError, urllib.error.URLError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.control_port}/readyz", timeout=1):
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.001)
        raise SystemExit("the platform did not start:\n" + (self.data_dir / "platform.log").read_text())

    def __exit__(self, *failure):
        self.stop()
        self.log.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def alula(self, *arguments):
        environment = dict(os.environ, ALULA_URL=f"http://127.0.0.1:{self.control_port}", ALULA_TOKEN=self.token)
        done = subprocess.run([BINARY, *map(str, arguments)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"alula {' '.join(map(str, arguments))} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def deploy(self, path, *flags):
        return self.alula("deploy", path, *flags)

    def can_run(self, runtime):
        """Whether this build and this machine have a runtime of that name or alias."""
        known = self.api("/v1/runtimes")["runtimes"]
        return any(runtime in (one["name"], *one.get("aliases", [])) and one["available"] for one in known)

    def api(self, path):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.control_port}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def metrics(self):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.control_port}/metrics", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read().decode()

    def url(self, function):
        return f"http://127.0.0.1:{self.port}/function/{function}"

    def call(self, function, expected, body=b""):
        return Call(self.url(function), expected, body)

    def resident_kib(self, peak=False):
        """Resident memory of the server process."""
        return resident_kib(self.process.pid, peak)


def resident_kib(pid, peak=False):
    field = "VmHWM:" if peak else "VmRSS:"
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(field)
