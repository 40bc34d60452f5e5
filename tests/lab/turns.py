"""How much CPU each turn of a loop takes, whoever else runs on the machine.

A turn begins when the loop is woken and ends when it waits for events again. The clock is that of the loop's thread
(CLOCK_THREAD_CPUTIME_ID): it stands still while the kernel runs others, so a busy machine makes no turn longer, but
for caches that others have used meanwhile. The loop is asyncio's own, because uvloop's turns cannot be seen.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

YARDSTICK_STEPS, YARDSTICK_MS = 32_000, 1.0
"""Steps of a loop of Python's that take so long on the machine that bounds are meant for."""


class Turn(NamedTuple):
    """ms: of CPU; what: the callback that took most of them, with what it took."""

    ms: float
    what: str


def longest_in(path: Path) -> Turn:
    """Return the longest turn that a process has written to `path`."""
    found = [line.split("\t") for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return max((Turn(float(ms), what.strip()) for ms, what in found), default=Turn(0.0, "none"))


def slowness() -> float:
    """How much slower this machine is, just now, than the one that bounds are meant for; 1 at least."""
    taken_ms = []
    for _ in range(15):
        began_s = time.thread_time()
        for _ in range(YARDSTICK_STEPS):
            pass
        taken_ms.append((time.thread_time() - began_s) * 1e3)
    return max(1.0, statistics.median(taken_ms) / YARDSTICK_MS)


class MeasuredLoop(asyncio.SelectorEventLoop):
    """Adds a line to `path` for each turn that took longer than all turns before it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._longest_s = 0.0
        self._woken_s = time.thread_time()
        self._costly_s, self._costly = 0.0, ""
        within: Any = self
        select = within._selector.select

        def selected(timeout: float | None = None) -> Any:
            events = select(timeout)
            self._woken_s = time.thread_time()
            return events

        within._selector.select = selected
        # Tasks in C do not tell whose they are.
        tasks: Any = asyncio.tasks
        self.set_task_factory(lambda loop, work, **more: tasks._PyTask(work, loop=loop, **more))

    def _run_once(self) -> None:
        self._costly_s = 0.0
        super()._run_once()  # type: ignore[misc]  # asyncio's own loops have it in all versions
        taken_s = time.thread_time() - self._woken_s
        if taken_s > self._longest_s:
            self._longest_s = taken_s
            with self._path.open("a") as out:
                out.write(f"{taken_s * 1e3:.2f}\t{self._costly_s * 1e3:.2f} ms {self._costly}\n")

    def took(self, handle: asyncio.Handle, seconds: float) -> None:
        """This callback has run for so long."""
        if seconds > self._costly_s:
            self._costly_s, self._costly = seconds, _name(handle)


def factory(path: Path) -> Callable[[], MeasuredLoop]:
    """Return what makes such a loop."""
    handles: Any = asyncio.Handle
    run = handles._run

    def measured(handle: Any) -> None:
        began_s = time.thread_time()
        run(handle)
        handle._loop.took(handle, time.thread_time() - began_s)

    handles._run = measured
    return lambda: MeasuredLoop(path)


def _name(handle: Any) -> str:
    owner: Any = getattr(handle._callback, "__self__", None)
    return str(owner.get_coro().__qualname__ if hasattr(owner, "get_coro") else handle._callback)
