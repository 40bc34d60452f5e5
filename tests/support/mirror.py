"""An upstream that is as fast as the server that asks it: answers are made of the query's own bytes.

By the first letter of the name: a record that can be kept (`z`: 20 of them), NXDOMAIN that cannot (`v`), SERVFAIL
(`n`). For tests that ask far more than a scripted upstream can parse.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

from tests.support.addresses import loopback

RECORD = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\7"
"""`300 IN A 192.0.2.7` for whatever name was asked."""


def answer_to(query: bytes) -> bytes:
    """Return the answer; `query` is one of our server's own: clients' questions have an OPT record at the end."""
    question = query[12:-11] if query[11] else query[12:]
    match query[13:14]:
        case b"n":
            return query[:2] + b"\x81\x82\0\1\0\0\0\0\0\0" + question
        case b"v":
            return query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
        case b"z":
            return query[:2] + b"\x81\x80\0\1\0\x14\0\0\0\0" + question + RECORD * 20
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + RECORD


class Mirror(asyncio.DatagramProtocol):
    """Answers every datagram at once; `asked` counts them by the first letter of the name.

    held  Questions that wait, see `hold`.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._held_letter = ""
        self._held: list[tuple[bytes, tuple[str, int]]] = []
        self.host = ""
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's is none by class
        self.host, self.port = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        letter = chr(data[13])
        self.asked[letter] += 1
        if letter == self._held_letter:
            self._held.append((data, addr))
            return
        assert self._transport is not None
        self._transport.sendto(answer_to(data), addr)

    @property
    def held(self) -> int:
        return len(self._held)

    def hold(self, letter: str) -> Callable[[], None]:
        """Answer names with this first letter only after the returned function was called, from any thread."""
        self._held_letter = letter

        def release() -> None:
            self._loop.call_soon_threadsafe(self._release)

        return release

    def _release(self) -> None:
        self._held_letter = ""
        held, self._held = self._held, []
        for data, addr in held:
            self.datagram_received(data, addr)

    def close(self) -> None:
        """Answer no more."""
        assert self._transport is not None
        self._transport.close()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Mirror]:
    """Run one on this loop for the length of the block."""
    loop = asyncio.get_running_loop()
    _, mirror = await loop.create_datagram_endpoint(Mirror, local_addr=(loopback(), 0))
    try:
        yield mirror
    finally:
        mirror.close()


@contextlib.contextmanager
def in_a_thread() -> Iterator[Mirror]:
    """Run one in a thread of its own, for tests that are no coroutines."""
    started: threading.Event = threading.Event()
    parts: list[Mirror] = []
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with running() as mirror:
            parts.append(mirror)
            started.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="mirror")
    thread.start()
    try:
        assert started.wait(10)
        yield parts[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()
