"""What a process, or a process and all that it started, has used; and on which processor it may run."""

import contextlib
import os
import time
from collections.abc import Iterator
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


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants that are there now; empty when it is gone."""
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in children for one in tree(child))]


def tree_used_ns(pid: int) -> int:
    """Return user plus system time of `pid` and all its descendants so far, ended ones and ended threads too.

    From each process's own processor clock, in nanoseconds. Children that have ended and been waited for are in
    their parent's /proc/PID/stat, in ticks of 10 ms. Raises OSError when `pid` is gone.
    """
    total = time.clock_gettime_ns(_clock(pid)) + _reaped_ns(pid)
    for descendant in tree(pid)[1:]:
        with contextlib.suppress(OSError):  # it has just ended, so its parent has its time
            total += time.clock_gettime_ns(_clock(descendant)) + _reaped_ns(descendant)
    return total


def _clock(pid: int) -> int:
    """The clock of a process's processor time, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def _reaped_ns(pid: int) -> int:
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[13]) + int(fields[14])  # cutime and cstime: fields 16 and 17 of proc(5)
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def tree_rss_bytes(pid: int) -> int:
    """Return the resident memory of `pid` and its descendants. Pages that two of them share count twice."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            total += int((_PROC / str(one) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


@contextlib.contextmanager
def pinned(number: int) -> Iterator[None]:
    """Keep this thread, and what it starts inside the block, on processor `number`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
