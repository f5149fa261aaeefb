"""Records of brokers: how long it takes from a publish until the function's code has the record."""

import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from harness import load
from harness.platform import Platform, free_port

FUNCTION = "lateness"
SAMPLES = 500
# One at a time, and none waits for another: what is measured is the way, not a queue.
PAUSE_SECONDS = 0.005
READY_SECONDS_MAX = 20
MANIFEST = """
name = "lateness"
runtime = "python3"
handler = "lateness.handler"
max_instances = 1

[[triggers]]
name = "in"
kind = "{kind}"
{stated}
"""
# A record is its number and the moment at which it was published.
HANDLER = """
import time

def handler(event, context):
    now = time.time_ns()
    for record in event["Records"]:
        number, then = map(int, record["body"].split())
        print("late_ns", number, now - then)
"""


def broker(options):
    """Milliseconds from a publish to the handler, an instance being warm: NATS, a stream of JetStream, MQTT."""
    rows = []
    for what, server, kind, stated in (
            ("nats", Nats, "nats", 'subject = "in"'),
            ("jetstream", Nats, "nats", 'subject = "in"\nstream = "IN"'),
            ("mqtt, qos 0", Mosquitto, "mqtt", 'topic = "in"\nqos = 0'),
            ("mqtt, qos 1", Mosquitto, "mqtt", 'topic = "in"\nqos = 1')):
        if not pathlib.Path(server.PROGRAM).exists():
            rows.append({"broker": what, "p50_ms": "not installed"})
            continue
        with server() as place, Platform(broker_allow='["127.0.0.1"]') as platform:
            deploy(platform, kind, f'url = "{place.url}"\n{stated}')
            late = [lateness(platform, place, first * SAMPLES) for first in range(options.rounds)]
            rows.append({"broker": what, **load.medians(late)})
    return rows


def deploy(platform, kind, stated):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="alula-bench-"))
    (folder / "alula.toml").write_text(MANIFEST.format(kind=kind, stated=stated))
    (folder / "lateness.py").write_text(HANDLER)
    platform.deploy(folder)
    shutil.rmtree(folder)
    until(lambda: "alula_broker_connected{" in platform.metrics()
          and re.search(r"^alula_broker_connected\{.*\} 1$", platform.metrics(), re.MULTILINE))


def lateness(platform, place, first):
    """Publishes so many records and reads what the function said of them."""
    # Number 0 of a round is not counted: the very first one starts the instance.
    numbers = range(first + 1, first + SAMPLES)
    place.publish(b"%d %d" % (first, time.time_ns()))
    until(lambda: first in said(platform))
    for number in numbers:
        place.publish(b"%d %d" % (number, time.time_ns()))
        time.sleep(PAUSE_SECONDS)
    until(lambda: said(platform).keys() >= set(numbers))
    late = said(platform)
    return load.spread([late[number] for number in numbers])


def said(platform):
    """Milliseconds that records were late, by their numbers, as far as the newest lines tell."""
    text = platform.alula("logs", FUNCTION, "--limit", 2 * SAMPLES)
    return {int(number): int(late) / 1e6 for number, late in re.findall(r"late_ns (\d+) (\d+)", text)}


def until(reached):
    began = time.perf_counter()
    while not reached():
        if time.perf_counter() - began > READY_SECONDS_MAX:
            raise SystemExit("records of the broker did not come through")
        time.sleep(0.05)


class Server:
    """A broker with a folder and a port of its own. Use it as a context."""

    def __enter__(self):
        self.folder, self.port = pathlib.Path(tempfile.mkdtemp(prefix="alula-bench-")), free_port()
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)
        self.open()
        return self

    def __exit__(self, *failure):
        self.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Nats(Server):
    PROGRAM = "/usr/sbin/nats-server"

    def command(self):
        return [self.PROGRAM, "--addr", "127.0.0.1", "--port", str(self.port), "--jetstream",
                "--store_dir", str(self.folder)]

    def open(self):
        self.url = f"nats://127.0.0.1:{self.port}"
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(b'CONNECT {"verbose":false}\r\n')
        stream = b'{"name":"IN","subjects":["in"],"storage":"memory","retention":"limits","max_consumers":-1}'
        self.send(b"PUB $JS.API.STREAM.CREATE.IN %d\r\n%s\r\n" % (len(stream), stream))

    def publish(self, record):
        self.send(b"PUB in %d\r\n%s\r\n" % (len(record), record))

    def send(self, words):
        self.socket.sendall(words)

    def close(self):
        self.socket.close()


class Mosquitto(Server):
    PROGRAM = "/usr/sbin/mosquitto"

    def command(self):
        config = self.folder / "config"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\nallow_anonymous true\nset_tcp_nodelay true\n")
        return [self.PROGRAM, "-c", str(config)]

    def open(self):
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # CONNECT of MQTT 5 with a clean start, no keep-alive and the client id "bench".
        self.socket.sendall(b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x05bench")
        self.socket.recv(64)
        self.packet = 0

    def publish(self, record):
        self.packet = self.packet % 65_535 + 1
        # PUBLISH with QoS 1 and no properties.
        content = b"\x00\x02in" + self.packet.to_bytes(2) + b"\x00" + record
        self.socket.sendall(b"\x32" + bytes([len(content)]) + content)

    def close(self):
        self.socket.close()
