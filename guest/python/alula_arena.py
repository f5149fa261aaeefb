"""Long bodies in memory that platform and guest share, instead of in pieces over the connection.

The platform writes request bodies into the first half and says in INVOKE where; answers are written into the second,
one at a time, when the platform has taken all that were written before. What a handler gets is never this memory
itself, because the next call's body is written to the same place.
"""

import os
from mmap import mmap
from struct import Struct

ARENA_FD = 4
PRIVATE_FD = 251  # out of the way of user code that closes or reuses low descriptors

PLACE = Struct("<II")  # offset and length


class Arena:
    """The memory, which is mapped at its first use."""

    def __init__(self, size, socket_max):
        self.size, self.socket_max = size, socket_max
        self.mapped = None
        self.written = 0  # answers, modulo 2**16
        self.taken = 0  # of them, as the platform said last

    def memory(self):
        if self.mapped is None:
            self.mapped = memoryview(mmap(PRIVATE_FD, self.size))
        return self.mapped

    def body(self, place):
        """The request body that lies in a place: a view, valid until its call is answered."""
        offset, length = PLACE.unpack(place)
        return self.memory()[offset : offset + length]

    def put(self, body):
        """Writes an answer and gives its place; None where it must go over the connection."""
        length, half = len(body), self.size // 2
        if not self.socket_max < length <= half or self.written != self.taken:
            return None
        self.memory()[half : half + length] = body
        self.written = (self.written + 1) & 0xFFFF
        return PLACE.pack(half, length)


def keep():
    """Puts the descriptor where user code does not find it by accident, and no child gets it."""
    try:
        os.dup2(ARENA_FD, PRIVATE_FD, inheritable=False)
        os.close(ARENA_FD)
    except OSError:
        pass  # There is none: INIT will not speak of one.


def leave():
    """In a forked child: the memory belongs to the parent."""
    try:
        os.close(PRIVATE_FD)
    except OSError:
        pass
