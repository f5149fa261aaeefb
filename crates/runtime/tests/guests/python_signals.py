"""Two signals in a row, the second while the first is being looked into, with a CANCEL that arrives just then.

Run with the folder of the Python guest as the argument. Says "ok", or what is wrong.
"""

import os
import signal
import socket
import sys

sys.path.insert(0, sys.argv[1])

import alula_link  # noqa: E402  (the path is set first)
import alula_log  # noqa: E402
import alula_shim  # noqa: E402
from alula_frames import CANCEL, frame  # noqa: E402

CALL = 7


class Poll:
    """The link's poll object. Its first look finds nothing, and in its midst a CANCEL comes, and a signal; like the real
    one it takes no second look in the midst of one."""

    def __init__(self, real, during_first):
        self.real, self.during_first, self.is_running = real, during_first, False

    def poll(self, timeout):
        if self.is_running:
            raise RuntimeError("concurrent poll() invocation")
        self.is_running = True
        try:
            found = self.real.poll(timeout)
            if during_first := self.during_first:
                self.during_first = None
                during_first()
            return found
        finally:
            self.is_running = False


def main():
    ours, platform = socket.socketpair()
    link = alula_link.Link(ours.detach())
    alula_shim.listen_for_cancel(link)

    def cancel():
        platform.sendall(frame(CANCEL, CALL))
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.sigpending()

    link.poll = Poll(link.poll, cancel)
    link.cancellable = CALL
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1000):
            pass
    except alula_log.Cancelled:
        return "ok"
    return "the call was not cancelled"


print(main())
