"""`loadbalance` from outside, on a whole server: whoever is asked next, another address stands first."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rdatatype
import pytest

from tests.support import node, scripted
from tests.support.client import Tcp, Udp, parse, query, records
from tests.support.scripted import Reply

NAME = "web.example."
ADDRESSES = [f"192.0.2.{number}" for number in (1, 2, 3)]
BY_CHANCE = 60
"""Answers after which each of three addresses stood first by chance, but for one in 10,000 million runs."""


@asynccontextmanager
async def serving(
    text: str = "loadbalance\ncache 60", *, lane: str = "auto", records: tuple[str, ...] = (), **reply: object
) -> AsyncIterator[tuple[scripted.Upstream, node.Node]]:
    """Run a server whose upstream knows NAME by three addresses, or by `records`."""
    async with (
        scripted.running() as upstream,
        node.serving(f"{text}\nforward . {upstream.host}:{upstream.port} {{\nprefer_udp\n}}", lane=lane) as server,
    ):
        lines = records or tuple(f"{NAME} 60 IN A {address}" for address in ADDRESSES)
        upstream.on(NAME, "A", Reply(records=lines, **reply))  # type: ignore[arg-type] # the test names the fields
        yield upstream, server


def order(answer: dns.message.Message) -> list[str]:
    """The addresses of an answer in its order."""
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset if rrset.rdtype == dns.rdatatype.A]


def turned(addresses: list[str], by: int) -> list[str]:
    return addresses[by:] + addresses[:by]


@pytest.mark.parametrize("lane", ["python", "compiled"])
async def test_known_answers_take_turns(lane: str) -> None:
    async with serving(lane=lane) as (upstream, server), await Udp.open(server.host, server.port) as client:
        wire = query(NAME, "A").to_wire()
        answers = []
        for _ in range(8):
            client.send(wire)
            answers.append(parse(await client.receive(), to=wire))
        _fresh, stored, *hits = map(order, answers)
        for number, hit in enumerate(hits, 1):
            assert hit == turned(stored, number % 3)
        assert Counter(hit[0] for hit in hits) == dict.fromkeys(ADDRESSES, 2)
        assert [records(answer) for answer in answers] == [records(answers[0])] * 8
        assert upstream.count(NAME) == 1


@pytest.mark.parametrize("lane", ["python", "compiled"])
async def test_without_it_the_order_is_upstreams(lane: str) -> None:
    async with serving("cache 60", lane=lane) as (_, server):
        for _ in range(6):
            assert order(await server.client.ask(NAME)) == ADDRESSES
        assert order(await server.client.ask(NAME, tcp=True)) == ADDRESSES


async def test_over_tcp_too() -> None:
    async with serving() as (_, server), await Tcp.open(server.host, server.port) as stream:
        wire = query(NAME, "A").to_wire()
        firsts = Counter[str]()
        for _ in range(8):
            stream.send(wire)
            firsts[order(parse(await stream.receive(), to=wire))[0]] += 1
        assert min(firsts.values()) >= 2
        assert len(firsts) == 3


async def test_stored_answers_that_have_no_rendering_are_drawn_each_time() -> None:
    async with serving() as (_, server):
        firsts = {order(await server.client.ask("wEb.example."))[0] for _ in range(BY_CHANCE)}
        assert firsts == set(ADDRESSES)


async def test_a_pair_of_questions_in_turn_does_not_leave_either_with_one_address() -> None:
    """One counter for all names would: a stub resolver asks A, AAAA, A, AAAA."""
    async with serving() as (upstream, server), await Udp.open(server.host, server.port) as client:
        upstream.on(NAME, "AAAA", Reply(records=(f"{NAME} 60 IN AAAA ::1", f"{NAME} 60 IN AAAA ::2")))
        firsts = set()
        for _ in range(4):
            for rdtype in ("A", "AAAA"):
                wire = query(NAME, rdtype).to_wire()
                client.send(wire)
                firsts.add(parse(await client.receive(), to=wire).answer[0][0].to_text())
        assert firsts == {*ADDRESSES, "::1", "::2"}


async def test_who_waited_for_one_fresh_answer_gets_different_orders() -> None:
    release = asyncio.Event()
    async with serving(release=release) as (upstream, server):
        wires = [query(NAME, "A").to_wire() for _ in ADDRESSES]
        clients = [await Udp.open(server.host, server.port) for _ in wires]
        for client, wire in zip(clients, wires, strict=True):
            client.send(wire)
        await upstream.seen(1)
        await server.settle()
        release.set()
        answers = [parse(await client.receive(), to=wire) for client, wire in zip(clients, wires, strict=True)]
        for client in clients:
            await client.close()
        assert {order(answer)[0] for answer in answers} == set(ADDRESSES)
        assert upstream.count(NAME) == 1


async def test_stale_answers_too() -> None:
    async with serving("loadbalance\ncache 60 {\nserve_stale\n}") as (upstream, server):
        await server.client.ask(NAME)
        upstream.on(NAME, "A", scripted.SILENT)
        server.clock.jump(61)
        answers = [await server.client.ask(NAME) for _ in range(BY_CHANCE)]
        assert {order(answer)[0] for answer in answers} == set(ADDRESSES)
        assert {rrset.ttl for answer in answers for rrset in answer.answer} == {30}


async def test_which_records_a_truncated_answer_has_changes() -> None:
    many = tuple(f"{NAME} 60 IN A 10.0.0.{number}" for number in range(100))
    async with serving(records=many) as (_, server):
        shown = set()
        for _ in range(BY_CHANCE):
            answer = await server.client.ask(NAME)
            assert answer.flags & dns.flags.TC
            assert 20 < len(order(answer)) < 40
            shown.update(order(answer))
        assert len(shown) == 100


ALIAS = (f"{NAME} 60 IN CNAME host.example.", *(f"host.example. {30 + n} IN A 192.0.2.{n}" for n in (1, 2, 3)))
EXCHANGES = tuple(f"{NAME} {30 + n} IN MX {n} {'m' * n}.{NAME}" for n in (1, 2, 3))  # not of one length


@pytest.mark.parametrize(("rdtype", "lines"), [("A", ALIAS), ("MX", EXCHANGES)], ids=["alias", "exchanges"])
async def test_each_ttl_stays_with_its_record_and_an_alias_in_front(rdtype: str, lines: tuple[str, ...]) -> None:
    async with serving() as (upstream, server):
        upstream.on(NAME, rdtype, Reply(records=lines))
        firsts = Counter[str]()
        for asked in range(8):
            wire = query(NAME, rdtype).to_wire()
            answer = dns.message.from_wire(await server.client.exchange(wire), one_rr_per_rrset=True)
            fields = [rrset.to_text().split(" ", 2) for rrset in answer.answer]
            assert sorted(f"{name} {int(ttl) + asked} {rest}" for name, ttl, rest in fields) == sorted(lines)
            firsts[next(rest for _, _, rest in fields if not rest.startswith("IN CNAME"))] += 1
            assert (answer.answer[0].rdtype == dns.rdatatype.CNAME) == (lines is ALIAS)
            server.clock.jump(1)
        assert min(firsts.values()) >= 2
        assert len(firsts) == 3


async def test_keepttl_holds_in_each_order() -> None:
    async with serving("loadbalance\ncache 60 {\nkeepttl\n}") as (_, server):
        for _ in range(7):
            answer = await server.client.ask(NAME)
            assert [rrset.ttl for rrset in answer.answer] == [60]
            server.clock.jump(2)


async def test_a_popular_answer_is_refreshed_and_goes_on_taking_turns() -> None:
    async with serving("loadbalance\ncache 60 {\nprefetch 2 1m 20%\n}") as (upstream, server):
        for _ in range(6):
            await server.client.ask(NAME)
        server.clock.jump(50)
        before = order(await server.client.ask(NAME))
        await upstream.seen(2)
        await server.settle()
        firsts = Counter([order(await server.client.ask(NAME))[0] for _ in range(7)][1:])
        assert firsts == dict.fromkeys(ADDRESSES, 2)
        assert sorted(before) == ADDRESSES
        assert upstream.count(NAME) == 2


async def test_a_reload_begins_and_ends_it() -> None:
    async with serving() as (upstream, server):
        forward = f"forward . {upstream.host}:{upstream.port}"
        for _ in range(3):
            await server.client.ask(NAME)
        assert await server.reload(f"cache 60\n{forward}")
        assert [order(await server.client.ask(NAME)) for _ in range(4)] == [ADDRESSES] * 4
        assert await server.reload(f"loadbalance {{\nprefer 192.0.2.3/32\n}}\ncache 60\n{forward}")
        orders = [order(await server.client.ask(NAME)) for _ in range(5)][1:]
        assert [first for first, *_ in orders] == [ADDRESSES[2]] * 4
        assert len({tuple(each) for each in orders}) == 2
        assert upstream.count(NAME) == 1


async def test_all_bytes_come_back() -> None:
    async with serving() as (_, server):
        for asked in (query(NAME, "A"), query(NAME, "A", edns=True)):
            for _ in range(3):
                await server.client.exchange(asked.to_wire())
        ledger = server.daemon.kept.ledger
        assert await server.reload("cache 60\nforward . 192.0.2.53")
        while ledger.tidy():
            pass
        stored = sum(purse.size_bytes for purse in ledger.purses)
        assert ledger.used_bytes == stored
