"""Peers that serve the same handlers, for the same run. One that is not installed is said to be missing."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import time

from harness.load import Call
from harness.platform import free_port

FUNCTIONS = pathlib.Path(__file__).resolve().parents[1] / "functions"
HERE = FUNCTIONS / "peers"
PEERS = pathlib.Path(os.environ.get("ALULA_PEERS", pathlib.Path.home() / ".cache/alula-peers"))
HELLO = b"Hello, World!\n"
START_SECONDS_MAX = 10


@dataclasses.dataclass(frozen=True)
class Peer:
    """What is to be started, and for which runtime and handler it stands beside ours. `{port}` in the command is filled
    in."""

    name: str
    runtime: str
    handlers: tuple[str, ...]
    command: tuple
    expected: bytes = HELLO

    def is_installed(self):
        files = [part for part in self.command if isinstance(part, pathlib.Path)]
        return shutil.which(self.command[0]) is not None and all(file.exists() for file in files)

    @contextlib.contextmanager
    def running(self, handler, body=b""):
        """Yields the call that it answers."""
        port = free_port()
        command = [str(part).format(port=port) for part in self.command]
        environment = dict(os.environ, NODE_PATH=str(PEERS / "node/node_modules"))
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            until_listening(port)
            yield Call(f"http://127.0.0.1:{port}/{'' if handler == 'hello' else handler}", body or self.expected, body)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait()


def until_listening(port):
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit("a peer did not start")


PYTHON = PEERS / "venv/bin"
MODULES = PEERS / "node/node_modules"
FRAMEWORK = ("--target=hello", "--port={port}")
WASMTIME = (PEERS / "wasmtime/bin/wasmtime", "serve", "--addr=127.0.0.1:{port}", "-Scli", "-Opooling-allocator=y")
REUSED = ("--max-instance-reuse-count", "128")
WASM_HELLO, WASM_ECHO = FUNCTIONS / "wasm-hello/main.wasm", FUNCTIONS / "wasm-echo/main.wasm"
WASM_GREETING = b"Hello from WebAssembly\n"
WATCHDOG = (PEERS / "bin/of-watchdog",)

ALL = (
    Peer("functions-framework (Python)", "python", ("hello", "echo"),
         (PYTHON / "functions-framework", f"--source={HERE / 'hello.py'}", "--host=127.0.0.1", *FRAMEWORK)),
    Peer("flask + waitress", "python", ("hello", "echo"), (PYTHON / "python", HERE / "app.py", "{port}")),
    Peer("functions-framework (Node)", "node", ("hello", "echo"),
         ("node", MODULES / ".bin/functions-framework", f"--source={HERE / 'hello.js'}", *FRAMEWORK)),
    Peer("workerd", "script", ("hello", "echo"),
         (MODULES / "@cloudflare/workerd-linux-64/bin/workerd", "serve", HERE / "worker.capnp",
          "--socket-addr=http=127.0.0.1:{port}")),
    Peer("wasmtime serve", "wasm", ("hello",), (*WASMTIME, WASM_HELLO), WASM_GREETING),
    Peer("wasmtime serve, guests reused", "wasm", ("hello",), (*WASMTIME, *REUSED, WASM_HELLO), WASM_GREETING),
    Peer("wasmtime serve, guests reused", "wasm", ("echo",), (*WASMTIME, *REUSED, WASM_ECHO)),
    Peer("of-watchdog", "exec", ("hello",), ("env", "port={port}", "mode=streaming", "fprocess=/bin/echo Hello, World!",
                                              *WATCHDOG)),
)


@contextlib.contextmanager
def contenders(runtime, handler, body=b""):
    """Starts the installed peers of a runtime. Yields their calls by name, and a row for each that is missing."""
    wanted = [peer for peer in ALL if peer.runtime == runtime and handler in peer.handlers]
    missing = [{"runtime": runtime, "who": peer.name, "note": "peer not installed"}
               for peer in wanted if not peer.is_installed()]
    with contextlib.ExitStack() as stack:
        yield {peer.name: stack.enter_context(peer.running(handler, body))
               for peer in wanted if peer.is_installed()}, missing
