"""What a process does before it knows which function it will run.

Imports that most functions make, and one call from end to end, so that the memory which every start writes to has been
written to. Nothing of it may be seen by the function: modules that its own files stand before are forgotten again by
the shim, and the sample leaves nothing behind.
"""

import base64  # noqa: F401
import collections  # noqa: F401
import datetime  # noqa: F401
import functools  # noqa: F401
import gc
import hashlib
import json  # noqa: F401
import os
import re  # noqa: F401
import sys
import traceback  # noqa: F401
import urllib.parse  # noqa: F401

import alula_event
import alula_load
import alula_log
import alula_shim

VARIABLES = 30  # as many as a function's environment has, or more
FOLDER, NAME = "/tmp/.alula-sample", "alula_sample_handler"
SAMPLE_FILE = f"{FOLDER}/{NAME}.py"

SETTINGS = b"handler\0x\0namespace\0x\0function\0x\0version\x001\0instance\0x\0memory_mb\x001\0concurrency\x001\0" \
    b"cpus\x001\0response_bytes_max\x001000000"
META = b"\0".join([b"POST", b"/path?name=value", b"127.0.0.1", b"id", b"0", b"0", b"host", b"localhost", b"accept", b"*/*",
                   b"content-type", b"application/json"])
SAMPLE = """
import json
class Record:
    def __init__(self, **values):
        self.__dict__.update(values)
def handler(event, context):
    record = Record(name="value", number=len(event))
    text = json.dumps({"event": event, "record": record.__dict__, "id": context.aws_request_id})
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": text}
"""


class NoLink:
    """What the sample call has for a connection."""

    cancellable, arena = 0, None


def run(link=None):
    """Gets this process warm; `link` is the connection, which the zygote has none of."""
    os.mkdir(FOLDER)
    with open(SAMPLE_FILE, "w") as file:
        file.write(SAMPLE)
    try:
        rehearse(link)
        gc.collect()
        gc.freeze()
        # Once more, because what was collected is used again.
        rehearse(link)
    finally:
        os.remove(SAMPLE_FILE)
        os.rmdir(FOLDER)
    ahead = {name.partition(".")[0] for name in sys.modules.keys() - alula_shim.loaded_here}
    alula_load.loaded_ahead = frozenset(name for name in ahead if not name.startswith("alula_"))
    gc.freeze()


def rehearse(link):
    hashlib.sha256(SAMPLE.encode()).hexdigest()
    settings = alula_load.Settings(SETTINGS)
    environment = b"\0".join(b"\0".join(pair) for pair in os.environb.items())
    samples = b"".join(b"\0ALULA_SAMPLE_%d\0%s" % (number, b"value" * number) for number in range(VARIABLES))
    alula_load.become(environment + samples, FOLDER)
    call_sample(settings)
    alula_load.become(environment, "/")
    if link:
        alula_shim.listen_for_cancel(link)
        alula_log.handler = alula_log.make_log_handler(link) if "logging" in sys.modules else None


def call_sample(settings):
    """Loads a handler as a function's is loaded, and calls it."""
    path = sys.path[:]
    own = alula_load.own_folders(FOLDER)
    sys.path[:] = alula_load.search_path(own)
    try:
        alula_load.forget_shadowed(own)
        handler, _ = alula_load.find_handler(f"{NAME}.handler")
        alula_load.classify(handler, "handler")
        alula_event.runner(NoLink(), settings, handler)(0, 0, META, b'{"key": [1, 2.5, "text"]}')
    finally:
        sys.path[:] = path
        sys.modules.pop(NAME, None)
        # What the search found is not true any more when the code is there.
        sys.path_importer_cache.pop(FOLDER, None)

