"""No turn of the loop does much: counted as work, because clocks of a busy machine decide nothing.

A unit of work is one call made by this package, of Python or of C, as `sys.setprofile` sees it; with what stands
around it, it takes 0.1 to 0.2 us, so `WORK_MAX` of them are less than 5 ms.

What cannot be sliced, and is not seen by counting calls: a table that grows past a power of two is copied at once
(5 ms at 87,000 entries), and so is the list of keys that a sweep goes through (3 ms). Settings are read in a
thread.
"""

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import pytest

from resolver.accept.decode import decode
from resolver.accept.udp import UdpListener
from resolver.cache.cache import Cache
from resolver.cache.lifetime import decide
from resolver.report.series import TYPE_NAMES, ListenerLabels
from resolver.wire.question import Question
from resolver.wire.ttls import scan
from tests.accept.lane import answer_to
from tests.support import node, scripted
from tests.support.client import Udp, query
from tests.support.scripted import Reply

WORK_MAX = 25_000
"""For 64 evictions from a store in use, by misses or by trimming: 64 x `store.MAX_CHANCES` is 16,384, and
the turn has its usual work as well."""

LIGHT_MAX = 8_000
"""For everything else."""

IDLE_SCRAPE_MAX = 2_500
"""1,900 calls are made, libraries included; 14,000 when every family is written anew."""

STORED = 12_000


