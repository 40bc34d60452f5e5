"""How much processor time a process has used, in nanoseconds, and on which processor it may run."""

import os
from pathlib import Path

_PROC = Path("/proc")


def used_ns(pid: int) -> int:
    """Return user plus system time of all threads of `pid` so far.

    From schedstat, which counts nanoseconds; /proc/PID/stat counts ticks of 10 ms, too coarse for a second's run.
    Threads that have ended are not in it, so measure processes whose threads stay.
    Raises OSError when the process is gone or the kernel keeps no such statistics.
    """
    total = 0
    for task in (_PROC / str(pid) / "task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def cores() -> tuple[int, int]:
    """Return the processors for the server and for everything else; the same one twice where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1] if len(available) < 3 else available[1]
