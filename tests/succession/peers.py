"""The other side of a hand-over, played by a test: it says as much as the test wants, and then stops or goes.

async with Old(directory, place, steps=4, then="silent"): ...      # a predecessor
await follow(directory, steps=2, then="closes")                    # a successor
"""

import array
import asyncio
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from resolver.cache.cache import Cache
from resolver.cache.ledger import Ledger
from resolver.cache.options import CacheOptions
from resolver.cache.snapshot import HEAD_BYTES, Identity, Taken, encode
from resolver.succession import _where_we_are
from resolver.system.handover import CACHE, COUNT, GREETING, LIFELINE, MAGIC, NODE, SERVES, SOCKETS, VERSION, WANT
from tests.cache.test_snapshot import put

Then = Literal["silent", "closes", "garbage", "trickles"]

OLD_STEPS = ("nothing", "greeting", "node", "lifeline", "sockets", "cache", "half of it", "all of it")
NEW_STEPS = ("nothing", "greeting", "want", "takes all", "serves")

TRICKLE_S = 0.2


def frame(kind: int, payload: bytes = b"") -> bytes:
    """As `resolver.cache.frames` has it, spelt out: the format is a promise."""
    from zlib import crc32

    head = kind.to_bytes(1, "big") + len(payload).to_bytes(4, "big")
    return head + crc32(head + payload).to_bytes(4, "big") + payload


class Old:
    """A predecessor that has sockets at `place` and 300 answers, and stops after so many of OLD_STEPS."""

    def __init__(self, directory: Path, place: tuple[str, int], steps: int, then: Then, clock_s: float) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.sockets = [_bound(place, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        self.heard = b""
        self._path = directory / "9-fake.handover"
        self._steps = steps
        self._then = then
        self._clock_s = clock_s
        self._place = place
        self._lifeline = os.pipe()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.setblocking(False)
        self._task: asyncio.Task[None] | None = None
        self._words: list[tuple[bytes, list[int]]] = []

    async def __aenter__(self) -> Self:
        self._words = self._all_words(*await asyncio.get_running_loop().run_in_executor(None, _where_we_are))
        self._listening.bind(str(self._path))
        self._listening.listen()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        self.give_up()
        self._listening.close()
        for end in self._lifeline:
            os.close(end)

    def give_up(self) -> None:
        """Close its sockets: whoever took them has them alone."""
        for sock in self.sockets:
            sock.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        sock, _ = await loop.sock_accept(self._listening)
        with sock:
            for number, (data, fds) in enumerate(self._words):
                if number < self._steps:
                    if number == OLD_STEPS.index("lifeline"):
                        await self._hear(sock, GREETING.size + len(frame(WANT)))
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                    if data:
                        sock.sendmsg([data], ancillary)
                elif self._then == "trickles":
                    for octet in data:
                        await asyncio.wait({loop.create_future()}, timeout=TRICKLE_S)
                        sock.send(bytes((octet,)))
            if self._then == "garbage":
                sock.send(os.urandom(100))
            if self._then != "closes":
                while data := await loop.sock_recv(sock, 4096):
                    self.heard += data

    async def _hear(self, sock: socket.socket, number: int) -> None:
        while len(self.heard) < number:
            data = await asyncio.get_running_loop().sock_recv(sock, 4096)
            assert data, "it has closed"
            self.heard += data

    def _all_words(self, boot_id: bytes, node: bytes) -> list[tuple[bytes, list[int]]]:
        options = CacheOptions(success_capacity=1_000)
        cache = Cache(options, Ledger(10**9))
        for number in range(300):
            put(cache, f"k{number}.example.", self._clock_s, 300, 1)
        here: Identity = ((".",), (self._place,))
        snapshot = b"".join(encode(Taken(boot_id, 0.0, self._clock_s), [(here, cache)]))
        middle = len(snapshot) // 2
        return [
            (b"", []),
            (GREETING.pack(MAGIC, VERSION), []),
            (frame(NODE, node), []),
            (frame(LIFELINE), list(self._lifeline)),
            (frame(SOCKETS, COUNT.pack(2)), [sock.fileno() for sock in self.sockets]),
            (frame(CACHE, snapshot[:HEAD_BYTES]), []),
            (snapshot[HEAD_BYTES:middle], []),
            (snapshot[middle:], []),
        ]


def _bound(place: tuple[str, int], kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(place)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


class New:
    """A successor that has said so many of NEW_STEPS; `close` ends it."""

    def __init__(self, directory: Path) -> None:
        (self._path,) = directory.glob("*.handover")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._fds: list[int] = []
        self.taken = b""

    async def say(self, steps: int) -> None:
        """Say what comes up to this step, and hear what there is to hear."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, str(self._path))
        words = [b"", GREETING.pack(MAGIC, VERSION), frame(WANT), b"", frame(SERVES)]
        for number, word in enumerate(words[:steps]):
            if word:
                await loop.sock_sendall(self._socket, word)
            if number == 3:
                await self._take_all()

    async def garbage(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, os.urandom(200))

    async def _take_all(self) -> None:
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, readable.set)
        try:
            while frame(3, (0).to_bytes(8, "big"))[:5] not in self.taken:  # the head of an END frame
                await readable.wait()
                readable.clear()
                try:
                    data, ancillary, _, _ = self._socket.recvmsg(65536, 4096)
                except BlockingIOError:
                    continue
                assert data, "it has closed"
                self.taken += data
                for _, _, content in ancillary:
                    fds = array.array("i")
                    fds.frombytes(content)
                    self._fds += fds
        finally:
            loop.remove_reader(self._socket)

    @property
    def sockets(self) -> int:
        """How many sockets it was given."""
        return max(0, len(self._fds) - 2)

    def close(self) -> None:
        self._socket.close()
        while self._fds:
            os.close(self._fds.pop())
