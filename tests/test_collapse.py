"""Many askers, one upstream question: held from outside, on a whole server (tests/collapse has the values)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.edns
import dns.flags
import dns.rcode

from resolver.pipeline import SERVED_PER_TURN
from tests.support import node, scripted
from tests.support.addresses import loopback
from tests.support.client import Tcp, Udp, parse, query, records
from tests.support.jumping import StandingClock
from tests.support.scripted import Reply

CLIENTS = 200
NAME = "web.shop.example."
ADDRESSES = {"A": [f"192.0.2.{number}" for number in range(1, 41)], "AAAA": ["2001:db8::7"]}


@asynccontextmanager
async def a_held_name(text: str = "cache 60") -> AsyncIterator[tuple[scripted.Upstream, node.Node, asyncio.Event]]:
    """Run a server and an upstream that knows `NAME` and answers when the event is set."""
    release = asyncio.Event()
    clock = StandingClock()
    async with (
        scripted.running() as upstream,
        node.serving(
            f"{text}\nforward . {upstream.host}:{upstream.port} {{\nprefer_udp\n}}", clock=clock
        ) as server,
    ):
        for rdtype, addresses in ADDRESSES.items():
            lines = tuple(f"{NAME} 60 IN {rdtype} {address}" for address in addresses)
            upstream.on(NAME, rdtype, Reply(records=lines, release=release))
        try:
            yield upstream, server, release
        finally:
            clock.go()
            clock.jump(10)  # what is still under way ends, so that nobody waits for it


async def until_asked(upstream: scripted.Upstream, times: int) -> None:
    while upstream.count(NAME) < times:
        await upstream.seen(len(upstream.asked) + 1)


async def turns(count: int = 100) -> None:
    """Let everything that is on its way arrive."""
    for _ in range(count):
        await asyncio.sleep(0)


def letters(number: int) -> str:
    """A letter case of the name for each client: the bits of its number."""
    return "".join(char.upper() if number >> place % 8 & 1 else char for place, char in enumerate(NAME))


def wire_of(number: int) -> bytes:
    """One client's query: its own ID, letter case, EDNS or not, size."""
    edns = number % 3 > 0
    return query(
        letters(number),
        "AAAA" if number % 2 else "A",
        edns=edns,
        size=(512, 512, 4096)[number % 3],
        query_id=1000 + number,
    ).to_wire()


def check(number: int, answer_wire: bytes, *, tcp: bool) -> None:
    """Assert that it is this client's own answer: ID, letters, OPT, size, and all or as much as fits."""
    asked = wire_of(number)
    answer = parse(answer_wire, to=asked)
    assert answer_wire[12 : 12 + len(NAME) + 1 + 4] == asked[12 : 12 + len(NAME) + 1 + 4]
    assert (answer.edns >= 0) == (number % 3 > 0)
    rdtype = "AAAA" if number % 2 else "A"
    limit = 65535 if tcp else (512, 512, 1232)[number % 3]
    assert len(answer_wire) <= limit
    cut = rdtype == "A" and limit == 512
    assert bool(answer.flags & dns.flags.TC) == cut
    addresses = [line.rsplit(" ", 1)[1] for line in records(answer)]
    assert set(addresses) < set(ADDRESSES[rdtype]) if cut else set(addresses) == set(ADDRESSES[rdtype])


async def test_two_hundred_clients_cost_upstream_two_questions() -> None:
    async with a_held_name() as (upstream, server, release):
        sources = [loopback() for _ in range(20)]  # so that no bound of one client's connections is met
        clients: list[Udp | Tcp] = []
        for number in range(CLIENTS):
            kind: type[Udp] | type[Tcp] = Tcp if number // 2 % 2 else Udp
            clients.append(await kind.open(server.host, server.port, source=sources[number % 20]))
        for number, client in enumerate(clients):
            client.send(wire_of(number))
            if isinstance(client, Udp) and number % 5 == 0:
                client.send(wire_of(number))  # a retransmission is no new question
        await until_asked(upstream, 2)
        await turns()
        release.set()
        for number, client in enumerate(clients):
            for _ in range(2 if isinstance(client, Udp) and number % 5 == 0 else 1):
                check(number, await client.receive(), tcp=isinstance(client, Tcp))
        assert (upstream.count(NAME, "A"), upstream.count(NAME, "AAAA")) == (1, 1)
        # And what they waited for is kept.
        assert (await server.client.ask(NAME)).rcode() == dns.rcode.NOERROR
        assert upstream.count(NAME) == 2
        for client in clients:
            await client.close()


