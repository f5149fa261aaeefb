"""Takes memory in three ways: as objects, in many children, and as files in memory."""

import os
import time

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

PIECE = 4 * 1024 * 1024


def objects():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1)) * PIECE)


def children():
    """Each stays below the limit; together they do not."""
    while True:
        if os.fork() == 0:
            kept = bytearray(b"x") * PIECE
            time.sleep(60)
            os._exit(len(kept) & 1)


def files():
    while True:
        descriptor = os.memfd_create("piece")
        os.write(descriptor, b"x" * PIECE)


def handler(event, context):
    bomb = {"objects": objects, "children": children, "files": files}.get(event["rawQueryString"])
    if bomb:
        bomb()
    return "fine"
