"""The shim for Python: speaks the platform's frames on descriptor 3 and runs a handler or an application.

Only the standard library, and as little of it as possible: what is imported here is paid by every cold start.
The loop blocks in one read and answers with one write. Applications that need asyncio run in alula_asgi instead.
"""

import gc
import os
import select
import sys
from _thread import allocate_lock, start_new_thread
from io import RawIOBase, TextIOWrapper
from struct import Struct
from time import monotonic, sleep

PROTOCOL_VERSION = 1
INIT, INVOKE, DATA, CREDIT, CANCEL, PING, SHUTDOWN, TAKE_BACK, WARM = 1, 2, 3, 4, 5, 6, 7, 8, 9
READY, REPLY, RESULT, FAIL, PONG, BYE, LOG, WARMED = 0x81, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x89
MORE, END, WAITING, AHEAD, EVENT, SKIPPABLE = 0x01, 0x02, 0x08, 0x10, 0x20, 0x80
FAIL_HANDLER, FAIL_BAD_RESULT, FAIL_INIT, FAIL_CANCELLED, FAIL_MEMORY, FAIL_TOO_LARGE, FAIL_NOT_BEGUN = 1, 2, 3, 4, 5, 6, 7
DEBUG, INFO, WARN, ERROR = 0, 1, 2, 3
STDOUT, STDERR = 1, 2

BODY_MAX = 65536  # longest body of one frame; also the read size, above which malloc maps memory for each read
WINDOW = 262144  # bytes of a streamed body that may be sent before the platform grants more
SPIN = 60  # tries of 0.35 us for the next call, made only where the platform says that one is queued
LOG_BUFFER_MAX = 16384  # bytes of log lines that wait for the reply
LOG_DELAY = 0.02  # seconds that they wait at most, where other threads can run
LOG_BURST = 16  # lines that are sent at once after a quiet time, so that code which hangs right after them loses none
LOG_RATE = 1000  # lines a second that are sent at once; above that, gathering is worth it
TEXT_MAX = 8192  # characters of an error message or of a line of its stack trace
STACK_MAX = 50  # entries of a stack trace
OWN_FOLDER, link, streams = "", None, ()  # set by start
loaded_ahead = frozenset()  # names of modules that are loaded before there is a function and that this file does not need
loaded_here = frozenset(sys.modules)
log_handler = None  # made ahead by alula_warm
PRIVATE_FD = 250  # out of the way of user code that closes or reuses low descriptors

HEAD = Struct("<IBBHII")
pack, unpack = HEAD.pack, HEAD.unpack_from


class Cancelled(BaseException):
    """The platform has no more use for the call. Not an Exception, so that handlers do not swallow it."""


def frame(kind, call=0, aux=0, flags=0, meta=b"", body=b""):
    return pack(len(meta) + len(body), kind, flags, aux, call, len(meta)) + meta + body


