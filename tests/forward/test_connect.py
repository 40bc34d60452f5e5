"""Connections to upstreams that refuse, stall, or serve only some."""

import asyncio
import socket
import time

import pytest

from resolver.errors import UpstreamError, UpstreamRefused, UpstreamTimeout
from resolver.forward import connect, learned, tcp
from resolver.forward.tcp import PROOF_S
from tests.forward.streams import Line, answer_all, names, pool_to, reply, say_nothing, server, swallowing
from tests.support import scripted
from tests.support.addresses import free_port, loopback


async def test_refused_is_said_at_once_and_not_tried_for_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    host = loopback()
    attempts = 0
    real_connect = connect.connect

    async def counting(*arguments: object) -> socket.socket:
        nonlocal attempts
        attempts += 1
        return await real_connect(*arguments)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(tcp, "connect", counting)
    async with pool_to(host, free_port(host)) as pool:
        began_s = time.monotonic()
        for _ in range(5):
            results = await asyncio.gather(*(pool.ask(name) for name in names(40)), return_exceptions=True)
            assert {type(result) for result in results} == {UpstreamRefused}
        assert time.monotonic() - began_s < 1
        assert attempts <= 8 + 5


async def test_an_upstream_that_comes_back_is_used_again() -> None:
    async with scripted.running() as upstream, pool_to(upstream.host, upstream.port) as pool:
        await pool.ask("web.example.")
        await upstream.refuse()
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await pool.ask("web.example.")
        await upstream.reopen()
        pool.clock.jump(learned.RETRY_MAX_S)
        await pool.ask("web.example.")


async def test_a_connection_that_stalls_is_given_up_in_time() -> None:
    with swallowing(loopback()) as (listening, _):
        async with pool_to(*listening.getsockname()) as pool:
            asking = pool.start("web.example.")
            await pool.ticks()
            pool.clock.jump(connect.CONNECT_S)
            with pytest.raises(UpstreamTimeout, match=r"no TCP connection within 0\.4 s"):
                await asyncio.wait_for(asking, 0.2)


async def test_a_lost_syn_costs_the_second_port_and_not_a_second() -> None:
    """The kernel would repeat a lost SYN after 1 s; the first attempt is stuck there, the second comes through."""
    with swallowing(loopback()) as (listening, fillers):
        listening.setblocking(False)
        async with pool_to(*listening.getsockname()) as pool:
            asking = pool.start("web.example.")
            await pool.ticks()
            for _ in fillers:
                listening.accept()[0].close()
            pool.clock.jump(connect.SECOND_S)
            loop = asyncio.get_running_loop()
            served, _ = await asyncio.wait_for(loop.sock_accept(listening), 0.5)
            wire = await loop.sock_recv(served, 1_000)
            await loop.sock_sendall(served, wire[:2] + reply(wire[2:]))
            await asyncio.wait_for(asking, 0.2)
            served.close()


@pytest.mark.parametrize("third", ["is closed", "is never served"])
async def test_an_upstream_that_serves_two_connections_at_a_time(third: str) -> None:
    async def two_only(line: Line) -> None:
        if line.number >= 2 and third == "is closed":
            return
        await (answer_all if line.number < 2 else say_nothing)(line)

    async with server(two_only) as upstream, pool_to(upstream.host, upstream.port) as pool:
        began_s = time.monotonic()
        await asyncio.gather(*(pool.ask(name) for name in names(100)))
        assert time.monotonic() - began_s < PROOF_S + 1
        connections = len(upstream.lines)
        assert connections <= learned.CONNECTIONS_MAX + 2
        for _ in range(5):
            await asyncio.wait_for(asyncio.gather(*(pool.ask(name) for name in names(100))), 1)
        assert len(upstream.lines) == connections


async def test_a_new_connection_that_stalls_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection's SYN is dropped; its question goes to one that works after 150 ms."""
    monkeypatch.setattr(connect, "CONNECT_S", 60.0)
    with swallowing(loopback()) as (listening, fillers):
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in fillers:
            listening.accept()[0].close()
        async with pool_to(*listening.getsockname()) as pool:
            first = pool.start("first.example.")
            served, _ = await asyncio.wait_for(loop.sock_accept(listening), 1)
            question = await loop.sock_recv(served, 1_000)
            await loop.sock_sendall(served, question[:2] + reply(question[2:]))
            await first
            # The queue is full again from here on.
            more = [socket.socket() for _ in range(3)]
            for filler in more:
                filler.setblocking(False)
                filler.connect_ex(listening.getsockname())
            busy = pool.start("busy.example.")
            await pool.ticks()
            other = pool.start("other.example.")
            await pool.ticks()
            questions = await loop.sock_recv(served, 1_000)
            assert b"other" not in questions
            pool.clock.jump(connect.SECOND_S)
            questions += await asyncio.wait_for(loop.sock_recv(served, 1_000), 1)
            size = 2 + int.from_bytes(questions[:2], "big")
            for each in (questions[:size], questions[size:]):
                await loop.sock_sendall(served, each[:2] + reply(each[2:]))
            await asyncio.gather(busy, other)
            for filler in (*more, served):
                filler.close()
