"""Fills /tmp with one large file, then with as many small ones as it takes."""

import errno
import os

if "ALULA_INSTANCE" not in os.environ:
    raise SystemExit("this attacks the machine that it runs on, and belongs into a sandbox")

MEGABYTE = 1024 * 1024
FILES_MAX = 5_000_000


def fill(path):
    """Bytes written until an error, and the error's name."""
    written = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                written += file.write(b"x" * MEGABYTE)
    except OSError as error:
        return written, errno.errorcode[error.errno]
    finally:
        os.unlink(path)


def many_files():
    """The error that ends making empty files, `none` where nothing does."""
    made = 0
    try:
        while made < FILES_MAX:
            os.close(os.open(f"/tmp/{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
        return "none"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        for number in range(made):
            os.unlink(f"/tmp/{number}")


def handler(event, context):
    written, error = fill("/tmp/large")
    return {"megabytes": written // MEGABYTE, "error": error, "files_ended_by": many_files()}
