"""Upstreams over TCP: many questions in flight, on few connections, for as long as they are of use."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from resolver.errors import UpstreamBusy, UpstreamClosed
from resolver.forward import learned, tcp
from resolver.forward.tcp import SUSPECT_AFTER_S
from tests.forward.streams import TIMEOUT_S, Line, Pool, answer_all, names, pool_to, say_nothing, server
from tests.support import scripted, unbound
from tests.support.addresses import loopback
from tests.support.client import parse, query, records


@pytest.fixture(scope="module")
def real() -> Iterator[unbound.Unbound]:
    with unbound.running() as upstream:
        yield upstream


async def test_a_real_server_answers_many_at_once(real: unbound.Unbound) -> None:
    async with pool_to(real.host, real.port) as pool:
        answers = await asyncio.gather(*(pool.ask(name) for name in names(500)))
        for number, answer in enumerate(answers):
            (record,) = records(parse(answer))
            assert record.endswith(f"93.184.{number // 250}.{1 + number % 250}")
        assert pool.counts.hits + pool.counts.misses == 500
        assert pool.counts.misses == len(pool.pool.streams.opened) <= learned.CONNECTIONS_MAX


async def test_a_large_answer_is_whole(real: unbound.Unbound) -> None:
    async with pool_to(real.host, real.port) as pool:
        assert len(await pool.ask("many.example.com.")) > 1_600


async def test_the_next_question_finds_the_connection_of_the_last() -> None:
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port) as pool:
        for name in ("One.Example.", "tWo.example.", "three.example."):
            await pool.ask(name)
        assert (pool.counts.misses, pool.counts.hits) == (1, 2)
        assert len(upstream.lines) == 1


@pytest.mark.usefixtures("one_connection")
async def test_answers_come_in_any_order() -> None:
    async def backwards(line: Line) -> None:
        for question in reversed([await line.question() for _ in range(100)]):
            line.answer(question)
        await say_nothing(line)

    async with server(backwards) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await asyncio.gather(*(pool.ask(name) for name in names(100)))
        assert len(upstream.lines) == 1


@pytest.mark.usefixtures("one_connection")
async def test_ids_are_unique_on_their_connection_and_hard_to_guess() -> None:
    ids: list[bytes] = []

    async def collect(line: Line) -> None:
        questions = [await line.question() for _ in range(128)]
        ids.extend(question[:2] for question in questions)
        for question in questions:
            line.answer(question)
        await say_nothing(line)

    async with server(collect) as upstream, pool_to(upstream.host, upstream.port) as pool:
        await asyncio.gather(*(pool.ask(name) for name in names(128)))
        assert len(set(ids)) == 128
        assert max(ids)[0] > 128 > min(ids)[0]


@pytest.mark.parametrize("forgery", ["id", "name", "type", "not a response", "garbage"])
async def test_wrong_answers_are_counted_and_waited_past(forgery: scripted.Forgery) -> None:
    record = "web.example. 30 IN A 192.0.2.7"
    async with scripted.running() as upstream, pool_to(upstream.host, upstream.port) as pool:
        upstream.on("web.example.", "A", scripted.Reply(records=(record,), forgeries=(forgery,)))
        assert records(parse(await pool.ask("web.example."))) == [record]
        assert pool.pool.counts.wrong_answers == 1
        assert upstream.connections == 1


async def test_several_connections_share_the_questions(real: unbound.Unbound) -> None:
    async def hold(line: Line) -> None:
        while True:
            held.append((line, await line.question()))

    held: list[tuple[Line, bytes]] = []
    async with server(hold) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = [pool.start(name) for name in names(80)]
        await pool.until(lambda: len(held) == 80)
        on_each = Counter(line.number for line, _ in held)
        assert len(on_each) == learned.CONNECTIONS_MAX
        assert max(on_each.values()) <= 20
        for line, question in held:
            line.answer(question)
        await asyncio.gather(*asking)


async def test_the_first_connection_to_answer_does_not_get_all_that_wait() -> None:
    held: list[Line] = []

    async def hold(line: Line) -> None:
        if line.number == 0:
            line.answer(await line.question())
        while await line.question():
            held.append(line)

    async with server(hold) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = [pool.start(name) for name in names(81)]
        await pool.until(lambda: len(held) == 80)
        assert max(Counter(line.number for line in held).values()) <= 20
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


@pytest.mark.usefixtures("one_connection")
async def test_an_id_that_is_taken_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.cycle([b"\0\1\0\1", b"\0\2\0\1", b"\0\3\0\2"])
    monkeypatch.setattr(os, "urandom", lambda _size: next(drawn))
    ids: list[bytes] = []

    async def collect(line: Line) -> None:
        questions = [await line.question() for _ in range(3)]
        ids.extend(question[:2] for question in questions)
        for question in questions:
            line.answer(question)
        await say_nothing(line)

    async with server(collect) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = [
            asyncio.create_task(pool.pool.ask(query(name, query_id=7).to_wire(), TIMEOUT_S)) for name in names(3)
        ]
        await asyncio.gather(*asking)
        assert sorted(ids) == [b"\0\1", b"\0\2", b"\0\3"]


async def test_the_source_address_is_ours_to_choose() -> None:
    source = loopback()
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, source_address=source) as pool:
        await pool.ask("web.example.")
        assert upstream.lines[0].writer.get_extra_info("peername")[0] == source


async def test_ipv6() -> None:
    async with scripted.running(host="::1") as upstream, pool_to("::1", upstream.port) as pool:
        await pool.ask("web.example.")
        assert pool.pool.label == f"[::1]:{upstream.port}"


# Giving up


async def test_who_gives_up_leaves_nothing_behind() -> None:
    held: list[tuple[Line, bytes]] = []

    async def hold(line: Line) -> None:
        while True:
            held.append((line, await line.question()))

    async with server(hold) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = [pool.start(name) for name in names(20)]
        waiting_for_connection = asking[-1]
        await asyncio.sleep(0)
        waiting_for_connection.cancel()
        await pool.until(lambda: len(held) == 19)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        assert all(task.cancelled() for task in asking)
        assert not pool.pool.waiting
        assert not any(stream.pending for stream in pool.pool.streams.opened)
        for line, question in held:
            line.answer(question)
        last = pool.start("last.example.")
        await pool.until(lambda: len(held) == 20)
        held[-1][0].answer(held[-1][1])
        await last
        assert pool.pool.counts.wrong_answers == 19


async def test_giving_up_on_a_silent_connection_leaves_it() -> None:
    async def first_is_silent(line: Line) -> None:
        await (say_nothing if line.number == 0 else answer_all)(line)

    async with server(first_is_silent) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = pool.start("web.example.")
        await pool.until(lambda: upstream.lines)
        pool.clock.jump(SUSPECT_AFTER_S)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(pool.ask("web.example."), 1)


async def test_closing_the_pool_ends_every_question() -> None:
    async with server(say_nothing) as upstream, pool_to(upstream.host, upstream.port) as pool:
        asking = [pool.start(name) for name in names(20)]
        await pool.until(lambda: len(upstream.lines) == 8)
        unconnected = Pool(upstream.host, upstream.port)
        waiting = unconnected.start("web.example.")
        await asyncio.sleep(0)
        await unconnected.pool.close()
        await pool.pool.close()
        results = await asyncio.gather(*asking, waiting, return_exceptions=True)
        assert {type(result) for result in results} == {UpstreamClosed}
        with pytest.raises(UpstreamClosed):
            await pool.ask("web.example.")
        unconnected.timers.close()


# Bounds


async def test_an_idle_connection_is_closed_and_not_used_again() -> None:
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, expire_s=3.0) as pool:
        await pool.ask("web.example.")
        pool.clock.jump(2.0)
        await pool.ask("web.example.")
        pool.clock.jump(3.0)
        await pool.ask("web.example.")  # at once: before anybody has looked
        assert len(upstream.lines) == 2
        pool.clock.jump(3.5)
        await pool.until(lambda: not pool.pool.streams.opened)


async def test_idle_time_has_a_bound_of_ours() -> None:
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, expire_s=3_600.0) as pool:
        await pool.ask("web.example.")
        pool.clock.jump(10.5)
        await pool.until(lambda: not pool.pool.streams.opened)


async def test_an_old_connection_takes_no_question() -> None:
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, max_age_s=5.0) as pool:
        for _ in range(3):
            await pool.ask("web.example.")
            pool.clock.jump(2.0)
        await pool.ask("web.example.")
        assert len(upstream.lines) == 2


async def test_idle_connections_are_bounded() -> None:
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, max_idle_conns=2) as pool:
        await asyncio.gather(*(pool.ask(name) for name in names(50)))
        assert len(upstream.lines) == 8
        await pool.until(lambda: len(pool.pool.streams.opened) == 2)
        await pool.ask("web.example.")


@pytest.mark.usefixtures("one_connection")
async def test_questions_in_flight_and_waiting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "WAITING_MAX", 10)
    monkeypatch.setattr(learned, "IN_FLIGHT_MAX", 5)
    held: list[tuple[Line, bytes]] = []

    async def hold(line: Line) -> None:
        while True:
            held.append((line, await line.question()))

    async with server(hold) as upstream, pool_to(upstream.host, upstream.port) as pool:
        first = pool.start("first.example.")
        await pool.until(lambda: len(held) == 1)
        held[0][0].answer(held.pop()[1])
        await first
        asking = [pool.start(name) for name in names(20)]
        await pool.until(lambda: len(held) == 5)
        await pool.ticks()
        assert len(held) == 5
        results = await asyncio.gather(*asking[15:], return_exceptions=True)
        assert {type(result) for result in results} == {UpstreamBusy}
        for answered in range(15):
            await pool.until(lambda: len(held) > answered)  # noqa: B023 awaited within this turn
            held[answered][0].answer(held[answered][1])
        await asyncio.gather(*asking[:15])
