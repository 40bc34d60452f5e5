"""A stuck loop is ended by the kernel: a timer that only a running loop keeps from going off.

What callers may rely on:

- After `arm`, the process ends with exit status EXIT_STATUS unless `arm` is called again within `LIMIT_S`, whatever
  Python is doing meanwhile, also where this process is PID 1 of its container.
- After `disarm` nothing ends it. A child never inherits the timer.
- `no_core_dump` keeps the kernel from writing a core: while it does, the process is still there, and so are the
  rules that should go with it.

The handler is libc's `_exit`, put there without Python: Python's own handlers run only between two steps of
the interpreter, and the default action of SIGALRM is ignored by PID 1 (docs/decisions/0004).
"""

import ctypes
import signal

LIMIT_S = 4.0
"""The loop arms once a second, at times 1.5 s apart; what hangs for 2.5 more is stuck. By then the elements of the
rules have expired (`options.ALIVE_S`)."""

EXIT_STATUS = int(signal.SIGALRM)
"""`_exit` gets the number of the signal: 14."""

_PR_SET_DUMPABLE = 4


class Deadman:
    """The one timer of this process (ITIMER_REAL)."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.armed = False
        self._handled = False

    def arm(self) -> None:
        """Begin anew to count to the limit. Costs one system call."""
        if not self._handled:
            _end_on_alarm()
            self._handled = True
        signal.setitimer(signal.ITIMER_REAL, self.limit_s)
        self.armed = True

    def disarm(self) -> None:
        """Nobody is counting any more."""
        if self.armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.armed = False


def _end_on_alarm() -> None:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGALRM, ctypes.cast(libc._exit, ctypes.c_void_p))


def no_core_dump() -> None:
    """Let a crash end this process at once (prctl PR_SET_DUMPABLE 0)."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
