"""An HTTP server on a port of the kernel's choice, with a clock that jumps, and a client that says any bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h11

from resolver.clock import Timers
from resolver.status.connection import Connection, Response
from resolver.status.http import HttpServer
from resolver.status.options import HttpOptions
from tests.support.jumping import JumpingClock

ANY = "127.0.0.1:0"


async def hello() -> Response:
    return Response(200, b"hello")


async def fails() -> Response:
    raise ValueError("a bug")


async def long_page() -> Response:
    return Response(200, b"x" * 16_000_000)


class Running:
    """A server on a port of the kernel's choice, with a clock that jumps."""

    def __init__(self, options: HttpOptions | None) -> None:
        self.clock = JumpingClock()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.server = HttpServer(self.timers, options)
        self.may_answer = asyncio.Event()

    async def waits(self) -> Response:
        await self.may_answer.wait()
        return Response(200, b"at last")

    @property
    def address(self) -> tuple[str, int]:
        return self.server.addresses[0]

    async def until(self, happened: Callable[[], object]) -> None:
        """Return when `happened()` is true; the suite's limit ends what never is."""
        while not happened():
            await self.timers.sleep(0.01)

    async def everybody_is_gone(self) -> None:
        await self.until(lambda: not self.server.connections)

    async def everybody_is_late(self) -> None:
        """A deadline has just passed: all connections are closed within a few ticks, or the test fails."""
        await self.timers.sleep(0.05)
        await self.timers.sleep(0.05)
        assert not self.server.connections

    @property
    def answering(self) -> list[Connection]:
        """The connections that wait for a page."""
        return [one for one in self.server.connections if one._answering is not None]


@asynccontextmanager
async def running(options: HttpOptions | None = None) -> AsyncIterator[Running]:
    run = Running(options)
    await run.server.swap({ANY: {"/hello": hello, "/fails": fails, "/long": long_page, "/waits": run.waits}})
    try:
        yield run
    finally:
        await run.server.close()
        run.timers.close()


async def talk(address: tuple[str, int], *parts: bytes, end: bool = False) -> bytes:
    """Send `parts`, a turn of the loop between any two, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(target: str = "/hello", method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: node", *headers, "", ""]
    return "\r\n".join(lines).encode()


CLOSE = "Connection: close"


def read_one(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """Return the first response in `data`, as an HTTP client reads it."""
    ((response, body),) = read_all(data, [method])
    return response, body


def read_all(data: bytes, methods: list[str]) -> list[tuple[h11.Response, bytes]]:
    client = h11.Connection(h11.CLIENT)
    client.receive_data(data)
    client.receive_data(b"")
    found = []
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "node")]))
        client.send(h11.EndOfMessage())
        response = client.next_event()
        assert isinstance(response, h11.Response), response
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        found.append((response, body))
        if client.our_state is h11.DONE and client.their_state is h11.DONE:
            client.start_next_cycle()
    return found


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
