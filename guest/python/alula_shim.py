"""The shim for Python: speaks the platform's frames on descriptor 3 and runs a handler or an application.

Only the standard library, and as little of it as possible: what is imported here is paid by every cold start.
The loop reads a call and answers it with one write. Applications that need asyncio run in alula_asgi instead.

alula_frames: the words of the protocol; alula_link: the connection; alula_arena: shared memory; alula_log: what goes to
the log; alula_load: finding the user's code. This file is the life of the process, from INIT to the loop that serves calls.
"""

import gc
import os
import sys

import alula_arena
import alula_link
import alula_load
import alula_log
from alula_frames import (
    AHEAD, ARENA, BYE, CANCEL, CREDIT, DATA, END, ERROR, FAIL, FAIL_CANCELLED, FAIL_INIT, INIT, INVOKE, MORE, PING, PONG,
    PROTOCOL_VERSION, READY, REST, RESTED, SHUTDOWN, SKIPPABLE, STDERR, TAKE_BACK, WAITING, WARM, WARMED, frame,
)

loaded_here = frozenset(sys.modules)


def gather(link, flags, call, body):
    """The whole of a request body that is elsewhere or comes in several frames; None where the call was cancelled
    meanwhile."""
    if flags & ARENA:
        return link.arena.body(body)
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
    flush_out, flush_err = (file.flush for file in alula_log.streams)
    may_spin = settings.cpus > 1
    while True:
        kind, flags, aux, call, meta, body = link.next()
        if kind == INVOKE:
            if link.arena:
                link.arena.taken = aux
            if flags & (MORE | ARENA):
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
                alula_log.report(link, call, error)
                link.call = 0
            if flags & WAITING and may_spin and not link.buffer:
                link.spin()
        elif kind == PING:
            link.send(frame(PONG))
        elif kind == REST:
            rest(link)
        elif kind == SHUTDOWN:
            shut_down(link)
        elif kind not in (CANCEL, CREDIT, DATA, TAKE_BACK) and not flags & SKIPPABLE:
            link.exit(70)


def rest(link):
    """Gives memory back before this process stands still for a while."""
    gc.collect()
    try:
        # Only where it is loaded: loading it would take more than there is to be had.
        sys.modules["ctypes"].CDLL(None).malloc_trim(0)
    except (KeyError, AttributeError, OSError):
        pass
    link.send(frame(RESTED))


def shut_down(link):
    """Runs what atexit has, says goodbye and ends."""
    try:
        import atexit

        atexit._run_exitfuncs()
    except BaseException as error:
        link.log(STDERR, ERROR, f"at exit: {error!r}\n".encode("utf-8", "backslashreplace"))
    for file in alula_log.streams:
        file.flush()
    link.send(frame(BYE))
    link.exit(0)


def listen_for_cancel(link):
    import signal

    # Signals that have come, and whether one is being looked into: a second one may come in the midst of that.
    asked, is_looking = 0, False

    def interrupt(_signal, _frame):
        nonlocal asked, is_looking
        link.is_asked = True
        asked += 1
        seen = 0
        while not is_looking and seen != asked and link.cancellable:
            seen, is_looking = asked, True
            try:
                look(link)
            finally:
                is_looking = False

    def look(link):
        if link.is_cancelled(link.cancellable):
            link.cancellable = 0
            raise alula_log.Cancelled("the call was cancelled")
        link.give_back()

    signal.signal(signal.SIGUSR1, interrupt)


def ready(link, request, response, ahead="no"):
    for file in alula_log.streams:
        file.flush()
    gc.collect()
    gc.freeze()
    arena = "yes" if link.arena else "no"
    meta = "\0".join(["request", request, "response", response, "ahead", ahead, "arena", arena]).encode()
    link.send(frame(READY, aux=PROTOCOL_VERSION, meta=meta))


def prepare(link, settings):
    """Loads the user's code. Gives a function to be called in the process that will serve it, which gives the function
    that does."""
    target, kind = alula_load.load(settings)
    if "logging" in sys.modules:
        alula_log.capture_logging(link)
    code = getattr(target, "__code__", None)
    is_async = code is not None and code.co_flags & 0x80
    sys.path.append(alula_log.OWN_FOLDER)
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
        sys.path.remove(alula_log.OWN_FOLDER)

    def loop():
        listen_for_cancel(link)
        ready(link, "whole", response, ahead)
        serve(link, settings, run)

    return lambda: loop


def get_warm(link):
    """Does what every function needs, before it is known which one it will be."""
    sys.path.append(alula_log.OWN_FOLDER)
    try:
        import alula_warm
    finally:
        sys.path.remove(alula_log.OWN_FOLDER)
    alula_warm.run(link)


def run(link):
    kind, _, version, _, meta, environment = link.receive()
    if kind == WARM:
        get_warm(link)
        link.send(frame(WARMED))
        kind, _, version, _, meta, environment = link.receive()
    if kind != INIT or version != PROTOCOL_VERSION:
        link.exit(70)
    try:
        if environment:
            alula_load.become(environment, alula_load.dict_of(meta)["code"])
        settings = alula_load.Settings(meta)
        if settings.arena_bytes:
            link.arena = alula_arena.Arena(settings.arena_bytes, settings.socket_body_bytes_max)
        # A process to fork from has no threads; lines that come fast wait until it is ready.
        link.flusher_awake = settings.is_parent
        begin = prepare(link, settings)
        if settings.is_parent:
            become_parent(link, settings)
        loop = begin()
    except BaseException as error:
        report_start(link, error)
        link.exit(1)
    loop()


def become_parent(link, settings):
    """Returns in each instance that is forked from this process."""
    sys.path.append(alula_log.OWN_FOLDER)
    try:
        import alula_snapshot
    finally:
        sys.path.remove(alula_log.OWN_FOLDER)
    alula_snapshot.wait(link, settings)


def report_start(link, error):
    for file in alula_log.streams:
        file.flush()
    alula_log.fail(link, 0, error, FAIL_INIT)


def start():
    """Runs the shim."""
    link = alula_link.connect()
    alula_arena.keep()
    alula_log.capture_output(link)
    os._exit = link.exit
    os.register_at_fork(after_in_child=link.leave)
    os.register_at_fork(after_in_child=alula_arena.leave)
    run(link)
