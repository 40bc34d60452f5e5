"""What the tests of TCP and TLS upstreams share: a pool with a clock that jumps, and servers told what to do."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from resolver.clock import TICK_S, Timers
from resolver.forward.tcp import StreamPool
from resolver.metrics import ConnCounts
from tests.support.addresses import loopback
from tests.support.client import query
from tests.support.jumping import JumpingClock

TIMEOUT_S = 2.0


class Pool:
    """A `StreamPool` with what it needs."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        source_address: str = "",
        expire_s: float = 10.0,
        max_age_s: float = 0.0,
        max_idle_conns: int = 0,
    ) -> None:
        self.clock = JumpingClock()
        self.counts = ConnCounts()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.pool = StreamPool(
            host,
            port,
            tls=tls,
            server_name=server_name,
            source_address=source_address,
            timers=self.timers,
            expire_s=expire_s,
            max_age_s=max_age_s,
            max_idle_conns=max_idle_conns,
            counts=self.counts,
        )

    def start(self, name: str, timeout_s: float = TIMEOUT_S) -> "asyncio.Task[bytes]":
        """Ask in a task of its own."""
        return asyncio.create_task(self.ask(name, timeout_s))

    async def ask(self, name: str, timeout_s: float = TIMEOUT_S) -> bytes:
        """Ask for A of `name` and check that the answer is for this question."""
        wire = query(name).to_wire()
        answer = await self.pool.ask(wire, timeout_s)
        assert answer[:2] == wire[:2]
        assert answer[12 : len(wire)].lower() == wire[12:].lower()
        return answer

    async def until(self, holds: Callable[[], object]) -> None:
        """Return when `holds()` does: what the kernel and the other end do has no event to wait for."""
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 see above
                await asyncio.sleep(TICK_S / 4)

    async def ticks(self, count: int = 3) -> None:
        """Return when the timers have looked at their clock."""
        await self.timers.sleep(count * TICK_S)


@contextlib.asynccontextmanager
async def pool_to(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    source_address: str = "",
    expire_s: float = 10.0,
    max_age_s: float = 0.0,
    max_idle_conns: int = 0,
) -> AsyncIterator[Pool]:
    """Run a pool for the length of the block; when it is left, nothing of it may be open."""
    pool = Pool(
        host,
        port,
        tls=tls,
        server_name=server_name,
        source_address=source_address,
        expire_s=expire_s,
        max_age_s=max_age_s,
        max_idle_conns=max_idle_conns,
    )
    try:
        yield pool
    finally:
        await pool.pool.close()
        pool.timers.close()
        assert not pool.pool.streams.opened
        assert not pool.pool.waiting


class Line:
    """One connection as a server sees it. `number` counts from 0."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def question(self) -> bytes:
        """Return the next question; EOFError at the end."""
        (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        return await self.reader.readexactly(length)

    def answer(self, question: bytes) -> None:
        """Send a NOERROR without records."""
        self.send(reply(question))

    def send(self, message: bytes) -> None:
        self.writer.write(struct.pack("!H", len(message)) + message)


class Server:
    """A TCP server; `asked` are the questions that a `Line` read."""

    def __init__(self) -> None:
        self.host = loopback()
        self.port = 0
        self.lines: list[Line] = []


def reply(question: bytes) -> bytes:
    """A NOERROR without records."""
    return question[:2] + b"\x81\x80" + question[4:6] + b"\0" * 6 + question[12:]


@contextlib.asynccontextmanager
async def server(
    serve: Callable[[Line], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Run `serve` for each connection, which is closed when it returns."""
    made = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        line = Line(len(made.lines), reader, writer)
        made.lines.append(line)
        try:
            await serve(line)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the pool has closed the connection, or the test has ended
        finally:
            tasks.discard(task)
            writer.close()

    listening = await asyncio.start_server(connected, made.host, 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        for line in made.lines:
            line.writer.transport.abort()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


async def answer_all(line: Line) -> None:
    while True:
        line.answer(await line.question())


async def say_nothing(line: Line) -> None:
    await line.reader.read()


def names(count: int) -> list[str]:
    return [f"host{number}.example.com." for number in range(count)]


@contextlib.contextmanager
def swallowing(host: str) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket whose queue is full: the kernel drops every SYN. The second part fills the queue."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, 0))
        listening.listen(0)
        fillers = []
        for _ in range(5):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.05)
            try:
                filler.connect(listening.getsockname())
            except TimeoutError:
                break
            fillers.append(filler)
        yield listening, fillers
