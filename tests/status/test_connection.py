"""What the HTTP server answers to one client, whatever he sends."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.clock import Timers
from resolver.status.connection import Connection, Page
from resolver.status.http import HttpServer
from tests.status.browser import (
    CLOSE,
    hello,
    read_all,
    read_one,
    request,
    running,
    talk,
)
from tests.support.jumping import JumpingClock

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


async def test_an_end_that_comes_early_does_not_cost_the_answer() -> None:
    """Some transports tell of the end while reading is paused."""
    timers = Timers(asyncio.get_running_loop(), JumpingClock())
    transport = Transport()
    connection = Connection(HttpServer(timers), Pieces())
    connection.connection_made(transport)
    connection.data_received(request())
    assert connection.eof_received(), "our direction stays open"
    for _ in range(4):
        await asyncio.sleep(0)
    assert transport.written.endswith(b"hello")
    assert transport.closing
    connection.connection_lost(None)
    timers.close()


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
