"""How many processes before this one ended without saying goodbye: the memory of a crash loop.

Each process that takes traffic keeps a file in a directory that outlives it (`-handover-dir`), locked while it
lives, and removes it when it ends in order. A file that nobody holds the lock of is a crash; a predecessor that is
still serving is none, however many generations overlap, because the kernel drops the lock with the process.

`Memory` neither blocks nor raises: a directory that cannot be used means that crashes are not remembered, no more.
The functions below it touch files and belong in a thread; they raise OSError and nothing else.
"""

import asyncio
import fcntl
import math
import os
import re
from contextlib import suppress

from resolver import logs

RECENT_S = 600.0
"""A process that took traffic longer ago was no crash loop, whatever became of it."""

FILES_MAX = 16
"""More crashes than this change nothing: waits have reached their bound. Older files go."""

_NAME = re.compile(r"intercepting-[0-9a-f]{16}")


class Memory:
    """What this process knows of crashes before it, and leaves behind in case of its own."""

    def __init__(self, directory: str) -> None:
        """Use `directory`, or nothing where that is empty."""
        self._directory = directory
        self._mark: Mark | None = None

    async def begin(self, now_s: float) -> int:
        """This process begins to take traffic; return the number of recent crashes. `now_s` as for `begin`."""
        if not self._directory:
            return 0
        loop = asyncio.get_running_loop()
        try:
            self._mark, count = await loop.run_in_executor(None, begin, self._directory, now_s)
        except OSError as error:
            logs.warning(f"{self._directory}: {error.strerror}; crashes are not remembered", plugin="node")
            return 0
        return count

    async def end(self) -> None:
        """This process has stopped taking traffic, in order."""
        mark, self._mark = self._mark, None
        if mark is not None:
            with suppress(OSError):  # the directory is gone, and the mark with it
                await asyncio.get_running_loop().run_in_executor(None, mark.remove)


class Mark:
    """This process's file, while it takes traffic."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def remove(self) -> None:
        """This process has stopped taking traffic, in order."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            os.unlink(self._path)


def begin(directory: str, now_s: float) -> tuple[Mark, int]:
    """Return this process's mark and the number of crashes in the last RECENT_S.

    now_s  The system's monotonic clock, which all processes since the last boot share. A file from an earlier boot
           tells a time to come, and is none of our crashes.
    """
    crashes = _count(directory, now_s)
    path = os.path.join(directory, f"intercepting-{os.urandom(8).hex()}")
    # It gets its name when it is locked and written: another process may be counting.
    unnamed = f"{path}.new"
    descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, f"{now_s:.3f}\n".encode())
    os.rename(unnamed, path)
    return Mark(path, descriptor), crashes


def _count(directory: str, now_s: float) -> int:
    """Count the files of crashed processes, and remove those that mean nothing any more."""
    times: list[tuple[float, str]] = []
    for name in os.listdir(directory):
        if _NAME.fullmatch(name):
            path = os.path.join(directory, name)
            began_s = _crashed_since(path)
            if began_s is not None:
                times.append((began_s, path))
    recent = [(began_s, path) for began_s, path in sorted(times) if now_s - RECENT_S <= began_s <= now_s][
        -FILES_MAX:
    ]
    for crash in times:
        if crash not in recent:
            os.unlink(crash[1])
    return len(recent)


def _crashed_since(path: str) -> float | None:
    """Return when the process began that left `path` behind, or None while it lives (or has just gone)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        began_s = float(os.read(descriptor, 64))
        return began_s if math.isfinite(began_s) else 0.0
    except BlockingIOError:
        return None
    except ValueError:  # not written by us
        return 0.0
    finally:
        os.close(descriptor)
