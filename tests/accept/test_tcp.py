"""The TCP side: many questions on one connection, answers as they are ready, and how connections end."""

import asyncio
import contextlib
import itertools
import os
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from resolver.accept.stream import Stream
from resolver.wire.framing import frame
from tests.accept.serving import Served, question, reset, response, serving
from tests.support import codecs

lane = codecs.both(Served.__module__, "visits")


@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 1_000])
async def test_any_split_of_the_stream_is_answered(chunk_bytes: int) -> None:
    stream = b"".join(frame(question(number)) for number in range(5))
    async with serving() as served, await served.connect() as client:
        for start in range(0, len(stream), chunk_bytes):
            client.send_raw(stream[start : start + chunk_bytes])
            await asyncio.sleep(0)
        assert [await client.receive() for _ in range(5)] == [response(number) for number in range(5)]


async def test_answers_leave_as_they_are_ready() -> None:
    async with serving() as served, await served.connect() as client:
        for number, kind in enumerate((b"later", b"now", b"later", b"at once")):
            client.send(question(number, kind))
        assert await client.receive() == response(1)
        assert await client.receive() == response(3, b"at once")
        served.answers.release()
        assert await client.receive() == response(2, b"later")
        assert await client.receive() == response(0, b"later")
        assert served.answers.latest is not None
        assert served.answers.latest.is_idle


async def test_several_thousand_questions_at_once_are_all_answered_in_order() -> None:
    stream = b"".join(frame(question(number)) for number in range(5_000))
    async with serving() as served, await served.connect() as client:
        client.send_raw(stream)
        assert [await client.receive() for _ in range(5_000)] == [response(number) for number in range(5_000)]


async def test_the_client_has_a_name() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        host, port = client.writer.get_extra_info("sockname")
        assert served.answers.waiting[0][1].client_text == f"{host}:{port}"


#    the kernel's peer address, its text
PEERS = [
    pytest.param(("10.0.0.7", 41832), "10.0.0.7:41832", id="IPv4"),
    pytest.param(("::1", 53, 0, 0), "[::1]:53", id="IPv6"),
    pytest.param(("::ffff:10.0.0.7", 53, 0, 0), "10.0.0.7:53", id="IPv4 on an IPv6 socket"),
]


@pytest.mark.parametrize(("peer", "text"), PEERS)
async def test_client_text(peer: tuple[Any, ...], text: str) -> None:
    async with serving() as served:
        assert Stream(served.server._desk, -1, peer, 0.0).client_text == text


@contextlib.asynccontextmanager
async def recorded() -> AsyncIterator[tuple[Served, socket.socket]]:
    """A client's socket that has each write of the server as a record of its own."""
    async with serving() as served:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        served.server.take(theirs.detach(), ("192.0.2.1", 5), served.clock())
        with ours:
            yield served, ours


def writes(client: socket.socket) -> list[bytes]:
    seen = []
    with contextlib.suppress(BlockingIOError):
        while True:
            seen.append(client.recv(1 << 20))
    return seen


async def test_questions_of_one_read_are_answered_with_one_write() -> None:
    async with recorded() as (served, client):
        client.send(b"".join(frame(question(number)) for number in range(50)))
        served.server._desk.look()
        assert writes(client) == [b"".join(frame(response(number)) for number in range(50))]


async def test_late_answers_of_one_turn_leave_with_one_write() -> None:
    async with recorded() as (served, client):
        client.send(b"".join(frame(question(number, b"later")) for number in range(50)))
        served.server._desk.look()
        served.answers.release()
        assert writes(client) == []
        await asyncio.sleep(0)
        assert writes(client) == [b"".join(frame(response(number, b"later")) for number in reversed(range(50)))]


async def test_an_answer_does_not_wait_until_the_one_before_it_is_acknowledged() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        with socket.socket(fileno=os.dup(served.answers.waiting[0][1].fd)) as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_flood_on_some_connections_does_not_hold_up_a_turn_or_the_others() -> None:
    async with serving() as served:
        clients = [socket.create_connection((served.host, served.port)) for _ in range(10)]
        for client in clients:
            client.send(b"".join(frame(question(number)) for number in range(200)))
        served.server.accept()
        served.server._desk.look()
        assert len(served.answers.asked) <= 128
        in_turns = [0]
        while len(served.answers.asked) < 2_000:
            in_turns.append(len(served.answers.asked))
            await asyncio.sleep(0)
        longest = max(after - before for before, after in itertools.pairwise(in_turns))
        assert longest <= 2 * 128
        # Everybody had had a first turn before anybody had the last.
        assert served.answers.asked[:1_000].count(0) == 10
        for client in clients:
            client.close()


# The end of a connection


async def test_a_client_that_has_said_its_last_gets_its_answers() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        client.send(question(2))
        client.writer.write_eof()
        assert await client.receive() == response(2)
        await served.until(lambda: served.answers.waiting)
        served.answers.release()
        assert await client.receive() == response(1, b"later")
        assert await client.at_end()
        await served.until(lambda: served.server.open_connections == 0)


async def test_a_client_that_leaves_disturbs_nobody() -> None:
    async with serving() as served, await served.connect() as stayer:
        leaver = await served.connect()
        leaver.send(question(1, b"later"))
        stayer.send(question(2, b"later"))
        await served.until(lambda: len(served.answers.waiting) == 2)
        reset(leaver)
        await served.until(lambda: served.server.open_connections == 1)
        served.answers.release()
        assert await stayer.receive() == response(2, b"later")


async def test_a_reset_in_the_middle_of_an_answer_disturbs_nobody() -> None:
    async with serving() as served, await served.connect() as stayer:
        for _ in range(5):
            leaver = await served.connect()
            for number in range(20):
                leaver.send(question(number, b"big"))
            await leaver.reader.readexactly(1_000)
            reset(leaver)
        stayer.send(question(1))
        assert await stayer.receive() == response(1)
        await served.until(lambda: served.server.open_connections == 1)


BROKEN = [
    pytest.param(b"\0\0", id="a message of nothing"),
    pytest.param(b"\0\13" + b"x" * 11, id="a byte less than a header"),
    pytest.param(b"\0\0" * 30_000, id="thousands of nothing"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: resolver\r\n\r\n" + b"\0\0", id="HTTP"),
]


@pytest.mark.parametrize("stream", BROKEN)
async def test_a_stream_out_of_step_is_closed_after_what_was_asked_in_step(stream: bytes) -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        client.send_raw(stream)
        client.writer.write_eof()
        await served.ticks(2)
        served.answers.release()
        assert await client.receive() == response(1, b"later")
        with contextlib.suppress(ConnectionError):
            assert await client.at_end()
        await served.until(lambda: served.server.open_connections == 0)
        assert served.answers.asked == [1]


async def test_garbage_from_many_clients() -> None:
    randomly = random.Random(7)
    async with serving() as served:
        for _ in range(50):
            async with await served.connect() as client:
                client.send_raw(randomly.randbytes(randomly.randrange(1, 5_000)))
        await served.settled()
        await served.until(lambda: served.server.open_connections <= 1)
