"""Nothing that a client does or leaves undone lasts for ever or grows without end."""

import asyncio
import socket

import pytest

from resolver.status.options import HttpOptions
from tests.status.browser import (
    CLOSE,
    Running,
    read_one,
    request,
    running,
    talk,
)


async def closed_after(run: Running, reader: asyncio.StreamReader, seconds: float) -> None:
    """The connection lives just short of `seconds` and is closed at `seconds`."""
    run.clock.jump(seconds - 0.5)
    await run.timers.sleep(0.02)
    assert run.server.connections
    run.clock.jump(0.6)
    await run.everybody_is_late()
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
        await run.everybody_is_late()
        assert await reader.read() == b""
        writer.close()


async def test_who_does_not_read_is_closed() -> None:
    async with running(HttpOptions(write_s=2.0)) as run:
        asking = socket.socket()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.setblocking(False)
        await asyncio.get_running_loop().sock_connect(asking, run.address)
        await asyncio.get_running_loop().sock_sendall(asking, request("/long"))
        await run.until(lambda: [one for one in run.server.connections if one._unsent])
        run.clock.jump(2.1)
        await run.everybody_is_late()
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
