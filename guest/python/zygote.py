"""The zygote: a warmed parent from which Python processes are forked into sandboxes that are there already.

It runs outside of them with the rights of the platform and never sees anything of a function. Each order over its link
names a sandbox by descriptors. The first child enters it and gives every right away, in the order that the platform's
own holders do it; the process that stays is a child of that one, so it has never had a right, and it is the sandbox's
own first process that takes care of it.
"""

import sys

FOLDER = __file__.rpartition("/")[0]
sys.path.insert(0, FOLDER)
import alula_shim  # noqa: E402  first, so that it knows what it needs by itself
import alula_warm  # noqa: E402

sys.path.remove(FOLDER)
import asyncio  # noqa: E402, F401
import contextlib  # noqa: E402, F401
import copy  # noqa: E402, F401
import ctypes  # noqa: E402
import dataclasses  # noqa: E402, F401
import decimal  # noqa: E402, F401
import enum  # noqa: E402, F401
import gc  # noqa: E402
import hmac  # noqa: E402, F401
import http.client  # noqa: E402, F401
import inspect  # noqa: E402, F401
import io  # noqa: E402, F401
import itertools  # noqa: E402, F401
import json  # noqa: E402
import logging  # noqa: E402, F401
import math  # noqa: E402, F401
import os  # noqa: E402
import pathlib  # noqa: E402, F401
import random  # noqa: E402, F401
import secrets  # noqa: E402, F401
import signal  # noqa: E402
import socket  # noqa: E402
import string  # noqa: E402, F401
import subprocess  # noqa: E402, F401
import tempfile  # noqa: E402, F401
import threading  # noqa: E402, F401
import time  # noqa: E402, F401
import typing  # noqa: E402, F401
import urllib.request  # noqa: E402, F401
import uuid  # noqa: E402, F401
import zlib  # noqa: E402, F401

LINK = 3
NEWS = 0
ORDER_BYTES_MAX, FDS_MAX, FILTER_BYTES_MAX = 4096, 64, 65536

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 28, 38
SECCOMP_MODE_FILTER = 2
SECURE_BITS = 0b1100_1111  # being root inside or becoming it brings no capability back, each with its lock
CAPABILITY_VERSION_3 = 0x20080522
JOIN_SESSION_KEYRING = 1
LANDLOCK_RESTRICT_SELF = 446  # the same number on every architecture
OOM_SCORE = b"500"

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def call(name, *arguments):
    """A function of the C library that answers -1 where it fails."""
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def prctl(option, *arguments):
    filled = [*arguments, 0, 0, 0, 0][:4]
    call("prctl", option, *(a if isinstance(a, ctypes._Pointer) else ctypes.c_ulong(a) for a in filled))


def answer(number, **what):
    os.write(LINK, json.dumps({"number": number, **what}).encode())


def enter(order, holder, ruleset, groups, program):
    """Moves this process into a sandbox and gives every right away."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, OOM_SCORE)
    os.close(fd)
    for group in groups:
        os.write(group, b"0")
    call("setns", holder, NAMESPACES)
    os.setresgid(0, 0, 0)
    if order["own_user"]:
        os.setgroups([])
    os.setresuid(0, 0, 0)
    libc.syscall(ctypes.c_long(order["keyctl"]), JOIN_SESSION_KEYRING, None)  # a kernel without keyrings has none to leave
    for capability in range(order["last_capability"] + 1):
        prctl(PR_CAPBSET_DROP, capability)
    prctl(PR_SET_SECUREBITS, SECURE_BITS)
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(header), ctypes.byref(nothing))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 1)  # the change of the user took it, and without it a process cannot look at itself
    if ruleset is not None:
        call("syscall", ctypes.c_long(LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.pointer(program))


def fork_into(order, fds, own, program):
    """Makes the process; true in the process itself."""
    holder, *rest = fds
    ruleset = rest.pop(0) if order["landlock"] else None
    standard, groups = rest[: order["standard"]], rest[order["standard"] :]
    call("setns", holder, CLONE_NEWPID)
    try:
        child = os.fork()
    except OSError:
        call("setns", own, CLONE_NEWPID)
        raise
    if child:
        call("setns", own, CLONE_NEWPID)
        return False
    try:
        enter(order, holder, ruleset, groups, program)
        pid = os.fork()
        if pid == 0:
            take_place(standard)
            return True
        answer(order["number"], pid=pid)
    except BaseException as error:
        answer(order["number"], error=str(error))
    os._exit(0)


def take_place(standard):
    """Makes this process look as if it had just been started."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, fd in enumerate(standard):  # none of them came in so low that another's place is taken too soon
        os.dup2(fd, target)
    os.closerange(len(standard), os.sysconf("SC_OPEN_MAX"))
    gc.enable()


def serve():
    """Serves orders for ever; returns in each process that is made."""
    link = socket.socket(fileno=LINK)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    filter_bytes = link.recv(FILTER_BYTES_MAX)
    program = Program(len(filter_bytes) // 8, filter_bytes)
    # The kernel reaps the children: nobody asks how those ended that only entered a sandbox.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    answer(NEWS)
    while True:
        data, fds, _, _ = socket.recv_fds(link, ORDER_BYTES_MAX, FDS_MAX)
        if not data:
            os._exit(0)
        order = json.loads(data)
        try:
            if fork_into(order, fds, own, program):
                link.detach()
                return
        except OSError as error:
            answer(order["number"], error=str(error))
        for fd in fds:
            os.close(fd)


alula_warm.run()
serve()
sys.argv = [FOLDER + "/shim.py"]
alula_shim.start()
