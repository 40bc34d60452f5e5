"""How many Python calls an answer costs. Clocks vary with the machine; this number does not.

Counted with `sys.setprofile` from the datagram's arrival to its answer, every Python function entered, the drain
loops themselves included. Questions come and go over real sockets of this process.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from types import FrameType
from typing import Any

import dns.edns
import pytest

from resolver.wire.framing import frame
from tests.support import node, scripted
from tests.support.client import Tcp, Udp, query

STORED_MAX = {"python": 10, "compiled": 6}
MISS_MAX = {"python": 24, "compiled": 19}
"""By lane, with its batch loop, which the Python lane enters once for many. Design section 2 allows 10 and 24.

Series are compiled for both lanes here: without a compiler, each counts one call more.

A miss whose answer has a TTL above the directive's maximum costs one call more, which lowers it."""

CONNECTION_MAX = {"python": 22, "compiled": 2}
"""By lane, of a TCP connection with one question that has a rendering, from accept to close."""

PIPELINED, PIPELINED_MAX, READ_MAX = 60, 2, 8
"""Of each of so many such questions in one read: the message, its answer. And of the read and its write."""

BACKGROUND = (
    *("Timers.", "Daemon.", "_Call.", "PacketCache.sweep", "Listener.sweep", "Listeners.sweep"),
    *("LoopTurns.", "_Asker.", "Prober."),
)
"""What ticks by its own clock and not for a question.

What such a tick calls is not named here, so no count is taken from a single exchange: `least` of several is the
exchange in which nothing ticked."""


TRIES = 5


class Calls:
    """Counts Python calls inside the package between `start` and `stop`."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and "/resolver/" in frame.f_code.co_filename:
            self.by_name[frame.f_code.co_qualname] += 1

    def __enter__(self) -> "Calls":
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    @property
    def total(self) -> int:
        return sum(number for name, number in self.by_name.items() if not name.startswith(BACKGROUND))


def least(counts: Iterable[Calls]) -> Calls:
    return min(counts, key=lambda calls: calls.total)


async def calls_of(client: Udp, *wires: bytes) -> Calls:
    """Return the calls that one of these exchanges costs the server."""
    counts = []
    for number, wire in enumerate(wires):
        with Calls() as calls:
            client.send(bytes((number,)) + wire[1:])
            await client.receive()
        counts.append(calls)
    return least(counts)


@pytest.mark.parametrize(
    ("lane", "calls_a_batch"),
    [
        # The loop enters `drain`; `_settle` closes the batch. Nothing is called for a hit.
        pytest.param("python", {"UdpListener.drain", "UdpListener._settle"}, id="python lane"),
        pytest.param("compiled", set(), id="compiled lane"),
    ],
)
@pytest.mark.parametrize("text", ["cache 30", "cache 30\nloadbalance"], ids=["one order", "a ring"])
async def test_a_rendered_answer_costs_no_call_of_its_own(lane: str, calls_a_batch: set[str], text: str) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(f"{text}\nforward . {upstream.host}:{upstream.port}", lane=lane) as server,
    ):
        upstream.answer("web.example.", "A", *(f"web.example. 300 IN A 192.0.2.{number}" for number in range(4)))
        async with await Udp.open(server.host, server.port) as client:
            wire = query("web.example.", "A").to_wire()
            for _ in range(2):
                client.send(wire)
                await client.receive()
            calls = await calls_of(client, *(wire,) * TRIES)
    assert {name for name in calls.by_name if not name.startswith(BACKGROUND)} == calls_a_batch


@pytest.mark.parametrize("lane", STORED_MAX)
async def test_what_a_stored_answer_costs(lane: str) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(f"cache 30\nforward . {upstream.host}:{upstream.port}", lane=lane) as server,
    ):
        names = [f"web{number}.example." for number in range(TRIES)]
        async with await Udp.open(server.host, server.port) as client:
            for name in names:
                upstream.answer(name, "A", f"{name} 300 IN A 192.0.2.7")
                client.send(query(name, "A").to_wire())
                await client.receive()
            mixed_case = await calls_of(client, *(query(name.title(), "A").to_wire() for name in names))
            cookie = [dns.edns.CookieOption(b"12345678", b"")]
            with_option = await calls_of(
                client, *(query(name, "A", edns=True, options=cookie).to_wire() for name in names)
            )
            rendered_now = await calls_of(client, *(query(name, "A").to_wire() for name in names))
    assert mixed_case.total <= STORED_MAX[lane], mixed_case.by_name
    assert with_option.total <= STORED_MAX[lane], with_option.by_name
    assert rendered_now.total <= STORED_MAX[lane], rendered_now.by_name


@pytest.mark.parametrize(("ttl_s", "more"), [(30, 0), (300, 1)], ids=["as usual", "above the maximum"])
@pytest.mark.parametrize("lane", MISS_MAX)
async def test_what_a_miss_costs(lane: str, ttl_s: int, more: int) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(
            f"cache 30 {{\nprefetch 2\nserve_stale\n}}\nerrors\nforward . {upstream.host}:{upstream.port}",
            lane=lane,
        ) as server,
    ):
        names = [f"n{number}.example." for number in range(TRIES)]
        for name in names:
            upstream.answer(name, "A", f"{name} {ttl_s} IN A 192.0.2.7")
        async with await Udp.open(server.host, server.port) as client:
            best = await calls_of(client, *(query(name, "A").to_wire() for name in names))
    assert best.total <= MISS_MAX[lane] + more, best.by_name


async def calls_of_a_connection(server: node.Node, wire: bytes) -> Calls:
    """Return the calls of a connection with one question, until the server has closed it."""
    with Calls() as calls:
        async with await Tcp.open(server.host, server.port) as client:
            client.send(wire)
            await client.receive()
        async with asyncio.timeout(5):
            while any(tcp.server._by_client for tcp in server.daemon.listeners.tcp.values()):  # noqa: ASYNC110 the server's loop is this one
                await asyncio.sleep(0)
    return calls


@pytest.mark.parametrize("lane", CONNECTION_MAX)
async def test_what_a_rendered_answer_costs_over_tcp(lane: str) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(f"cache 30\nforward . {upstream.host}:{upstream.port}", lane=lane) as server,
    ):
        upstream.answer("web.example.", "A", "web.example. 300 IN A 192.0.2.7")
        wire = query("web.example.", "A").to_wire()
        connection = least([await calls_of_a_connection(server, wire) for _ in range(TRIES)])
        stream = frame(wire) * PIPELINED
        reads = []
        async with await Tcp.open(server.host, server.port) as client:
            for _ in range(TRIES):
                with Calls() as calls:
                    client.send_raw(stream)
                    for _ in range(PIPELINED):
                        await client.receive()
                reads.append(calls)
    pipelined = least(reads)
    assert connection.total <= CONNECTION_MAX[lane], connection.by_name
    assert pipelined.total <= PIPELINED_MAX * PIPELINED + READ_MAX, pipelined.by_name


async def test_the_counter_counts() -> None:
    """The budget above means something only if calls are seen at all."""
    from resolver.accept.decode import decode

    with Calls() as calls:
        decode(query("web.example.", "A").to_wire())
        await asyncio.sleep(0)
    assert calls.total == 1
