"""Upstreams over TCP: many questions in flight, and servers that close, refuse, stall, lie or vanish."""

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from resolver.errors import UpstreamBusy, UpstreamClosed, UpstreamError, UpstreamRefused, UpstreamTimeout
from resolver.forward import connect, learned, tcp
from resolver.forward.tcp import PROOF_S, SUSPECT_AFTER_S
from tests.forward.streams import TIMEOUT_S, Line, Pool, pool_to, reply, server
from tests.support import scripted, unbound
from tests.support.addresses import free_port, loopback
from tests.support.client import parse, records


async def answer_all(line: Line) -> None:
    while True:
        line.answer(await line.question())


async def say_nothing(line: Line) -> None:
    await line.reader.read()


def names(count: int) -> list[str]:
    return [f"host{number}.example.com." for number in range(count)]


@pytest.fixture(scope="module")
def real() -> Iterator[unbound.Unbound]:
    with unbound.running() as upstream:
        yield upstream


@pytest.fixture
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "CONNECTIONS_MAX", 1)


# Questions and answers


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


async def test_the_source_address_is_ours_to_choose() -> None:
    source = loopback()
    async with server(answer_all) as upstream, pool_to(upstream.host, upstream.port, source_address=source) as pool:
        await pool.ask("web.example.")
        assert upstream.lines[0].writer.get_extra_info("peername")[0] == source


async def test_ipv6() -> None:
    async with scripted.running(host="::1") as upstream, pool_to("::1", upstream.port) as pool:
        await pool.ask("web.example.")
        assert pool.pool.label == f"[::1]:{upstream.port}"


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


# Connecting


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


@contextlib.contextmanager
def swallowing(host: str) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket whose queue is full: the kernel drops every SYN. The second part fills the queue."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, 0))
        listening.listen(0)
        fillers = []
        for _ in range(5):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.05)
            try:
                filler.connect(listening.getsockname())
            except TimeoutError:
                break
            fillers.append(filler)
        yield listening, fillers


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
        assert time.monotonic() - began_s < PROOF_S + 0.4
        connections = len(upstream.lines)
        assert connections <= learned.CONNECTIONS_MAX + 2
        for _ in range(5):
            await asyncio.wait_for(asyncio.gather(*(pool.ask(name) for name in names(100))), 0.3)
        assert len(upstream.lines) == connections


async def test_a_new_connection_that_stalls_holds_up_nobody() -> None:
    """The third connection's SYN is dropped; its question goes to one that works after 150 ms."""
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
