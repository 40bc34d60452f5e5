"""The snapshot file: the cache of a minute ago, for a process that nobody hands over to.

What callers may rely on:

- Files are written and read in a thread, caches piece by piece on the loop.
- What cannot be written or read is one line of log, and counted; serving goes on.
- A file is read twice, first to see that it is whole: nothing is loaded of one that is not.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from resolver import logs
from resolver.cache import snapshot
from resolver.cache.frames import Frames
from resolver.cache.snapshot import HEAD_BYTES, Loading, Taken
from resolver.clock import Timers
from resolver.errors import BadSnapshot
from resolver.system.directory import Directory, Replacement, SnapshotFile

PAUSE_S = 0.01
"""Between two pieces of a snapshot that has time: 100,000 answers in 10 s, a millisecond of work in ten."""

WRITE_BYTES = 256 * 1024

T = TypeVar("T")


class Snapshots:
    """The file in one directory. `in_haste` set: write without pauses."""

    def __init__(self, directory: Directory, timers: Timers) -> None:
        self.written = 0
        self.failed = 0
        self.loaded = 0
        self.in_haste = False
        self._directory = directory
        self._timers = timers
        self._writing = asyncio.Lock()
        self._told = False  # that it cannot be written

    async def save(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        """Write what `pieces` yields; it is called when the file can be written."""
        async with self._writing:
            try:
                replacement = await in_thread(partial(Replacement.begin, self._directory))
                if replacement is None:
                    return  # another generation is at it
                await self._write(replacement, pieces())
            except OSError as error:
                self.failed += 1
                if not self._told:
                    logs.warning(
                        f"no snapshot of the cache in {self._directory.path}: {error.strerror}; serving goes on"
                    )
                self._told = True
            else:
                self.written += 1
                self._told = False

    async def load(self, now: Taken, loading: Callable[[float], Loading]) -> None:
        """Load the file, if there is one. `loading` is told what to add to its times."""
        file: SnapshotFile | None = None
        try:
            file = await in_thread(self._directory.open_snapshot)
            if file is not None:
                await self._load(file, now, loading)
        except (BadSnapshot, OSError) as error:
            self.failed += 1
            logs.warning(f"the snapshot in {self._directory.path} is ignored: {error}")
        finally:
            if file is not None:
                await in_thread(file.close)

    async def _write(self, replacement: Replacement, pieces: Iterator[bytes]) -> None:
        data = bytearray()
        try:
            for piece in pieces:
                data += piece
                if len(data) >= WRITE_BYTES:
                    await in_thread(partial(replacement.write, bytes(data)))
                    data.clear()
                elif self.in_haste:
                    await asyncio.sleep(0)
                else:
                    await self._timers.sleep(PAUSE_S)
            await in_thread(partial(replacement.write, bytes(data)))
        except BaseException:
            asyncio.get_running_loop().run_in_executor(None, replacement.abandon)
            raise
        await in_thread(replacement.commit)

    async def _load(self, file: SnapshotFile, now: Taken, loading: Callable[[float], Loading]) -> None:
        taken = await in_thread(partial(_verified, file))
        into = loading(snapshot.clock_shift_s(taken, now, living=False))
        await in_thread(file.rewind)
        frames = Frames()
        head: bytes | None = None
        while data := await in_thread(file.read):
            frames.feed(data)
            head = head or frames.raw(HEAD_BYTES)
            while (found := frames.next()) is not None:
                into.take(*found, self._timers.now())
                self.loaded = into.loaded
                await asyncio.sleep(0)
        logs.info(
            f"{into.loaded} answers from the snapshot of {now.wall_s - taken.wall_s:.0f} s ago,"
            f" {into.left} are of no use any more"
        )


async def in_thread(work: Callable[[], T]) -> T:
    """Do what blocks in a thread, and return what it returns."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _verified(file: SnapshotFile) -> Taken:
    """Read a snapshot to its end and return its head. Raises BadSnapshot unless all of it is whole."""
    frames = Frames()
    taken: Taken | None = None
    kind = 0
    while data := file.read():
        frames.feed(data)
        if taken is None:
            taken = snapshot.read_head(frames.raw(HEAD_BYTES) or data)
        while (found := frames.next()) is not None:
            kind, _ = found
    if taken is None or kind != snapshot.END or frames.rest_bytes:
        raise BadSnapshot("it is cut off")
    return taken
