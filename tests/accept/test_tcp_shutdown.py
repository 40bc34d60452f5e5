"""The end of the TCP side: what has arrived is answered, nobody meets a reset, and nothing is left behind."""

import asyncio
import os
import socket
from collections.abc import Awaitable

import pytest

from resolver.wire.framing import frame
from tests.accept.serving import Served, is_closed, question, response, serving
from tests.support import codecs

lane = codecs.both(Served.__module__, "visits")


async def while_draining(served: Served, within_s: float, story: Awaitable[None]) -> None:
    drained = asyncio.create_task(served.server.drain(within_s))
    await story
    await asyncio.wait_for(drained, 5)


async def test_drain_lets_questions_finish_and_takes_no_new_connection() -> None:
    async with serving() as served, await served.connect() as idle, await served.connect() as waiting:
        waiting.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)

        async def story() -> None:
            assert await is_closed(idle)
            with pytest.raises(ConnectionRefusedError):
                await served.connect()
            served.answers.release()
            assert await waiting.receive() == response(1, b"later")
            assert await waiting.at_end()

        await while_draining(served, 5.0, story())
        assert served.server.open_connections == 0


async def test_drain_answers_what_was_sent_before_it_began() -> None:
    async with serving() as served, await served.connect() as client:
        await served.settled()
        late = socket.create_connection((served.host, served.port))  # completed by the kernel, not taken yet
        late.send(frame(question(3)))
        client.send(question(2))
        await served.server.drain(5.0)
        assert await client.receive() == response(2)
        late.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(late, 100) == frame(response(3))
        late.close()


async def test_drain_reads_what_has_arrived_on_open_connections() -> None:
    async with serving() as served:
        sock = socket.create_connection((served.host, served.port))
        await served.settled()
        await served.until(lambda: served.server.open_connections == 1)
        sock.send(frame(question(2)))
        await served.server.drain(5.0)
        sock.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == frame(response(2))
        sock.close()


async def test_drain_reads_what_has_arrived_on_more_connections_than_have_a_turn_at_once() -> None:
    async with serving() as served:
        clients = [socket.create_connection((served.host, served.port)) for _ in range(250)]
        await served.until(lambda: served.server.open_connections == 250)
        for client in clients:
            client.send(frame(question(2)))
        await served.server.drain(5.0)
        assert [client.recv(100) for client in clients] == [frame(response(2))] * 250
        for client in clients:
            client.close()


async def test_what_has_ended_leaves_no_descriptor() -> None:
    counts = []
    for _ in range(3):  # the first time, the loop opens some of its own
        async with serving() as served:
            await served.settled()
            await served.until(lambda: served.server.open_connections == 0)
            await served.server.drain(5.0)
        await asyncio.sleep(0)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] == counts[2]


async def test_a_question_that_crosses_our_end_meets_eof_and_no_reset() -> None:
    async with serving() as served:
        sock = socket.create_connection((served.host, served.port))
        await served.until(lambda: served.server.open_connections == 1)
        sock.setblocking(False)
        draining = asyncio.create_task(served.server.drain(5.0))
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(sock, 100) == b""
        for number in range(3):
            await loop.sock_sendall(sock, frame(question(number)))  # a reset would make the second one fail
            for _ in range(10):
                await asyncio.sleep(0)
        assert await loop.sock_recv(sock, 100) == b""
        sock.close()
        await asyncio.wait_for(draining, 5)


async def test_drain_ends_at_its_deadline() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"never"))
        await served.until(lambda: served.answers.asked)

        async def story() -> None:
            await served.ticks(2)
            assert served.server.open_connections == 1
            served.clock.jump(5.0)

        await while_draining(served, 5.0, story())
        assert await is_closed(client)
