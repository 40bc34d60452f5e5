"""Ports are opened, kept, shared and closed as the routes say, and never half."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from resolver.errors import AddressInUse, ResolverError
from resolver.metrics import Registry
from resolver.report.series import SeriesTable
from resolver.status.connection import Page, Response
from resolver.status.exposition import Exposition
from resolver.status.health import Health
from resolver.status.http import HttpServer, ListenError
from resolver.status.options import HealthOptions, PrometheusOptions, ReadyOptions
from resolver.status.pages import Pages
from resolver.status.ready import Readiness
from tests.status.browser import (
    ANY,
    CLOSE,
    Running,
    free_ports,
    hello,
    read_one,
    request,
    running,
    talk,
)


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


async def told(port: int, times: int = 20) -> set[bytes]:
    """Fetch `/hello` so often, each time over a new connection; what the page said."""
    answers = [await talk(("127.0.0.1", port), request("/hello", "GET", CLOSE)) for _ in range(times)]
    return {answer.rpartition(b"\r\n")[2] for answer in answers}


async def test_nobody_is_connected_to_a_generation_that_has_not_begun() -> None:
    (port,) = free_ports(1)
    text = f"127.0.0.1:{port}"
    async with running() as run:
        await run.server.swap({text: {"/hello": hello}})
        expected = await told(port, 1)
        successor = HttpServer(run.timers, begun=False)
        try:
            await successor.swap({text: {}})
            assert await told(port) == expected
            await successor.begin()
            assert len(await told(port)) == 2, "the kernel spreads them: all to one of two once in a million times"
        finally:
            await successor.close()


async def test_the_wildcard_takes_both_families() -> None:
    (port,) = free_ports(1)
    async with running() as run:
        await run.server.swap({f":{port}": {"/hello": hello}})
        assert b"hello" in await talk(("127.0.0.1", port), request("/hello", "GET", CLOSE))
        if run.server.addresses[0][0] == "::":
            assert b"hello" in await talk(("::1", port), request("/hello", "GET", CLOSE))


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
