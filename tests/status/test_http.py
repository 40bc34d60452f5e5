"""The HTTP server of the status pages: what it answers, what it refuses, and that nothing lasts for ever."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.clock import Timers
from resolver.errors import AddressInUse, ResolverError
from resolver.metrics import Registry
from resolver.report.series import SeriesTable
from resolver.status.connection import Connection, Page, Response
from resolver.status.exposition import Exposition
from resolver.status.health import Health
from resolver.status.http import HttpServer, ListenError
from resolver.status.options import HealthOptions, HttpOptions, PrometheusOptions, ReadyOptions
from resolver.status.pages import Pages
from resolver.status.ready import Readiness
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

#        request, status, body
ANSWERS = [
    pytest.param(request("/hello", "GET", CLOSE), 200, b"hello", id="a page"),
    pytest.param(request("/hello?x=1", "GET", CLOSE), 200, b"hello", id="with a query"),
    pytest.param(request("http://node:8080/hello", "GET", CLOSE), 200, b"hello", id="absolute form"),
    pytest.param(request("/hello", "HEAD", CLOSE), 200, b"", id="HEAD"),
    pytest.param(b"GET /hello HTTP/1.0\r\n\r\n", 200, b"hello", id="HTTP/1.0"),
    pytest.param(request("/other", "GET", CLOSE), 404, b"404 page not found\n", id="no such page"),
    pytest.param(request("/hello/", "GET", CLOSE), 404, b"404 page not found\n", id="paths are exact"),
    pytest.param(request("/hello", "DELETE", CLOSE), 405, b"only GET and HEAD\n", id="DELETE"),
    pytest.param(request("*", "OPTIONS", CLOSE), 404, b"404 page not found\n", id="OPTIONS *"),
    pytest.param(request("node:443", "CONNECT", CLOSE), 404, b"404 page not found\n", id="CONNECT"),
    pytest.param(
        request("/hello", "POST", CLOSE, "Content-Length: 3") + b"abc", 405, b"only GET and HEAD\n", id="POST"
    ),
    pytest.param(
        request("/hello", "GET", CLOSE, "Content-Length: 3") + b"abc", 200, b"hello", id="a body is dropped"
    ),
    pytest.param(
        request("/hello", "GET", "Upgrade: h2c", "Connection: upgrade, close"), 200, b"hello", id="no upgrade"
    ),
    pytest.param(b"GET /hello\r\n\r\n", 400, None, id="HTTP/0.9"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, None, id="TLS"),
    pytest.param(b"GET /hello HTTP/1.1\r\n\r\n", 400, None, id="no Host"),
    pytest.param(b"GET /hello HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, None, id="bad header"),
    pytest.param(request("/hello", "GET", "Content-Length: -1"), 400, None, id="bad length"),
    pytest.param(request("/hello", "GET", "Transfer-Encoding: gzip"), 501, None, id="unknown encoding"),
    pytest.param(b"GET /" + b"x" * 20_000, 431, None, id="a target that does not end"),
    pytest.param(request()[:-2] + b"X: " + b"y" * 20_000, 431, None, id="a header that does not end"),
    pytest.param(request()[:-2] + b"X: y\r\n" * 4_000, 431, None, id="headers that do not end"),
    pytest.param(request("/hello", "POST", "Content-Length: 70000") + b"z" * 70_000, 413, None, id="long body"),
    pytest.param(
        request("/hello", "POST", "Content-Length: 5", "Expect: 100-continue"), 417, None, id="100-continue"
    ),
]


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


@pytest.mark.parametrize(("sent", "status", "body"), ANSWERS)
@pytest.mark.parametrize("pieces", ["whole", "in pieces"])
async def test_answers(sent: bytes, status: int, body: bytes | None, pieces: str) -> None:
    # Long ones would take long byte by byte, and what they test is their length.
    size = len(sent) if pieces == "whole" else 1 if len(sent) < 1000 else 4000
    parts = [sent[start : start + size] for start in range(0, len(sent), size)]
    async with running() as run:
        data = await talk(run.address, *parts)
        method = "HEAD" if sent.startswith(b"HEAD") else "GET"
        response, got = read_one(data, method)
        assert response.status_code == status
        headers = dict(response.headers)
        assert headers[b"connection"] == b"close"
        if body is not None:
            assert got == body
        if method == "HEAD":
            assert headers[b"content-length"] == b"5"
        assert (headers.get(b"allow") == b"GET, HEAD") == (status == 405)
        await run.everybody_is_gone()


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order() -> None:
    async with running() as run:
        sent = request() + request("/none") + request("/hello", "HEAD") + request("/hello", "GET", CLOSE)
        found = read_all(await talk(run.address, sent), ["GET", "GET", "HEAD", "GET"])
        assert [(response.status_code, body) for response, body in found] == [
            (200, b"hello"), (404, b"404 page not found\n"), (200, b""), (200, b"hello"),
        ]  # fmt: skip


async def test_who_closes_his_side_still_gets_his_answer() -> None:
    async with running() as run:
        response, body = read_one(await talk(run.address, request(), end=True))
        assert (response.status_code, body) == (200, b"hello")


async def test_a_page_that_fails_is_500_and_is_told() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    async with running() as run:
        response, _ = read_one(await talk(run.address, request("/fails", "GET", CLOSE)))
        assert response.status_code == 500
    assert [str(context["exception"]) for context in told] == ["a bug"]


async def closed_after(run: Running, reader: asyncio.StreamReader, seconds: float) -> None:
    """The connection lives just short of `seconds` and is closed at `seconds`."""
    run.clock.jump(seconds - 0.5)
    await run.timers.sleep(0.02)
    assert run.server.connections
    run.clock.jump(0.6)
    await run.everybody_is_gone()
    assert await reader.read() == b""


SLOW = [
    pytest.param(b"", id="says nothing"),
    pytest.param(b"GET /hel", id="stops in the middle"),
    pytest.param(request("/hello", "POST", "Content-Length: 5") + b"ab", id="stops in the body"),
    pytest.param(request("/waits"), id="our page takes too long"),
]


@pytest.mark.parametrize("sent", SLOW)
async def test_slow_clients_are_closed(sent: bytes) -> None:
    async with running() as run:
        reader, writer = await asyncio.open_connection(*run.address)
        writer.write(sent)
        await run.until(lambda: run.server.connections)
        await run.timers.sleep(0.02)
        await closed_after(run, reader, 5.0)
        writer.close()


async def test_one_byte_at_a_time_does_not_extend_the_deadline() -> None:
    async with running() as run:
        reader, writer = await asyncio.open_connection(*run.address)
        for byte in b"GET /":
            writer.write(bytes((byte,)))
            await run.timers.sleep(0.02)
            run.clock.jump(1.1)
        await run.everybody_is_gone()
        assert await reader.read() == b""
        writer.close()


async def test_who_does_not_read_is_closed() -> None:
    async with running() as run:
        asking = socket.socket()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.setblocking(False)
        await asyncio.get_running_loop().sock_connect(asking, run.address)
        await asyncio.get_running_loop().sock_sendall(asking, request("/long"))
        await run.until(lambda: [one for one in run.server.connections if one._unsent])
        run.clock.jump(5.1)
        await run.everybody_is_gone()
        asking.close()


async def test_what_is_sent_while_we_answer_stays_in_the_kernel() -> None:
    async with running() as run:
        _, writer = await asyncio.open_connection(*run.address)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(request("/waits"))
        await run.until(lambda: run.answering)
        (connection,) = run.server.connections
        writer.write(b"x" * 8_000_000)
        await run.timers.sleep(0.05)
        assert len(connection._http.trailing_data[0]) < 300_000
        writer.transport.abort()
        run.clock.jump(5.1)  # while reading is paused, nobody sees him leave
        await run.everybody_is_gone()


async def test_connections_are_bounded() -> None:
    async with running(HttpOptions(connections_max=2)) as run:
        kept = [await asyncio.open_connection(*run.address) for _ in range(2)]
        await run.until(lambda: len(run.server.connections) == 2)
        assert await talk(run.address, request("/hello", "GET", CLOSE)) == b""
        kept[0][1].close()
        await run.until(lambda: len(run.server.connections) == 1)
        response, _ = read_one(await talk(run.address, request("/hello", "GET", CLOSE)))
        assert response.status_code == 200
        kept[1][1].close()


async def test_closing_lets_an_answer_end() -> None:
    async with running() as run:
        asking = asyncio.ensure_future(talk(run.address, request("/waits")))
        idle_reader, idle_writer = await asyncio.open_connection(*run.address)
        await run.until(lambda: run.answering and len(run.server.connections) == 2)
        closing = asyncio.ensure_future(run.server.close())
        assert await idle_reader.read() == b"", "an idle connection is closed at once"
        idle_writer.close()
        run.may_answer.set()
        response, body = read_one(await asking)
        assert (response.status_code, body) == (200, b"at last")
        assert dict(response.headers)[b"connection"] == b"close"
        await closing


async def test_closing_does_not_wait_for_ever() -> None:
    async with running() as run:
        asking = asyncio.ensure_future(talk(run.address, request("/waits")))
        await run.until(lambda: run.answering)
        closing = asyncio.ensure_future(run.server.close())
        await asyncio.sleep(0)
        run.clock.jump(1.1)
        await closing
        assert await asking == b""


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


async def say(text: str) -> Response:
    return Response(200, text.encode())


def page(text: str) -> Page:
    return lambda: say(text)


async def test_swap_keeps_opens_and_closes_ports_without_a_gap() -> None:
    kept, gone, new = (f"127.0.0.1:{port}" for port in free_ports(3))
    async with running() as run:
        await run.server.swap({kept: {"/hello": hello, "/old": hello}, gone: {"/hello": hello}})
        at_kept, at_gone = run.server.addresses
        reader, writer = await asyncio.open_connection(*at_kept)
        writer.write(request("/old"))
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")

        await run.server.swap({kept: {"/hello": page("anew")}, new: {"/hello": hello}})
        assert run.server.addresses[0] == at_kept
        writer.write(request("/old"))  # the connection of before, the pages of now
        assert (await reader.readuntil(b"not found\n")).startswith(b"HTTP/1.1 404")
        writer.close()
        assert b"anew" in await talk(at_kept, request("/hello", "GET", CLOSE))
        assert b"hello" in await talk(run.server.addresses[1], request("/hello", "GET", CLOSE))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*at_gone)


async def test_one_address_in_two_spellings_is_one_listener() -> None:
    (port,) = free_ports(1)
    async with running() as run:
        await run.server.swap({f"localhost:{port}": {"/a": page("a")}, f"127.0.0.1:{port}": {"/b": page("b")}})
        assert run.server.addresses == (("127.0.0.1", port),)
        for name in ("a", "b"):
            _, body = read_one(await talk(run.address, request(f"/{name}", "GET", CLOSE)))
            assert body == name.encode()


async def refused_swap(run: Running, address: str, error: type[ResolverError], match: str) -> None:
    """`swap` to one more address fails, and everything is as it was."""
    before = run.server.addresses
    fresh = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(error, match=match):
        await run.server.swap({ANY: {"/hello": page("changed")}, fresh: {}, address: {}})
    assert run.server.addresses == before
    assert b"hello" in await talk(run.address, request("/hello", "GET", CLOSE))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(fresh.rpartition(":")[2]))


async def test_a_port_in_use_is_named_and_changes_nothing() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        text = f"127.0.0.1:{other.getsockname()[1]}"
        async with running() as run:
            await refused_swap(run, text, AddressInUse, rf"^{text} \(TCP\) is in use$")


async def test_a_foreign_address_is_named_and_changes_nothing() -> None:
    async with running() as run:
        await refused_swap(run, "192.0.2.1:8080", ListenError, r"^192\.0\.2\.1:8080 \(TCP\): ")
        await refused_swap(run, "nowhere:8080", ListenError, r"^'nowhere:8080': the host must be")


async def test_two_generations_share_a_port_unless_told_otherwise() -> None:
    (port,) = free_ports(1)
    text = f"127.0.0.1:{port}"
    async with running() as run:
        await run.server.swap({text: {}})
        alone = HttpServer(run.timers, shared=False)
        with pytest.raises(AddressInUse):
            await alone.swap({text: {}})
        successor = HttpServer(run.timers)
        await successor.swap({text: {}})
        await successor.close()


async def test_the_wildcard_takes_both_families() -> None:
    (port,) = free_ports(1)
    async with running() as run:
        await run.server.swap({f":{port}": {"/hello": hello}})
        assert b"hello" in await talk(("127.0.0.1", port), request("/hello", "GET", CLOSE))
        if run.server.addresses[0][0] == "::":
            assert b"hello" in await talk(("::1", port), request("/hello", "GET", CLOSE))


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Pieces:
    pages: Mapping[str, Page] = {"/hello": hello}


FRAGMENTS = [
    b"GET ", b"HEAD ", b"POST ", b"/hello", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: a\r\n", b"\r\n", b"\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n",
    b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20)), max_size=12), st.booleans())
def test_any_bytes_get_an_answer_or_a_close(parts: list[bytes], end: bool) -> None:
    complaints: list[Any] = []

    async def feed() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        clock = JumpingClock()
        timers = Timers(loop, clock)
        transport = Transport()
        connection = Connection(HttpServer(timers), Pieces())
        connection.connection_made(transport)
        for part in parts:
            connection.data_received(part)
            for _ in range(4):
                await asyncio.sleep(0)
        if end:
            connection.eof_received()
        clock.jump(6)
        while not transport.closing:
            await timers.sleep(0.01)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        timers.close()
        assert not transport.written or transport.written.startswith(b"HTTP/1.1 ")

    asyncio.run(feed())
    assert complaints == []


async def test_the_pages_of_the_process() -> None:
    health_at, other_at = (f"127.0.0.1:{port}" for port in free_ports(2))
    async with running() as run:
        health, readiness = Health(), Readiness()
        health.expect([("127.0.0.1", 53)])
        readiness.expect(["forward"])
        exposition = Exposition(Registry(), SeriesTable())
        pages = Pages(health, readiness, exposition, run.clock)
        routes = pages.routes(
            [HealthOptions(health_at)], [ReadyOptions(other_at)], [PrometheusOptions(other_at)] * 2
        )
        await run.server.swap(routes)
        first, other = run.server.addresses

        async def get(address: tuple[str, int], path: str) -> tuple[int, bytes, Callable[[str], str]]:
            response, body = read_one(await talk(address, request(path, "GET", CLOSE)))
            headers = dict(response.headers)
            return response.status_code, body, lambda name: headers[name.encode()].decode()

        assert (await get(first, "/health"))[:2] == (503, b"127.0.0.1:53/udp has not answered yet\n")
        assert (await get(other, "/ready"))[:2] == (503, b"forward")
        health.answered(("127.0.0.1", 53), run.clock())
        readiness.set("forward", True)
        assert (await get(first, "/health"))[:2] == (200, b"OK")
        assert (await get(other, "/ready"))[:2] == (200, b"OK")
        readiness.stop()
        assert (await get(other, "/ready"))[:2] == (503, b"Shutting down")
        assert (await get(first, "/ready"))[0] == 404
        status, body, header = await get(other, "/metrics")
        assert status == 200
        assert b"coredns_build_info{" in body
        assert header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        exposition.close()
