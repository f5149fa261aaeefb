"""The words of the protocol: kinds of frames, their flags and numbers, and how a frame is written.

The platform documents them with its own side, in the module `frames` of its crate `runtime`.
"""

from struct import Struct

PROTOCOL_VERSION = 1
INIT, INVOKE, DATA, CREDIT, CANCEL, PING, SHUTDOWN, TAKE_BACK, WARM, REST = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
READY, REPLY, RESULT, FAIL, PONG, BYE, LOG, WARMED, RESTED = 0x81, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x89, 0x8A
MORE, END, ARENA, WAITING, AHEAD, EVENT, SKIPPABLE = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80
FAIL_HANDLER, FAIL_BAD_RESULT, FAIL_INIT, FAIL_CANCELLED, FAIL_MEMORY, FAIL_TOO_LARGE, FAIL_NOT_BEGUN = 1, 2, 3, 4, 5, 6, 7
DEBUG, INFO, WARN, ERROR = 0, 1, 2, 3
STDOUT, STDERR = 1, 2

BODY_MAX = 65536  # longest body of one frame; also the read size, above which malloc maps memory for each read
WINDOW = 262144  # bytes of a streamed body that may be sent before the platform grants more

HEAD = Struct("<IBBHII")
pack, unpack = HEAD.pack, HEAD.unpack_from


def frame(kind, call=0, aux=0, flags=0, meta=b"", body=b""):
    return pack(len(meta) + len(body), kind, flags, aux, call, len(meta)) + meta + body