class Turns:
    """Counts the work of every turn of the loop while the block lasts; `worst` is the largest."""

    def __init__(self, *, everything: bool = False) -> None:
        """`everything`: count calls of libraries too, and of the test."""
        self.worst = 0
        self._everything = everything
        self.turns = 0
        self.total = 0
        self._work = 0
        self._mark: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._mark = asyncio.get_running_loop().call_soon(self._next)
        sys.setprofile(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        assert self._mark is not None
        self._mark.cancel()
        self._close()

    def _count(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event in {"call", "c_call"} and (self._everything or "/resolver/" in frame.f_code.co_filename):
            self._work += 1

    def _next(self) -> None:
        self._close()
        self._mark = asyncio.get_running_loop().call_soon(self._next)

    def _close(self) -> None:
        self.worst = max(self.worst, self._work)
        self.total += self._work
        self.turns += 1
        self._work = 0


CONFIG = "cache 30 {{\nsuccess 100000\n}}\nprometheus 127.0.0.1:0\nforward . {host}:{port}"


def config_of(upstream: scripted.Upstream) -> str:
    return CONFIG.format(host=upstream.host, port=upstream.port)


def parts_of(server: node.Node) -> tuple[Cache, UdpListener]:
    """Return the cache and the UDP listener of a server that has one of each."""
    assert server.daemon._parts is not None
    cache = server.daemon._parts.pipelines[0].cache
    assert cache is not None
    (listener,) = server.daemon.listeners.udp.values()
    return cache, listener


def fill(server: node.Node, number: int = STORED) -> None:
    """Store so many answers, each with a rendering, without asking for them one by one."""
    cache, listener = parts_of(server)
    now_s = server.clock()
    first = query("n000000.example.").to_wire()
    packet = answer_to(first)
    labels = ListenerLabels("dns://:53", "udp", "1")
    series = server.daemon.series.count(labels, ".", "", 1, 0, False, "cache", 1, 1, 0.0, "success")
    packets = listener.packets
    for at in range(number):
        name = b"n%06d" % at
        question = decode(first.replace(b"n000000", name))
        assert isinstance(question, Question)
        assert question.packet_key is not None
        found = scan(packet.replace(b"n000000", name))
        entry = cache.put(question.key, found, decide(found, 1, cache.options), now_s)
        response = packet.replace(b"n000000", name)
        packets.keep(question.packet_key, response, at, entry.ttl_offsets, 0, 0, entry.life, series)
    assert len(packets.table) == len(cache.success.entries) == number


async def settle(server: node.Node) -> None:
    """Wait until everything that was left behind is freed."""
    server.clock.jump(1)  # to the next sweep
    while server.daemon.kept.ledger._abandoned:
        await server.daemon.timers.sleep(0.01)


async def test_the_counter_counts_each_turn_for_itself() -> None:
    with Turns() as turns:
        for _ in range(10):
            decode(query("web.example.").to_wire())
            await asyncio.sleep(0)
    assert turns.turns >= 10
    assert 0 < turns.worst < turns.total


async def test_a_scrape() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        for number in range(8):
            labels = ListenerLabels(f"dns://10.0.0.{number}:53", "udp", "1")
            for zone in (".", "cluster.local.", "in-addr.arpa.", "ip6.arpa."):
                for qtype in TYPE_NAMES:
                    for rcode in (0, 2, 3):
                        for size in (80, 300):
                            server.daemon.series.count(
                                labels, zone, "", qtype, rcode, False, "cache", 40, size, 0.0, "success"
                            )
        with Turns() as turns:
            page = await server.daemon._pages.metrics()
        samples = sum(not line.startswith(b"#") for line in page.body.splitlines())
        assert samples > 1_500
        assert len(server.daemon.series.by_key) > 3_400
        assert turns.worst <= LIGHT_MAX < turns.total


async def test_a_scrape_of_a_process_in_which_nothing_has_happened() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        await server.client.ask("web.example.")
        await server.daemon._pages.metrics()  # imports the library
        first = list(server.daemon._exposition.steps())
        with Turns(everything=True) as turns:
            second = list(server.daemon._exposition.steps())
        assert b"".join(first) == b"".join(second)
        assert turns.total <= IDLE_SCRAPE_MAX
        assert len(second) <= 6


async def test_a_reload_that_keeps_a_full_cache_drops_its_renderings() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        fill(server)
        cache, listener = parts_of(server)
        ledger = server.daemon.kept.ledger
        before = ledger.used_bytes
        with Turns() as turns:
            assert await server.reload(config_of(upstream).replace("cache 30", "cache 31"))
            assert not listener.packets.table
            await settle(server)
        assert turns.worst <= LIGHT_MAX
        assert len(cache.success.entries) == STORED
        assert ledger.used_bytes == cache.success.size_bytes < before


async def test_a_reload_that_ends_a_full_cache() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        fill(server)
        with Turns() as turns:
            assert await server.reload(f"forward . {upstream.host}:{upstream.port}")
            server.clock.jump(11)  # the parts that were replaced are closed
            await settle(server)
        assert turns.worst <= LIGHT_MAX
        assert server.daemon.kept.ledger.used_bytes == 0


async def test_a_reload_to_a_smaller_capacity() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        fill(server, 2 * STORED)
        cache, _ = parts_of(server)
        for entry in cache.success.entries.values():
            entry.life.uses = 1  # everybody gets a second chance: the most work that evicting can be
        with Turns() as turns:
            assert await server.reload(config_of(upstream).replace("100000", "20480"))
            while len(cache.success.entries) > 20_480:
                server.clock.jump(1)
                await server.daemon.timers.sleep(0.01)
        assert turns.worst <= WORK_MAX


async def test_a_flush_of_a_full_cache() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        fill(server)
        cache, listener = parts_of(server)
        with Turns() as turns:
            await asyncio.sleep(0)
            cache.flush()
            listener.packets.clear()
            await asyncio.sleep(0)
            await settle(server)
        assert turns.worst <= LIGHT_MAX
        assert server.daemon.kept.ledger.used_bytes == 0


async def test_a_batch_of_misses_that_evicts_from_a_store_that_is_all_in_use() -> None:
    async with scripted.running() as upstream, node.serving(config_of(upstream)) as server:
        fill(server, 3 * STORED)
        cache, _ = parts_of(server)
        cache.success.capacity = 3 * STORED
        for entry in cache.success.entries.values():
            entry.life.uses = 1
        upstream.default = Reply(records=("web.example. 30 IN A 192.0.2.7",))
        async with await Udp.open(server.host, server.port) as client:
            with Turns() as turns:
                for number in range(64):
                    client.send(query(f"miss{number}.example.").to_wire())
                for _ in range(64):
                    await client.receive()
        assert cache.success.evictions == 64
        assert turns.worst <= WORK_MAX


WAITERS = 1_000


REPLIES = [
    pytest.param(Reply(records=("web.example. 30 IN A 192.0.2.7",)), id="an answer"),
    pytest.param(Reply(rcode="SERVFAIL"), id="a failure"),
]


@pytest.mark.parametrize("reply", REPLIES)
async def test_a_flight_with_a_thousand_waiters_lands_in_several_turns(reply: Reply) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(config_of(upstream)) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        release = asyncio.Event()
        upstream.on("web.example.", "A", dataclasses.replace(reply, release=release))
        wire = query("web.example.").to_wire()
        assert server.daemon._parts is not None
        flights = server.daemon._parts.pipelines[0].flights
        clients: list[Udp] = []
        for _ in range(WAITERS // 100):  # so many answers at once fit into a client's receive buffer
            clients.append(await stack.enter_async_context(await Udp.open(server.host, server.port)))
            for number in range(100):
                clients[-1].send(number.to_bytes(2, "big") + wire[2:])
            await until(server, lambda: flights.joined == 100 * len(clients) - 1)
        with Turns() as turns:
            release.set()
            answers = [await client.receive() for client in clients for _ in range(100)]
        assert {answer[:2] for answer in answers} == {number.to_bytes(2, "big") for number in range(100)}
        assert len({answer[2:] for answer in answers}) == 1
        assert turns.worst <= LIGHT_MAX
        assert upstream.count("web.example.", "A") == 1


async def until(server: node.Node, happened: Callable[[], bool]) -> None:
    """Return when `happened()` is true; the suite's limit ends what never is."""
    while not happened():
        await server.daemon.timers.sleep(0.01)
