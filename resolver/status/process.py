"""What the kernel and the interpreter know of this process: `process_*`, `python_*`.

The file in /proc is opened once, so that a scrape costs one pread and no path look-up.
"""

import gc
import os
import platform
import resource
from collections.abc import Iterator

from resolver.status import families as f
from resolver.status.fold import FamilyOf

_STAT_START, _STAT_VSIZE, _STAT_RSS = 19, 20, 21  # proc(5), counted from behind the command's `)`


class ProcessReader:
    """Reads this process's numbers; on a system without /proc it gives fewer of them."""

    def __init__(self, *, runtime_metrics: bool = False) -> None:
        self.runtime_metrics = runtime_metrics
        self._stat_fd = -1
        self._boot_s = 0.0
        try:
            self._boot_s = _boot_time_s()
            self._stat_fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass  # other systems, or a container that hides /proc

    def families(self) -> Iterator[FamilyOf]:
        """Yield what can be known now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield f.PROCESS_CPU, {(): round(used.ru_utime + used.ru_stime, 6)}
        if self._stat_fd >= 0:
            fields = os.pread(self._stat_fd, 4096, 0).rpartition(b")")[2].split()
            yield f.PROCESS_RESIDENT, {(): int(fields[_STAT_RSS]) * resource.getpagesize()}
            yield f.PROCESS_VIRTUAL, {(): int(fields[_STAT_VSIZE])}
            started_s = int(fields[_STAT_START]) / os.sysconf("SC_CLK_TCK")
            yield f.PROCESS_START, {(): round(self._boot_s + started_s, 2)}
            # Linux 6.2 and newer give the number as the folder's size; before that it is 0.
            count = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
            yield f.PROCESS_FDS, {(): count}
        yield f.PROCESS_MAX_FDS, {(): resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
        yield f.PYTHON_INFO, {(platform.python_implementation(), platform.python_version()): 1}
        if self.runtime_metrics:
            generations = list(enumerate(gc.get_stats()))
            yield f.GC_COLLECTIONS, {(str(n),): stats["collections"] for n, stats in generations}
            yield f.GC_COLLECTED, {(str(n),): stats["collected"] for n, stats in generations}

    def close(self) -> None:
        """Give the open file back."""
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
            self._stat_fd = -1


def _boot_time_s() -> float:
    with open("/proc/stat", "rb") as stat:
        for line in stat:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    raise OSError("no btime in /proc/stat")
