"""What the tests of the TCP side share: a running server, answers that do as they are told, a clock that jumps.

`visits` is what the server is made with: `codecs.both(serving.__name__, "visits")` makes it each lane's in turn.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from resolver.accept.options import AcceptOptions
from resolver.accept.stream import Stream
from resolver.accept.tcp import TcpServer, VisitsClass
from resolver.clock import TICK_S, Timers
from tests.support.addresses import loopback
from tests.support.client import Tcp
from tests.support.jumping import JumpingClock

OPTIONS = AcceptOptions()
visits: VisitsClass | None = None
BIG_BYTES = 40_000


def question(number: int, kind: bytes = b"now") -> bytes:
    """A message that `Answers` understands: an ID, and what to do with it."""
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + kind


def response(number: int, kind: bytes = b"now") -> bytes:
    padding = b"." * BIG_BYTES if kind == b"big" else b""
    return number.to_bytes(2, "big") + b"\x81\x80\0\1\0\0\0\0\0\0" + kind + padding


class Answers:
    """In place of a listener: `later` waits for `release`, `never` gets nothing, `big` 40,000 bytes."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.waiting: list[tuple[int, Stream]] = []
        self.latest: Stream | None = None

    def answer(self, query: bytes, client: Stream, now_s: float) -> bytes | None:
        number, kind = int.from_bytes(query[:2], "big"), query[12:]
        self.asked.append(number)
        self.latest = client
        if kind == b"later":
            self.waiting.append((number, client))
            return None
        if kind == b"at once":  # a flight that fails before `answer` has returned
            client.send(response(number, kind))
            return None
        return None if kind == b"never" else response(number, kind)

    def release(self, count: int = 1_000_000) -> None:
        """Answer those that wait, the last one first."""
        for _ in range(min(count, len(self.waiting))):
            number, client = self.waiting.pop()
            client.send(response(number, b"later"))


class Served:
    """A running server, its answers and its clock."""

    def __init__(self, options: AcceptOptions, sock: socket.socket | None = None) -> None:
        self.clock = JumpingClock()
        self.answers = Answers()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.host = loopback()
        if sock is None:
            sock = socket.create_server((self.host, 0), backlog=512)
        sock.setblocking(False)
        self.host, self.port = sock.getsockname()[:2]
        self.server = TcpServer(sock, self.answers.answer, options, self.timers, self.clock, visits)
        self.server.start()

    async def connect(self, source: str | None = None) -> Tcp:
        return await Tcp.open(self.host, self.port, source=source)

    async def until(self, holds: Callable[[], object]) -> None:
        """Return when `holds()` does: what the kernel and the other end do has no event to wait for."""
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 see above
                await asyncio.sleep(TICK_S / 4)

    async def ticks(self, count: int) -> None:
        """Return when the timers have looked at their clock."""
        await self.timers.sleep(count * TICK_S)

    async def settled(self) -> None:
        """Return when a question asked now, on a connection of its own, has been answered."""
        async with await self.connect() as client:
            client.send(question(9))
            assert await client.receive() == response(9)


@contextlib.asynccontextmanager
async def serving(
    options: AcceptOptions = OPTIONS, sock: socket.socket | None = None, **changed: Any
) -> AsyncIterator[Served]:
    served = Served(replace(options, **changed), sock)
    try:
        yield served
    finally:
        await served.server.close()
        served.timers.close()


def reset(client: Tcp) -> None:
    """Leave without a word: RST instead of FIN, so that the server need not find out by writing."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def is_closed(client: Tcp) -> bool:
    """Whether the server has ended the connection, whatever it sent before."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(client.reader.read(1 << 20), 1):
            pass
    return True


def is_open(client: Tcp) -> bool:
    return not client.reader.at_eof() and client.reader.exception() is None
