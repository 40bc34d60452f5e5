"""A pipe that every process has which has our sockets: who is the last of them, the kernel knows.

The sockets of a hand-over belong to every process that was given them, directly or by a successor, until it ends,
however it ends. Nothing says how many these are, but a pipe says when nobody has its writing end any more.
"""

import os


class Lifeline:
    """Both ends. They go with the sockets, to whomever these go."""

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        """Take over what came with sockets, else make a new one."""
        self.ends = ends or os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.ends[0], False)
        self._closed = False

    def let_go(self) -> bool:
        """Hold it no more, for good; return whether nobody else does. Later calls return False."""
        if self._closed:
            return False
        self._closed = True
        reading, writing = self.ends
        os.close(writing)
        try:
            return os.read(reading, 1) == b""
        except BlockingIOError:
            return False
        finally:
            os.close(reading)
