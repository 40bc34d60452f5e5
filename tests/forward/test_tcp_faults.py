"""Upstreams over TCP that fall silent, close early, or answer by halves."""

import asyncio
import gc
import socket
import struct
from collections import Counter

import pytest

from resolver.errors import UpstreamClosed, UpstreamTimeout
from resolver.forward import connect, learned, tcp
from tests.forward.streams import TIMEOUT_S, Line, answer_all, names, pool_to, reply, say_nothing, server
from tests.support import scripted

# Silence


async def test_silence_is_a_timeout_and_the_connection_is_left() -> None:
    async def first_is_silent(line: Line) -> None:
        await (say_nothing if line.number == 0 else answer_all)(line)

    async with server(first_is_silent) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = pool.start("web.example.")
        await pool.until(lambda: upstream.lines)
        pool.clock.jump(TIMEOUT_S)
        with pytest.raises(UpstreamTimeout, match=r"no answer over TCP"):
            await asking
        await pool.ask("web.example.")
        assert len(upstream.lines) == 2


@pytest.mark.usefixtures("one_connection")
async def test_the_others_on_a_silent_connection_are_asked_again_elsewhere() -> None:
    asked: list[int] = []

    async def first_is_silent(line: Line) -> None:
        while True:
            question = await line.question()
            asked.append(line.number)
            if line.number:
                line.answer(question)

    async with server(first_is_silent) as upstream, pool_to(upstream.host, upstream.port) as pool:
        late = pool.start("late.example.", timeout_s=1.0)
        others = [pool.start(name, timeout_s=3.0) for name in names(5)]
        await pool.until(lambda: len(asked) == 6)
        pool.clock.jump(1.0)
        with pytest.raises(UpstreamTimeout):
            await late
        await asyncio.gather(*others)
        assert Counter(asked) == {0: 6, 1: 5}
        await pool.until(upstream.lines[0].reader.at_eof)


@pytest.mark.usefixtures("one_connection")
async def test_a_late_answer_on_the_old_connection_counts_too() -> None:
    held: list[tuple[Line, bytes]] = []

    async def hold(line: Line) -> None:
        while True:
            held.append((line, await line.question()))

    async with server(hold) as upstream, pool_to(upstream.host, upstream.port) as pool:
        late = pool.start("late.example.", timeout_s=1.0)
        other = pool.start("other.example.", timeout_s=3.0)
        await pool.until(lambda: len(held) == 2)
        pool.clock.jump(1.0)
        with pytest.raises(UpstreamTimeout):
            await late
        await pool.until(lambda: len(held) == 3)
        line, question = held[1]
        assert line.number == 0
        line.answer(question)
        await other


@pytest.mark.usefixtures("one_connection")
async def test_a_connection_that_answers_others_is_not_suspect() -> None:
    async def one_name_is_slow(line: Line) -> None:
        while True:
            question = await line.question()
            if b"slow" not in question:
                line.answer(question)

    async with server(one_name_is_slow) as upstream, pool_to(upstream.host, upstream.port) as pool:
        slow = pool.start("slow.example.")
        await pool.until(lambda: pool.pool.streams.opened)
        await pool.ticks(1)
        await pool.ask("quick.example.")
        pool.clock.jump(TIMEOUT_S)
        with pytest.raises(UpstreamTimeout):
            await slow
        await pool.ask("quick.example.")
        assert len(upstream.lines) == 1


async def test_a_vanished_upstream_is_found_out_by_one_question() -> None:
    """Eight idle connections to a pod that is gone: the first timeout leaves them all."""
    gone = asyncio.Event()

    async def until_gone(line: Line) -> None:
        old = not gone.is_set()
        while True:
            question = await line.question()
            if not (old and gone.is_set()):
                line.answer(question)

    async with server(until_gone) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await asyncio.gather(*(pool.ask(name) for name in names(20)))
        assert len(upstream.lines) == 8
        gone.set()
        lost = pool.start("web.example.")
        await pool.ticks()
        pool.clock.jump(TIMEOUT_S)
        with pytest.raises(UpstreamTimeout):
            await lost
        await asyncio.wait_for(asyncio.gather(*(pool.ask(name) for name in names(20))), 1)


async def test_half_an_answer_is_none() -> None:
    async def half_then_silent(line: Line) -> None:
        question = await line.question()
        if line.number:
            line.answer(question)
        else:
            line.writer.write(struct.pack("!H", 200) + reply(question)[:20])
        await say_nothing(line)

    async with server(half_then_silent) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = pool.start("web.example.")
        await pool.until(lambda: upstream.lines)
        await pool.ticks()
        pool.clock.jump(TIMEOUT_S)
        with pytest.raises(UpstreamTimeout):
            await asking
        await pool.ask("web.example.")


# Closing


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


async def test_giving_up_in_the_moment_of_failure_is_clean() -> None:
    """A future with an error that nobody looks at would be reported to the loop's exception handler."""
    async with server(say_nothing) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = pool.start("web.example.")
        await pool.until(lambda: upstream.lines)
        (question,) = next(iter(pool.pool.streams.opened)).pending.values()
        pool.pool.timed_out(question, pool.clock())
        asking.cancel()
        await asyncio.wait([asking])
        del question, asking
        gc.collect()
