"""A process that has loaded a version's code and serves nothing: instances of this version are forked from it.

It lives in a sandbox like any instance and has no right more. Each instance gets a sandbox of its own, which the
platform moves it into before it runs its first instruction; what is left to do here is what a fork cannot know: which
connection is the instance's, and what must not be the same in two of them.

A version gets no such process where something could not be forked or would be shared: threads, children, sockets and
pipes, files open for writing, memory shared between processes, timers, files in /tmp.
"""

import gc
import os
import signal
import sys
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket
from json import dumps
from stat import S_ISCHR, S_ISREG

import alula_load
import alula_log
from alula_frames import INIT, PROTOCOL_VERSION, READY, frame
from alula_link import real_exit

STANDARD = 4  # descriptors that a process begins with, the last of what comes with an order
WORD_BYTES, FDS_MAX = 16, 64
CLOSE_ON_EXEC = 0x40000000  # MSG_CMSG_CLOEXEC, which the socket module has no name for
TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")


def wait(link, settings):
    """Says whether instances can be forked from this process, and serves orders for it. Returns in each instance, when
    it knows which one it is."""
    module = module_of(settings.handler)
    call_hook(module, "before_snapshot")
    for file in alula_log.streams:
        file.flush()
    gc.collect()
    gc.freeze()
    files = open_files(link)
    reason = obstacle(files)
    meta = "\0".join(["request", "whole", "response", "whole", "obstacle", reason]).encode("utf-8", "replace")
    link.send(frame(READY, aux=PROTOCOL_VERSION, meta=meta))
    parent = os.getpid()
    while True:
        fds = order(link)
        link.heir = lambda: take_place(link, fds, files)
        if os.fork() == 0:
            break
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        for fd in fds:
            os.close(fd)
    link.heir = None
    if os.getpid() == parent:
        # Libraries would take this process for the one that it was forked from, and give the same random numbers.
        real_exit(70)
    kind, _, version, _, meta, environment = link.receive()
    if kind != INIT or version != PROTOCOL_VERSION:
        real_exit(70)
    alula_load.become(environment, alula_load.dict_of(meta)["code"])
    settings.__init__(meta)
    reseed()
    call_hook(module, "after_fork")


def module_of(handler):
    """The module that the handler is in."""
    name = handler.replace("/", ".")
    return sys.modules.get(name) or sys.modules.get(name.rpartition(".")[0])


def call_hook(module, name):
    hook = getattr(module, name, None)
    if callable(hook):
        hook()


def reseed():
    """The module `random` does this by itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def order(link):
    """Waits until an instance is to be forked; the descriptors that came with it."""
    connection = socket(fileno=link.fd)
    try:
        while True:
            word, parts, _, _ = connection.recvmsg(WORD_BYTES, CMSG_SPACE(4 * FDS_MAX), CLOSE_ON_EXEC)
            if not word:
                real_exit(0)
            if word != b"F":
                connection.sendall(word)
                continue
            fds = []
            for level, kind, data in parts:
                if level == SOL_SOCKET and kind == SCM_RIGHTS:
                    fds += memoryview(data[: len(data) // 4 * 4]).cast("i")
            connection.sendall(dumps(fds).encode())
            return fds
    finally:
        connection.detach()


def take_place(link, fds, files):
    """Runs in the instance before anything else does: gives it its own connection, output and files."""
    standard = fds[-STANDARD:]
    for target, fd in enumerate(standard[:-1]):
        os.dup2(fd, target)
    os.dup2(standard[-1], link.fd, inheritable=False)
    for fd in fds:
        os.close(fd)
    link.start_over()
    for fd, flags in files.items():
        if flags is not None:
            reopen(fd, flags)


def reopen(fd, flags):
    """Gives this process a position of its own in a file, which forked processes would have in common."""
    own = os.open(f"/proc/self/fd/{fd}", flags)
    os.lseek(own, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(own, fd, inheritable=os.get_inheritable(fd))
    os.close(own)


def open_files(link):
    """The descriptors of the user's code: with the flags where it is a file that is only read, else None."""
    from fcntl import F_GETFL, fcntl

    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in (0, 1, 2, link.fd):
            continue
        try:
            mode, flags = os.fstat(fd).st_mode, fcntl(fd, F_GETFL)
        except OSError:
            continue  # what listed the folder
        if S_ISCHR(mode):
            continue  # /dev/null or /dev/urandom: without a position
        is_read = S_ISREG(mode) and flags & os.O_ACCMODE == os.O_RDONLY
        found[fd] = flags & ~os.O_CREAT & ~os.O_TRUNC & ~os.O_EXCL if is_read else None
    return found


def obstacle(files):
    """Why no instances can be forked from this process; empty where they can."""
    for fd, flags in files.items():
        if flags is None:
            what = os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
            return f"its initialisation left a {what if what[0] != '/' else 'file for writing'} open (descriptor {fd})"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"its initialisation left {threads - 1} threads running"
    if has_children():
        return "its initialisation left processes running"
    if any(signal.getitimer(getattr(signal, name))[0] for name in TIMERS):
        return "its initialisation left a timer running"
    if os.listdir("/tmp"):
        return "its initialisation left files in /tmp"
    with open("/proc/self/maps") as maps:
        for line in maps:
            rights = line.split(" ", 2)[1]
            if "w" in rights and "s" in rights:
                return "its initialisation left memory that processes share"
    return ""


def has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