async def test_more_clients_than_one_loop_turn_serves() -> None:
    async with a_held_name() as (upstream, server, release):
        clients = [await Udp.open(server.host, server.port) for _ in range(20)]
        wires = [query(NAME, "AAAA", query_id=number).to_wire() for number in range(2 * SERVED_PER_TURN + 10)]
        for number, wire in enumerate(wires):
            clients[number % 20].send(wire)
        await until_asked(upstream, 1)
        await turns()
        release.set()
        answered = set()
        for number in range(len(wires)):
            wire = await clients[number % 20].receive()
            answered.add(int.from_bytes(wire[:2], "big"))
            assert len(records(parse(wire))) == 1
        assert answered == set(range(len(wires)))
        assert upstream.count(NAME) == 1
        for client in clients:
            await client.close()


async def test_a_tcp_client_that_leaves_disturbs_nobody() -> None:
    async with a_held_name() as (upstream, server, release):
        leaving = await Tcp.open(server.host, server.port)
        leaving.send(wire_of(2))
        await until_asked(upstream, 1)
        async with (
            await Tcp.open(server.host, server.port) as stays,
            await Udp.open(server.host, server.port) as udp,
        ):
            stays.send(wire_of(4))
            udp.send(wire_of(8))
            await turns()
            await leaving.close()
            await turns()
            release.set()
            check(4, await stays.receive(), tcp=True)
            check(8, await udp.receive(), tcp=False)
        assert upstream.count(NAME) == 1


async def test_when_all_have_left_the_answer_is_kept_all_the_same() -> None:
    async with a_held_name() as (upstream, server, release):
        async with await Tcp.open(server.host, server.port) as leaving:
            leaving.send(wire_of(2))
            await until_asked(upstream, 1)
        await turns()
        release.set()
        await turns()
        assert len(records(await server.client.ask(NAME, tcp=True))) == len(ADDRESSES["A"])
        assert upstream.count(NAME) == 1


async def test_a_flight_that_fails_releases_all_at_once() -> None:
    async with a_held_name() as (upstream, server, _):
        clients = [await Udp.open(server.host, server.port) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(wire_of(2 * number))
        await until_asked(upstream, 1)
        await turns()
        assert not any(client.pending() for client in clients)
        server.clock.jump(5)
        for number, client in enumerate(clients):
            answer = parse(await client.receive(), to=wire_of(2 * number))
            assert answer.rcode() == dns.rcode.SERVFAIL
            errors = [int(option.code) for option in answer.options if isinstance(option, dns.edns.EDEOption)]
            assert errors == ([22] if answer.edns >= 0 else [])  # RFC 8914: no reachable authority
            await client.close()
        assert upstream.count(NAME) == 1, "the deadline was over at once: there was no second try"


async def test_a_prefetch_and_a_client_share_one_question() -> None:
    async with a_held_name("cache 60 {\nprefetch 1 1m 10%\n}") as (upstream, server, release):
        release.set()
        await server.client.ask(NAME, "AAAA")
        release.clear()
        server.clock.jump(59.9)
        assert (await server.client.ask(NAME, "AAAA")).rcode() == dns.rcode.NOERROR  # and begins the prefetch
        await until_asked(upstream, 2)
        server.clock.jump(0.2)  # what was known is over, the prefetch is still in the air
        async with await Udp.open(server.host, server.port) as client:
            client.send(wire_of(1))
            await turns()
            assert not client.pending()
            release.set()
            check(1, await client.receive(), tcp=False)
        assert upstream.count(NAME) == 2


async def test_a_refresh_of_a_stale_answer_is_one_question() -> None:
    async with a_held_name("cache 60 {\nserve_stale 1h immediate\n}") as (upstream, server, release):
        release.set()
        await server.client.ask(NAME, "AAAA")
        release.clear()
        server.clock.jump(61)
        for number in range(1, 41, 2):
            assert (await server.client.ask(letters(number), "AAAA")).rcode() == dns.rcode.NOERROR
        await until_asked(upstream, 2)
        assert upstream.count(NAME) == 2
