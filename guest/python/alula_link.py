"""The connection to the platform: frames in, frames out, and the log lines that wait between them.

Reading blocks in one read; what belongs to another call than the one that reads is set aside for its turn.
"""

import os
import select
import sys
from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep

from alula_frames import (
    BODY_MAX, CANCEL, DATA, END, FAIL, FAIL_NOT_BEGUN, INVOKE, LOG, STDERR, TAKE_BACK, frame, unpack,
)

SPIN = 60  # tries of 0.35 us for the next call, made only where the platform says that one is queued
LOG_BUFFER_MAX = 16384  # bytes of log lines that wait for the reply
LOG_DELAY = 0.02  # seconds that they wait at most, where other threads can run
LOG_BURST = 16  # lines that are sent at once after a quiet time, so that code which hangs right after them loses none
LOG_RATE = 1000  # lines a second that are sent at once; above that, gathering is worth it
PRIVATE_FD = 250  # out of the way of user code that closes or reuses low descriptors

real_exit = os._exit


class Link:
    """The connection to the platform."""

    def __init__(self, fd):
        self.fd = fd
        self.buffer, self.at = b"", 0
        self.lock = allocate_lock()
        self.call = 0  # the call whose user code runs, for log lines
        self.cancellable = 0  # the same while a signal may raise Cancelled
        self.is_asked = False  # whether a signal has come, so that a call that waits may be cancelled
        self.arena = None
        self.set_aside = []  # frames that came while the answer of another call was being streamed
        self.logs, self.logs_size = [], 0
        self.log_allowance, self.log_sent_at = LOG_BURST, 0.0
        self.flusher, self.flusher_awake = None, False
        self.heir = None  # called in the next forked child, where that is to have a connection of its own
        self.current_call = lambda: self.call
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
            self.exit(0)
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
        call = self.current_call() if call is None else call
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

    def exit(self, status=0):
        """os._exit, with the log lines that still wait."""
        try:
            for file in (sys.stdout, sys.stderr):
                file.flush()
            self.send(b"")
        except Exception:
            pass
        real_exit(status)

    def leave(self):
        """In a forked child: the connection belongs to the parent."""
        if self.heir:
            return self.heir()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self.lock = allocate_lock()
        self.logs, self.logs_size, self.flusher, self.flusher_awake = [], 0, None, True

    def start_over(self):
        """In a process that has another connection under the same number."""
        self.lock = allocate_lock()
        self.buffer, self.at, self.set_aside, self.logs, self.logs_size = b"", 0, [], [], 0
        self.call, self.cancellable, self.is_asked = 0, 0, False
        self.flusher, self.flusher_awake = None, False


def connect():
    try:
        os.dup2(3, PRIVATE_FD, inheritable=False)
        os.close(3)
        return Link(PRIVATE_FD)
    except OSError:
        os.set_inheritable(3, False)
        return Link(3)
