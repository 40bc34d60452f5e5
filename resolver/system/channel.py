"""A Unix socket between two generations: frames with file descriptors, in order, on the loop.

What callers may rely on:

- The other end is a process of our own user (SO_PEERCRED), or nothing is exchanged.
- All that can go wrong raises HandoverFailed, its end (EOF) too.
- Descriptors that come are closed on exec from their first moment, and closed with the channel unless taken.
- No timeouts here: callers have deadlines.
"""

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

from resolver.cache.frames import Frames, frame
from resolver.errors import BadSnapshot, HandoverFailed

FDS_PER_MESSAGE = 64
"""The kernel takes 253 (SCM_MAX_FD)."""

FDS_MAX = 1024
"""Descriptors that nobody has taken: 16 addresses of `-localip`, each with a few ports, UDP and TCP."""

_READ_BYTES = 64 * 1024
_UCRED = struct.Struct("@iII")


class Channel:
    """One end. `sock` is connected and non-blocking; the channel owns it."""

    def __init__(self, sock: socket.socket) -> None:
        """Raises HandoverFailed, with `sock` closed, if another user's process is at the other end."""
        self._sock = sock
        self._frames = Frames()
        self._loop = asyncio.get_running_loop()
        self._fds: deque[int] = deque()
        self._sending = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.geteuid():
            sock.close()
            raise HandoverFailed(f"a process of user {uid} is at the other end")

    def take_fds(self, number: int) -> list[int]:
        """Return the next descriptors that came, now the caller's. Raises HandoverFailed if there are fewer."""
        if number > len(self._fds):
            raise HandoverFailed("file descriptors are missing")
        return [self._fds.popleft() for _ in range(number)]

    async def raw(self, number: int) -> bytes:
        """Return so many bytes that are in no frame."""
        while (found := self._frames.raw(number)) is None:
            await self._fill()
        return found

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame."""
        try:
            while (found := self._frames.next()) is None:
                await self._fill()
        except BadSnapshot as error:
            raise HandoverFailed(str(error)) from None
        return found

    async def send(self, kind: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send one frame, with descriptors, of which the caller keeps its own."""
        await self.send_raw(frame(kind, payload), fds)

    async def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are, all of them: who gives up before has to close the channel."""
        view = memoryview(data)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._sending:
            while view:
                try:
                    view = view[self._sock.sendmsg([view], ancillary) :]
                    ancillary = []
                except BlockingIOError:
                    await self._until(self._loop.add_writer, self._loop.remove_writer)
                except OSError as error:
                    raise HandoverFailed(f"the other process is gone: {error.strerror}") from None

    def close(self) -> None:
        """Close it, with all descriptors that nobody has taken."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        while self._fds:
            os.close(self._fds.popleft())
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def _fill(self) -> None:
        """Wait until something has come, and take it."""
        while True:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    _READ_BYTES, socket.CMSG_SPACE(4 * FDS_PER_MESSAGE), socket.MSG_CMSG_CLOEXEC
                )
                break
            except BlockingIOError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                raise HandoverFailed(f"the other process is gone: {error.strerror}") from None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._fds += found
        if flags & socket.MSG_CTRUNC or len(self._fds) > FDS_MAX:
            raise HandoverFailed("file descriptors did not fit; raise the limit of open files")
        if not data:
            raise HandoverFailed("the other process has ended")
        self._frames.feed(data)

    async def _until(
        self, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object]
    ) -> None:
        """Wait until the socket can be read or written."""
        fd = self._sock.fileno()
        ready: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        self._waiting.add(ready)
        add(fd, wake)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._sock.fileno() == fd:
                remove(fd)