class Link:
    """The connection to the platform."""

    def __init__(self, fd):
        self.fd = fd
        self.buffer, self.at = b"", 0
        self.lock = allocate_lock()
        self.call = 0  # the call whose user code runs, for log lines
        self.cancellable = 0  # the same while a signal may raise Cancelled
        self.is_asked = False  # whether a signal has come, so that a call that waits may be cancelled
        self.set_aside = []  # frames that came while the answer of another call was being streamed
        self.logs, self.logs_size = [], 0
        self.log_allowance, self.log_sent_at = LOG_BURST, 0.0
        self.flusher, self.flusher_awake = None, False
        self.poll = select.poll()
        self.poll.register(fd, select.POLLIN)

    def next(self):
        """The next frame: kind, flags, aux, call, meta, body. Ends the process when the platform is gone."""
        if self.set_aside:
            return self.set_aside.pop(0)
        return self.receive()

    def receive(self):
        while True:
            buffer, at = self.buffer, self.at
            if len(buffer) - at >= 16:
                size, kind, flags, aux, call, meta = unpack(buffer, at)
                start = at + 16
                end = start + size
                if end <= len(buffer):
                    if end == len(buffer):
                        self.buffer, self.at = b"", 0
                    else:
                        self.at = end
                    return kind, flags, aux, call, buffer[start : start + meta], buffer[start + meta : end]
            self.fill()

    def fill(self):
        data = os.read(self.fd, BODY_MAX)
        if not data:
            exit_now(0)
        self.buffer, self.at = (self.buffer[self.at :] + data if self.buffer else data), 0

    def spin(self):
        """Looks for the next call for about 20 us, which is cheaper than falling asleep and being woken."""
        poll = self.poll.poll
        for _ in range(SPIN):
            if poll(0):
                return

    def is_cancelled(self, wanted):
        """Whether a CANCEL for this call is among the frames that have arrived. Never blocks."""
        while self.poll.poll(0):
            self.fill()
        return any(kind == CANCEL and call == wanted for kind, call, _, _ in self.arrived())

    def arrived(self):
        """The frames that have arrived whole and wait: kind, call, where each begins and ends."""
        buffer, at, frames = self.buffer, self.at, []
        while len(buffer) - at >= 16:
            size, kind, _, _, call, _ = unpack(buffer, at)
            end = at + 16 + size
            if end > len(buffer):
                break
            frames.append((kind, call, at, end))
            at = end
        return frames

    def give_back(self):
        """Gives calls back that the platform asks for. Runs in the middle of user code: what waits has not begun."""
        frames = self.arrived()
        wanted = {call for kind, call, _, _ in frames if kind == TAKE_BACK}
        for kind, call, at, end in reversed(frames):
            if kind == INVOKE and call in wanted:
                self.buffer = self.buffer[:at] + self.buffer[end:]
                self.logs.append(frame(FAIL, call, FAIL_NOT_BEGUN))
        if self.logs:
            self.send_soon()

    def send_soon(self):
        """Sends what waits. Now, unless the lock is held: this very thread may hold it, further down its stack."""
        if self.lock.acquire(False):
            self.lock.release()
            self.send(b"")
        elif not self.flusher_awake:
            self.wake_flusher()

    def send(self, data):
        """Writes frames, and the log lines before them."""
        with self.lock:
            if self.logs:
                logs, self.logs, self.logs_size = self.logs, [], 0
                data = b"".join(logs) + data
            if self.fd < 0:
                return
            sent = os.write(self.fd, data)
            while sent < len(data):
                data = memoryview(data)[sent:]
                sent = os.write(self.fd, data)

    def send_body(self, call, body):
        """Writes a whole body that is longer than a frame."""
        for at in range(0, len(body), BODY_MAX):
            end = at + BODY_MAX
            self.send(frame(DATA, call, flags=END if end >= len(body) else 0, body=body[at:end]))

    def log(self, stream, level, text, call=None):
        """Sends lines at once where they come slowly. Where they come fast, the rest waits for the next reply, but not
        longer than LOG_DELAY."""
        call = self.call if call is None else call
        for at in range(0, len(text), BODY_MAX):
            self.logs.append(frame(LOG, call, stream << 8 | level, body=text[at : at + BODY_MAX]))
        self.logs_size += len(text)
        if self.logs_size > LOG_BUFFER_MAX or stream == STDERR or self.may_log_now():
            self.send_soon()
        elif not self.flusher_awake:
            self.wake_flusher()

    def may_log_now(self):
        now = monotonic()
        allowance = min(LOG_BURST, self.log_allowance + (now - self.log_sent_at) * LOG_RATE)
        self.log_sent_at = now
        self.log_allowance = allowance - 1 if allowance >= 1 else allowance
        return allowance >= 1

    def wake_flusher(self):
        self.flusher_awake = True
        if self.flusher is None:
            self.flusher = allocate_lock()
            start_new_thread(self.flush_for_ever, ())
        else:
            self.flusher.release()

    def flush_for_ever(self):
        turn = self.flusher
        turn.acquire()
        while True:
            sleep(LOG_DELAY)
            self.flusher_awake = False
            if self.logs:
                self.send(b"")
            turn.acquire()

    def leave(self):
        """In a forked child: the connection belongs to the parent."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self.lock = allocate_lock()
        self.logs, self.logs_size, self.flusher, self.flusher_awake = [], 0, None, True


class LogFile(RawIOBase):
    """What is behind sys.stdout and sys.stderr: every write is a LOG frame with the id of the call."""

    def __init__(self, link, stream):
        self.link, self.stream = link, stream

    def write(self, data):
        data = bytes(data)
        if self.link.fd < 0:
            return os.write(self.stream, data)
        self.link.log(self.stream, INFO, data, current_call(self.link))
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self.stream


def current_call(link):
    return link.call


def capture_output(link):
    for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
        file = TextIOWrapper(LogFile(link, stream), "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    return sys.stdout, sys.stderr


def make_log_handler(link):
    """The handler that keeps the level of what is logged."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record):
            level = DEBUG if record.levelno < 20 else INFO if record.levelno < 30 else WARN if record.levelno < 40 else ERROR
            text = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            link.log(STDERR if level >= WARN else STDOUT, level, text, current_call(link))

    handler = Handler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return handler


def capture_logging(link):
    """Gives the root logger a handler, unless the user's code has set up its own."""
    root = sys.modules["logging"].root
    if not root.handlers:
        root.addHandler(log_handler or make_log_handler(link))


real_exit = os._exit


def exit_now(status=0):
    """os._exit, with the log lines that still wait."""
    try:
        for file in (sys.stdout, sys.stderr):
            file.flush()
        link.send(b"")
    except Exception:
        pass
    real_exit(status)


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


