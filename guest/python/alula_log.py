"""What goes to the log: the standard streams, the records of `logging`, and errors with their stack traces."""

import os
import sys
from io import RawIOBase, TextIOWrapper

from alula_frames import (
    BODY_MAX, DEBUG, ERROR, FAIL, FAIL_CANCELLED, FAIL_HANDLER, FAIL_MEMORY, INFO, STDERR, STDOUT, WARN, frame,
)

TEXT_MAX = 8192  # characters of an error message or of a line of its stack trace
STACK_MAX = 50  # entries of a stack trace
OWN_FOLDER = __file__.rpartition("/")[0]  # whose files are left out of stack traces

streams = ()  # standard output and error, once they are captured
handler = None  # of the root logger, where it was made ahead


class Cancelled(BaseException):
    """The platform has no more use for the call. Not an Exception, so that handlers do not swallow it."""


class LogFile(RawIOBase):
    """What is behind sys.stdout and sys.stderr: every write is a LOG frame with the id of the call."""

    def __init__(self, link, stream):
        self.link, self.stream = link, stream

    def write(self, data):
        data = bytes(data)
        if self.link.fd < 0:
            return os.write(self.stream, data)
        self.link.log(self.stream, INFO, data)
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self.stream


def capture_output(link):
    global streams
    for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
        file = TextIOWrapper(LogFile(link, stream), "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    streams = sys.stdout, sys.stderr


def make_log_handler(link):
    """The handler that keeps the level of what is logged."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record):
            level = DEBUG if record.levelno < 20 else INFO if record.levelno < 30 else WARN if record.levelno < 40 else ERROR
            text = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            link.log(STDERR if level >= WARN else STDOUT, level, text)

    made = Handler()
    made.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return made


def capture_logging(link):
    """Gives the root logger a handler, unless the user's code has set up its own."""
    root = sys.modules["logging"].root
    if not root.handlers:
        root.addHandler(handler or make_log_handler(link))


def describe(error):
    """An exception as the platform reports it, and its text for the log. Must not fail whatever the error is."""
    try:
        message = str(error)
    except BaseException:
        message = "the error has no text"
    if isinstance(error, SystemExit):
        message = f"the handler called sys.exit({message})"
    try:
        from traceback import extract_tb, format_list

        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
            trace = trace.tb_next
        stack = [entry[:TEXT_MAX] for entry in format_list(extract_tb(trace, -STACK_MAX))]
    except BaseException:
        stack = []
    return type(error).__name__, printable(message[:TEXT_MAX]), [printable(entry) for entry in stack]


def printable(text):
    """The text without halves of surrogate pairs, which Python's strings may hold and JSON may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def fail(link, call, error, aux=FAIL_HANDLER):
    """Reports an exception as FAIL and as log lines."""
    import json

    kind, message, stack = describe(error)
    if isinstance(error, MemoryError):
        aux = FAIL_MEMORY
    head = ["Traceback (most recent call last):\n"] if stack else []
    text = "".join([*head, *stack, f"{kind}: {message}\n"])
    if not isinstance(error, Cancelled):
        link.log(STDOUT, ERROR, text.encode("utf-8", "backslashreplace"), call)
    value = {"errorType": kind, "errorMessage": message, "stackTrace": stack}
    body = json.dumps(value).encode("ascii")
    if len(body) > BODY_MAX:
        body = json.dumps({**value, "stackTrace": []}).encode("ascii")
    link.send(frame(FAIL, call, aux, body=body))


def report(link, call, error):
    """Reports an exception that ended a call."""
    for file in streams:
        try:
            file.flush()
        except Exception:
            pass
    fail(link, call, error, FAIL_CANCELLED if isinstance(error, Cancelled) else getattr(error, "fail_class", FAIL_HANDLER))
