"""Upstreams over TCP that close: at once, after a few answers, out of step, for a restart."""

import asyncio
import socket
import struct
from collections import Counter

import pytest

from resolver.errors import UpstreamClosed, UpstreamTimeout
from resolver.forward import connect, learned, tcp
from tests.forward.streams import Line, names, pool_to, reply, say_nothing, server
from tests.support import scripted


@pytest.mark.parametrize("ending", ["close", "reset", "half an answer", "nothing, framed", "short message"])
async def test_a_question_on_a_connection_that_breaks_is_asked_again_once(ending: str) -> None:
    async def first_breaks(line: Line) -> None:
        question = await line.question()
        if line.number:
            line.answer(question)
            await say_nothing(line)
        elif ending == "reset":
            sock = line.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.writer.transport.abort()
        elif ending == "half an answer":
            line.writer.write(struct.pack("!H", 200) + reply(question)[:20])
        elif ending == "nothing, framed":
            line.send(b"")
            await say_nothing(line)
        elif ending == "short message":
            line.send(question[:2] + b"\x81\x80")
            await say_nothing(line)

    async with server(first_breaks) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await pool.ask("web.example.")
        assert len(upstream.lines) == 2


async def test_a_question_that_breaks_two_connections_fails() -> None:
    async def read_and_close(line: Line) -> None:
        await line.question()

    async with server(read_and_close) as upstream, pool_to(upstream.host, upstream.port) as pool:
        with pytest.raises(UpstreamClosed):
            await pool.ask("web.example.")
        assert len(upstream.lines) == 2


async def test_a_question_that_breaks_every_connection_breaks_two() -> None:
    poisoned = 0

    async def break_on_poison(line: Line) -> None:
        nonlocal poisoned
        while b"poison" not in (question := await line.question()):
            line.answer(question)
        poisoned += 1

    async with server(break_on_poison) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await pool.ask("web.example.")
        with pytest.raises(UpstreamClosed):
            await pool.ask("poison.example.")
        assert poisoned == 2
        await pool.ask("web.example.")


async def test_what_was_learned_of_a_server_that_has_changed_does_no_harm() -> None:
    """The first connection closes after 20 answers, with more to come; later ones never do."""

    async def first_closes(line: Line) -> None:
        for _ in range(1_000_000 if line.number else 20):
            line.answer(await line.question())
        await line.writer.drain()

    async with server(first_closes) as upstream, pool_to(upstream.host, upstream.port) as pool:
        for name in names(20):
            await pool.ask(name)
        await asyncio.gather(*(pool.ask(name) for name in names(50)))
        assert pool.pool.streams.learned.questions_max(pool.clock()) == 20
        for _ in range(5):
            await asyncio.wait_for(asyncio.gather(*(pool.ask(name) for name in names(100))), 1)


@pytest.mark.parametrize("carries", [1, 3])
async def test_a_server_that_closes_after_some_answers_loses_no_question(carries: int) -> None:
    async def close_after(line: Line) -> None:
        for _ in range(carries):
            line.answer(await line.question())
            asked.append(line.number)
        await line.writer.drain()

    asked: list[int] = []
    async with server(close_after) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await asyncio.gather(*(pool.ask(name) for name in names(60)))
        # Now it is known: nothing is put where it would be lost.
        asked.clear()
        lines = len(upstream.lines)
        await asyncio.gather(*(pool.ask(name) for name in names(60)))
        assert len(asked) == 60
        assert max(Counter(asked).values()) <= carries
        assert len(upstream.lines) - lines <= 60 // carries + 8
        assert pool.pool.streams.learned.questions_max(pool.clock()) == carries


async def test_an_upstream_that_restarts_loses_no_question() -> None:
    async with scripted.running() as upstream, pool_to(upstream.host, upstream.port) as pool:
        held = asyncio.Event()
        upstream.on("held.example.", "A", scripted.Reply(release=held))
        await asyncio.gather(*(pool.ask(name) for name in names(20)))
        asking = [pool.start("held.example.") for _ in range(5)]
        await upstream.seen(25)
        await upstream.hang_up()
        await upstream.seen(30)
        held.set()
        await asyncio.gather(*asking)


async def test_a_server_that_answers_once_serves_more_than_we_may_connect() -> None:
    """200 questions, one on each connection, never more than the bound at a time."""
    open_now: set[int] = set()
    most = 0

    async def once(line: Line) -> None:
        nonlocal most
        open_now.add(line.number)
        most = max(most, len(open_now))
        line.answer(await line.question())
        await line.writer.drain()
        open_now.discard(line.number)

    async with server(once) as upstream, pool_to(upstream.host, upstream.port) as pool:
        for _ in range(2):
            await asyncio.gather(*(pool.ask(name) for name in names(200)))
        assert most <= 2 * learned.SHORT_LIVED_MAX


@pytest.mark.usefixtures("one_connection")
async def test_who_waits_to_be_asked_again_outlives_the_old_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection is suspect, and then closed while the second one is still being opened."""
    asked: list[int] = []
    may_connect, may_close = asyncio.Event(), asyncio.Event()
    may_connect.set()
    real_connect = connect.connect

    async def gated(*arguments: object) -> socket.socket:
        await may_connect.wait()
        return await real_connect(*arguments)  # type: ignore[arg-type]  # passed on as they are

    async def first_closes_late(line: Line) -> None:
        while True:
            question = await line.question()
            asked.append(line.number)
            if line.number:
                line.answer(question)
            elif len(asked) == 2:
                await may_close.wait()
                return

    monkeypatch.setattr(tcp, "connect", gated)
    async with server(first_closes_late) as upstream, pool_to(upstream.host, upstream.port) as pool:
        late = pool.start("late.example.", timeout_s=1.0)
        other = pool.start("other.example.", timeout_s=3.0)
        await pool.until(lambda: asked)
        may_connect.clear()
        pool.clock.jump(0.2)
        await pool.until(lambda: len(asked) == 2)
        pool.clock.jump(0.8)
        with pytest.raises(UpstreamTimeout):
            await late
        assert pool.pool.waiting
        may_close.set()
        await pool.until(lambda: not pool.pool.streams.opened)
        may_connect.set()
        await other
        assert asked == [0, 0, 1]