def dict_of(meta):
    fields = meta.decode("utf-8").split("\0")
    return dict(zip(fields[::2], fields[1::2]))


class Settings:
    """What INIT said."""

    def __init__(self, meta):
        values = dict_of(meta)
        self.handler, self.code = values["handler"], os.getcwd()
        self.namespace, self.function, self.version = values["namespace"], values["function"], values["version"]
        self.instance, self.memory_mb = values["instance"], int(values["memory_mb"])
        self.concurrency, self.cpus = int(values["concurrency"]), int(values["cpus"])
        self.response_bytes_max = int(values["response_bytes_max"])


def own_folders(code):
    """Where the function's own modules are: the code, PYTHONPATH."""
    return [code, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def search_path(own):
    """Where modules are looked for: the function's own, the standard library, the system's packages."""
    lib = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    system = [f"{sys.prefix}/local/{lib}/dist-packages", f"{sys.prefix}/lib/python3/dist-packages"]
    system += [f"{sys.prefix}/{lib}/site-packages", f"/usr/local/{lib}/dist-packages"]
    known = dict.fromkeys([*own, *sys.path, *filter(os.path.isdir, system)])
    return list(known)


def find_handler(text):
    """The object that `module.name` or `folder/module.name` names; without a name, the first usual one."""
    usual = ("handler", "app", "application", "lambda_handler", "main")
    module_name, dot, name = text.replace("/", ".").rpartition(".")
    if dot:
        try:
            __import__(module_name)
            module = sys.modules[module_name]
            if hasattr(module, name):
                return getattr(module, name), name
        except ModuleNotFoundError as error:
            # Only where the whole text may be a module itself, such as `folder.main`.
            if error.name != module_name and not module_name.startswith(f"{error.name}."):
                raise
            module = None
        if module is not None and not hasattr(module, "__path__"):
            raise AttributeError(f"{module_name} has no {name!r}; set handler to one of its functions")
    module_name = text.replace("/", ".")
    __import__(module_name)
    module = sys.modules[module_name]
    for name in usual:
        if callable(getattr(module, name, None)):
            return getattr(module, name), name
    raise AttributeError(f"{module_name} has none of {', '.join(usual)}; name the function in handler")


def classify(target, name):
    """`asgi`, `wsgi` or `event`, by what the object looks like."""
    if not callable(target):
        raise TypeError(f"the handler {name!r} is a {type(target).__name__}, which cannot be called")
    function = target
    is_function = hasattr(target, "__code__") or hasattr(target, "__func__")
    if not is_function and not isinstance(target, type):
        function = getattr(type(target).__call__, "__func__", type(target).__call__)
    code = getattr(function, "__code__", None)
    if code is None:
        return "event"
    names = list(code.co_varnames[: code.co_argcount])
    if names[:1] == ["self"]:
        del names[0]
    if names[-2:] == ["receive", "send"] or (code.co_flags & 0x80 and len(names) == 3):
        return "asgi"
    if names[-1:] == ["start_response"] or (name in ("app", "application") and not is_function):
        return "wsgi"
    return "event"


def gather(link, flags, call, body):
    """The rest of a request body that came in several frames; None where the call was cancelled meanwhile."""
    if not flags & MORE:
        return body
    parts = [body]
    while not flags & END:
        kind, flags, aux, other, meta, body = link.receive()
        if kind == DATA and other == call:
            parts.append(body)
        elif kind == CANCEL and other == call:
            return None
        else:
            link.set_aside.append((kind, flags, aux, other, meta, body))
            flags = 0
    return b"".join(parts)


def serve(link, settings, run):
    """Runs calls one after another, for ever."""
    flush_out, flush_err = (file.flush for file in streams)
    may_spin = settings.cpus > 1
    while True:
        kind, flags, aux, call, meta, body = link.next()
        if kind == INVOKE:
            body = gather(link, flags, call, body)
            if body is None:
                link.send(frame(FAIL, call, FAIL_CANCELLED, body=b"{}"))
                continue
            if link.is_asked:
                link.is_asked = bool(link.buffer)
                if flags & AHEAD and link.is_cancelled(call):
                    link.send(frame(FAIL, call, FAIL_CANCELLED, body=b"{}"))
                    continue
            try:
                link.call = link.cancellable = call
                answer = run(call, flags, meta, body)
                link.cancellable = 0
                flush_out()
                flush_err()
                link.call = 0
                link.send(answer)
            except BaseException as error:
                link.cancellable = 0
                report(link, call, error)
                link.call = 0
            if flags & WAITING and may_spin and not link.buffer:
                link.spin()
        elif kind == PING:
            link.send(frame(PONG))
        elif kind == SHUTDOWN:
            shut_down(link)
        elif kind not in (CANCEL, CREDIT, DATA, TAKE_BACK) and not flags & SKIPPABLE:
            exit_now(70)


def report(link, call, error):
    for file in streams:
        try:
            file.flush()
        except Exception:
            pass
    fail(link, call, error, getattr(error, "fail_class", FAIL_HANDLER) if not isinstance(error, Cancelled) else FAIL_CANCELLED)


def shut_down(link):
    """Runs what atexit has, says goodbye and ends."""
    try:
        import atexit

        atexit._run_exitfuncs()
    except BaseException as error:
        link.log(STDERR, ERROR, f"at exit: {error!r}\n".encode("utf-8", "backslashreplace"))
    for file in streams:
        file.flush()
    link.send(frame(BYE))
    exit_now(0)


def listen_for_cancel(link):
    import signal

    def interrupt(_signal, _frame):
        link.is_asked = True
        call = link.cancellable
        if not call:
            return
        if link.is_cancelled(call):
            link.cancellable = 0
            raise Cancelled("the call was cancelled")
        link.give_back()

    signal.signal(signal.SIGUSR1, interrupt)


def ready(link, request, response, ahead="no"):
    for file in streams:
        file.flush()
    gc.collect()
    gc.freeze()
    meta = "\0".join(["request", request, "response", response, "ahead", ahead]).encode()
    link.send(frame(READY, aux=PROTOCOL_VERSION, meta=meta))


def prepare(link, settings):
    """Loads the user's code and gives the function that serves it."""
    own = own_folders(settings.code)
    sys.path[:] = search_path(own)
    forget_shadowed(own)
    target, name = find_handler(settings.handler)
    kind = classify(target, name)
    if "logging" in sys.modules:
        capture_logging(link)
    code = getattr(target, "__code__", None)
    is_async = code is not None and code.co_flags & 0x80
    sys.path.append(OWN_FOLDER)
    try:
        if kind == "asgi" or (kind == "event" and is_async and settings.concurrency > 1):
            import alula_asgi

            return alula_asgi.prepare(link, settings, target, kind)
        if kind == "wsgi":
            import alula_wsgi

            run = alula_wsgi.runner(link, target)
            response, ahead = "stream", "no"
        else:
            import alula_event

            run = alula_event.runner(link, settings, target)
            response, ahead = "whole", "yes"
    finally:
        sys.path.remove(OWN_FOLDER)

    def loop():
        listen_for_cancel(link)
        ready(link, "whole", response, ahead)
        serve(link, settings, run)

    return loop


def connect():
    try:
        os.dup2(3, PRIVATE_FD, inheritable=False)
        os.close(3)
        return Link(PRIVATE_FD)
    except OSError:
        os.set_inheritable(3, False)
        return Link(3)


def get_warm():
    """Does what every function needs, before it is known which one it will be."""
    sys.path.append(OWN_FOLDER)
    try:
        import alula_warm
    finally:
        sys.path.remove(OWN_FOLDER)
    alula_warm.run(link)


def become(environment, code):
    """Makes a process that waited for a function what it would be had it been started for this one."""
    texts = environment.split(b"\0")
    wanted, present = dict(zip(texts[::2], texts[1::2])), os.environb
    zone = present.get(b"TZ")
    for name in present.keys() - wanted.keys():
        del present[name]
    for name, value in wanted.items():
        if present.get(name) != value:
            present[name] = value
    if wanted.get(b"TZ") != zone:
        from time import tzset

        tzset()
    os.chdir(code)


def forget_shadowed(own):
    """Forgets modules that were loaded ahead and that the function has a file for, which would have come first."""
    for folder in filter(os.path.isdir, own if loaded_ahead else ()):
        for name in loaded_ahead.intersection(entry.partition(".")[0] for entry in os.listdir(folder)):
            for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                del sys.modules[module]


def main():
    kind, _, version, _, meta, environment = link.receive()
    if kind == WARM:
        get_warm()
        link.send(frame(WARMED))
        kind, _, version, _, meta, environment = link.receive()
    if kind != INIT or version != PROTOCOL_VERSION:
        exit_now(70)
    try:
        if environment:
            become(environment, dict_of(meta)["code"])
        loop = prepare(link, Settings(meta))
    except BaseException as error:
        report_start(error)
        exit_now(1)
    loop()


def report_start(error):
    for file in streams:
        file.flush()
    fail(link, 0, error, FAIL_INIT)


def start(folder):
    """Runs the shim whose files are in `folder`."""
    global OWN_FOLDER, link, streams
    OWN_FOLDER = folder
    link = connect()
    streams = capture_output(link)
    os._exit = exit_now
    os.register_at_fork(after_in_child=link.leave)
    main()
