"""Peers that serve the same handler, for the same run. A peer that is not installed is left out."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parents[1] / "functions/peers"
PEERS = pathlib.Path(os.environ.get("ALULA_PEERS", pathlib.Path.home() / ".cache/alula-peers"))


def commands(port):
    """Name, language, command of every peer."""
    python, modules = PEERS / "venv/bin", PEERS / "node/node_modules"
    framework = ["--target=hello", f"--port={port}"]
    return [
        ("functions-framework (Python)", "python",
         [python / "functions-framework", f"--source={HERE / 'hello.py'}", "--host=127.0.0.1", *framework]),
        ("flask + waitress", "python", [python / "python", HERE / "app.py", str(port)]),
        ("functions-framework (Node)", "node",
         ["node", modules / ".bin/functions-framework", f"--source={HERE / 'hello.js'}", *framework]),
    ]


def installed(port):
    return [peer for peer in commands(port) if all(is_there(part) for part in peer[2][:2])]


def is_there(part):
    return not isinstance(part, pathlib.Path) and shutil.which(part) or pathlib.Path(part).exists() or str(part).startswith("-")


@contextlib.contextmanager
def running(command, port):
    environment = dict(os.environ, NODE_PATH=str(PEERS / "node/node_modules"))
    process = subprocess.Popen(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()
