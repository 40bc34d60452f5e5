"""A name that is asked for again and again stays a hit through every refresh that brings the same records."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.message
import pytest

from tests.support import node, scripted
from tests.support.client import Udp, query
from tests.support.scripted import Reply

NAME, TTL_S = "web.example.", 30
WIRES = [query(NAME, "A").to_wire(), query(NAME, "A", edns=True).to_wire()]

lanes = pytest.mark.parametrize("lane", ["python", "compiled"])
orders = pytest.mark.parametrize("loadbalance", ["", "\nloadbalance"], ids=["one order", "in turns"])


def reply(ttl_s: int = TTL_S, ending: int = 7) -> Reply:
    """What upstream says of NAME: two addresses."""
    return Reply(records=(f"{NAME} {ttl_s} IN A 192.0.2.{ending}", f"{NAME} {ttl_s} IN A 192.0.2.100"))


@asynccontextmanager
async def serving(lane: str, text: str) -> AsyncIterator[tuple[scripted.Upstream, node.Node, Udp]]:
    """Run a server whose upstream knows NAME, and a client of it."""
    async with (
        scripted.running() as upstream,
        node.serving(f"{text}\nforward . {upstream.host}:{upstream.port}", lane=lane) as server,
        await Udp.open(server.host, server.port) as client,
    ):
        upstream.on(NAME, "A", reply())
        yield upstream, server, client


async def ask(client: Udp, wire: bytes = WIRES[0]) -> tuple[int, set[str]]:
    """Return TTL and addresses of the answer."""
    client.send(wire)
    (rrset,) = dns.message.from_wire(await client.receive()).answer
    return rrset.ttl, {record.to_text() for record in rrset}


def misses(server: node.Node) -> set[bytes]:
    """Those of WIRES that no rendering answers now."""
    (listener,) = server.daemon.listeners.udp.values()
    table, now_s = listener.packets.table, server.clock()
    return {wire for wire in WIRES if not (kept := table.get(wire[2:])) or kept.life.until_s <= now_s}


async def fetched(upstream: scripted.Upstream, server: node.Node, times: int) -> None:
    """Wait until upstream has been asked for NAME so often, and its answers are here."""
    async with asyncio.timeout(5):
        while upstream.count(NAME) < times or server.daemon._flights_in_the_air():
            await server.settle()


@lanes
@orders
async def test_after_a_refresh_ahead_of_time_every_form_of_it_is_a_hit(lane: str, loadbalance: str) -> None:
    async with serving(lane, "cache 30 {\nprefetch 2 1m 10%\n}" + loadbalance) as (upstream, server, client):
        for wire in WIRES * 3:
            await ask(client, wire)
        for times, ttl_s in ((2, TTL_S), (3, 12), (4, TTL_S)):  # 12: upstream's cache has had it for a while
            upstream.on(NAME, "A", reply(ttl_s))
            left_s, _ = await ask(client)
            server.clock.jump(left_s - 1)
            assert (await ask(client))[0] == 1
            await fetched(upstream, server, times)
            assert not misses(server)
            for wire in WIRES * 2:
                assert (await ask(client, wire))[0] == ttl_s
            server.clock.jump(2)
            for wire in WIRES * 2:
                assert (await ask(client, wire))[0] == ttl_s - 2
            assert upstream.count(NAME) == times


@lanes
@orders
async def test_who_waited_for_what_has_counted_down_sees_how_far(lane: str, loadbalance: str) -> None:
    async with serving(lane, "cache 30" + loadbalance) as (upstream, server, client):
        for wire in WIRES * 2:
            await ask(client, wire)
        server.clock.jump(TTL_S + 1)
        upstream.on(NAME, "A", reply(12))
        assert (await ask(client))[0] == 12
        assert upstream.count(NAME) == 2
        server.clock.jump(3)
        for wire in WIRES * 2:
            assert (await ask(client, wire))[0] == 9
        assert upstream.count(NAME) == 2
        server.clock.jump(9)
        assert misses(server) == set(WIRES)


@lanes
@orders
async def test_other_records_are_shown_at_once(lane: str, loadbalance: str) -> None:
    async with serving(lane, "cache 30 {\nprefetch 2 1m 10%\n}" + loadbalance) as (upstream, server, client):
        for wire in WIRES * 3:
            await ask(client, wire)
        server.clock.jump(TTL_S - 1)
        upstream.on(NAME, "A", reply(ending=8))
        await ask(client)
        await fetched(upstream, server, 2)
        assert misses(server) == set(WIRES)
        for wire in WIRES * 2:
            assert await ask(client, wire) == (TTL_S, {"192.0.2.8", "192.0.2.100"})
        assert not misses(server)
