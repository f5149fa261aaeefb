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
import re  # noqa: F401
import sys
import traceback  # noqa: F401
import urllib.parse  # noqa: F401

import alula_event
import alula_shim

CALLS = 2  # the second call finds caches that the first one filled, and writes to them

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

    cancellable = 0


def run():
    """Gets this process warm."""
    hashlib.sha256(SAMPLE.encode()).hexdigest()
    settings = alula_shim.Settings(SETTINGS)
    for _ in range(CALLS):
        module = {"__name__": "sample"}
        exec(compile(SAMPLE, "sample.py", "exec"), module)
        answer = alula_event.runner(NoLink(), settings, module["handler"])
        answer(0, 0, META, b'{"key": [1, 2.5, "text"]}')
    ahead = {name.partition(".")[0] for name in sys.modules.keys() - alula_shim.loaded_here}
    alula_shim.loaded_ahead = frozenset(name for name in ahead if not name.startswith("alula_"))
    gc.collect()
    gc.freeze()
