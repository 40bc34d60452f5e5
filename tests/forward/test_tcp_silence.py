"""Upstreams over TCP that fall silent, all at once or in the middle of an answer."""

import asyncio
import gc
import struct
from collections import Counter

import pytest

from resolver.errors import UpstreamTimeout
from tests.forward.streams import TIMEOUT_S, Line, answer_all, names, pool_to, reply, say_nothing, server


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
