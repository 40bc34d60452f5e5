"""Upstreams that misbehave, each in its way: what a client gets, when, and what the upstream sees.

The clock stands still but where a test lets it go on, so "at once" means without any time at all. Stories tell the
longer ones (tests/scenarios).
"""

import asyncio
import struct

import dns.message
import dns.rcode
import pytest

from resolver.forward.attempt import TRY_S
from tests.support import node, scripted
from tests.support.client import Udp, parse, query, records
from tests.support.replies import Forgery, Reply, reply_to
from tests.support.standing import error_of, forwarding, record, serving

NO_REACHABLE_AUTHORITY = 22  # RFC 8914 section 4.23


async def after(server: node.Node, seconds: float, asking: "asyncio.Task[dns.message.Message]") -> None:
    """Let time pass; the answer must not have come before its last 0.2 s, and must have come at the end."""
    await server.go_on(seconds - 0.2)
    assert not asking.done(), "too early"
    await server.go_on(0.2)
    await asyncio.wait_for(asyncio.shield(asking), 5)


# Silence


async def test_both_silent_is_servfail_after_the_deadline() -> None:
    async with scripted.running() as one, scripted.running() as two, serving(forwarding(one, two)) as server:
        one.silent = two.silent = True
        asking = asyncio.create_task(server.client.ask("web.example.", edns=True))
        await one.seen(2)  # the health check of the start, and this
        await after(server, 2.1, asking)
        answer = asking.result()
        assert (answer.rcode(), error_of(answer)) == (dns.rcode.SERVFAIL, NO_REACHABLE_AUTHORITY)
        assert [upstream.count("web.example.") for upstream in (one, two)] == [2, 2]


async def test_both_silent_and_a_fallback_is_its_answer() -> None:
    async with scripted.running() as one, scripted.running() as two, scripted.running() as last:
        options = f"policy sequential\nfallback {last.host}:{last.port}"
        async with serving(forwarding(one, two, options=options)) as server:
            one.silent = two.silent = True
            last.answer("web.example.", "A", record("web.example."))
            asking = asyncio.create_task(server.client.ask("web.example."))
            await one.seen(2)
            await after(server, 2 * TRY_S + 0.1, asking)
            assert records(asking.result()) == [record("web.example.")]
            assert server.daemon.registry.forward.fallbacks == 1


async def test_a_shorter_deadline_is_kept() -> None:
    async with scripted.running() as one, serving(forwarding(one, options="deadline 600ms")) as server:
        one.silent = True
        asking = asyncio.create_task(server.client.ask("web.example."))
        await one.seen(2)
        await after(server, 0.7, asking)
        assert asking.result().rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("policy", ["sequential", "random", "round_robin"])
async def test_one_silent_is_answered_by_the_other_and_then_left_alone(policy: str) -> None:
    options = f"policy {policy}\nhealth_check 100ms"
    async with (
        scripted.running() as one,
        scripted.running() as two,
        serving(forwarding(one, two, options=options)) as server,
    ):
        one.silent = True
        names = [f"w{number}.example." for number in range(20)]
        for name in names:
            two.answer(name, "A", record(name))
        asking = [asyncio.create_task(server.client.ask(name)) for name in names[:10]]
        await server.go_on(2 * TRY_S + 0.2)
        for task in asking:
            assert len(records(await task)) == 1
        assert any(one.count(name) for name in names[:10])
        await server.go_on(4)  # three checks of a second each
        for name in names[10:]:
            assert records(await server.client.ask(name)) == [record(name)]  # without any time
        assert not any(one.count(name) for name in names[10:])
        assert server.daemon.registry.upstream(f"{one.host}:{one.port}").healthcheck_failures >= 3


async def test_a_late_answer_of_the_first_try_counts() -> None:
    """Both tries are out when the first upstream answers at last; what comes after that harms nobody."""
    release = asyncio.Event()
    async with scripted.running() as one, scripted.running() as two, serving(forwarding(one, two)) as server:
        one.on("web.example.", "A", Reply(records=(record("web.example."),), release=release))
        two.on("web.example.", "A", Reply(records=(record("web.example.", "192.0.2.8"),), release=release))
        asking = asyncio.create_task(server.client.ask("web.example."))
        await server.go_on(TRY_S + 0.1)
        while not two.count("web.example."):
            await two.seen(len(two.asked) + 1)
        release.set()
        assert len(records(await asking)) == 1
        await server.settle()
        two.answer("next.example.", "A", record("next.example."))
        one.answer("next.example.", "A", record("next.example."))
        assert records(await server.client.ask("next.example.")) == [record("next.example.")]


# Refusals of the kernel


async def test_a_closed_port_is_passed_over_at_once() -> None:
    async with scripted.running() as one, scripted.running() as two, serving(forwarding(one, two)) as server:
        await one.refuse()
        for name in ("a.example.", "b.example."):
            two.answer(name, "A", record(name))
            assert records(await server.client.ask(name)) == [record(name)]


async def test_every_port_closed_is_servfail_at_once() -> None:
    async with scripted.running() as one, serving(forwarding(one)) as server:
        await one.refuse()
        answer = await server.client.ask("web.example.", edns=True)
        assert (answer.rcode(), error_of(answer)) == (dns.rcode.SERVFAIL, NO_REACHABLE_AUTHORITY)
        await one.reopen()
        one.answer("web.example.", "A", record("web.example."))
        assert records(await server.client.ask("web.example.")) == [record("web.example.")]


# Wrong answers


@pytest.mark.parametrize("forgery", ["id", "name", "type", "no question", "not a response"])
async def test_a_wrong_answer_is_counted_and_waited_past(forgery: Forgery) -> None:
    async with scripted.running() as one, serving(forwarding(one)) as server:
        one.on("web.example.", "A", Reply(records=(record("web.example."),), forgeries=(forgery, forgery)))
        answer = await server.client.ask("web.example.")
        assert records(answer) == [record("web.example.")]
        counters = server.daemon.registry.upstream(f"{one.host}:{one.port}")
        assert sum(counts.wrong_answers for counts in counters.connections.values()) == 2


async def test_only_wrong_answers_is_silence() -> None:
    async with scripted.running() as one, scripted.running() as two, serving(forwarding(one, two)) as server:
        one.on("web.example.", "A", Reply(forgeries=("id", "name", "type"), right=False))
        two.answer("web.example.", "A", record("web.example."))
        asking = asyncio.create_task(server.client.ask("web.example."))
        await after(server, TRY_S + 0.1, asking)
        assert records(asking.result()) == [record("web.example.")]


async def test_a_second_copy_of_an_answer_harms_nobody() -> None:
    async with scripted.running() as one, serving(forwarding(one)) as server:
        one.on("web.example.", "A", Reply(records=(record("web.example."),), copies=3))
        for _ in range(3):
            assert records(await server.client.ask("web.example.")) == [record("web.example.")]


def _answer(query_wire: bytes, counts: tuple[int, int, int], body: bytes, flags: int = 0x8180) -> bytes:
    question = query_wire[12 : query_wire.index(b"\0", 12) + 5]
    return query_wire[:2] + struct.pack(">HHHHH", flags, 1, *counts) + question + body


#   name of the fault, the answer's counts and what stands behind its question
MALFORMED = {
    "a record that is not there": ((1, 0, 0), b""),
    "a record cut off": ((1, 0, 0), b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0"),
    "a pointer to itself": ((1, 0, 0), b"\xc0\x1d\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"),
    "a pointer past the end": ((1, 0, 0), b"\xff\xff\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"),
    "an unknown label type": ((1, 0, 0), b"\x80\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"),
    "a count that lies": ((65535, 65535, 65535), b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"),
    "two OPT records": ((0, 0, 2), b"\0\0\x29\4\xd0\0\0\0\0\0\0" * 2),
    "an OPT record in the answer": ((1, 0, 0), b"\0\0\x29\4\xd0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("fault", MALFORMED)
@pytest.mark.parametrize("options", ["", "force_tcp"])
async def test_a_malformed_answer_is_servfail_and_no_traceback(fault: str, options: str) -> None:
    counts, body = MALFORMED[fault]
    async with scripted.running() as one, serving("cache\n" + forwarding(one, options=options)) as server:
        one.on("web.example.", "A", Reply(raw=lambda wire: _answer(wire, counts, body)))
        answer = await server.client.ask("web.example.", edns=True)
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert not records(answer)
        one.answer("next.example.", "A", record("next.example."))
        assert records(await server.client.ask("next.example.")) == [record("next.example.")]
        assert server.daemon.registry.process.panics == 0


async def test_an_unknown_extended_rcode_is_servfail() -> None:
    """BADVERS and its like (RFC 6891 section 6.1.3) are between us and the upstream; no client has a use for it."""

    def badvers(wire: bytes) -> bytes:
        return _answer(wire, (0, 0, 1), b"\0\0\x29\4\xd0\1\0\0\0\0\0")

    async with scripted.running() as one, serving(forwarding(one)) as server:
        one.on("web.example.", "A", Reply(raw=badvers))
        assert (await server.client.ask("web.example.")).rcode() == dns.rcode.SERVFAIL


async def test_an_upstream_that_knows_no_edns_is_asked_without() -> None:
    def old(wire: bytes) -> bytes:
        if dns.message.from_wire(wire).edns >= 0:
            return wire[:2] + b"\x81\x81" + b"\0" * 8  # FORMERR, nothing but a header
        return reply_to(wire, Reply(records=(record("web.example."),), edns_size=0), "udp")[0]

    async with scripted.running() as one, serving(forwarding(one)) as server:
        one.on("web.example.", "A", Reply(raw=old))
        answer = await server.client.ask("web.example.", edns=True)
        assert records(answer) == [record("web.example.")]
        assert answer.edns >= 0  # the client's EDNS is our affair
        assert one.count("web.example.") == 2


# Clients


async def test_garbage_from_a_client_stops_nothing() -> None:
    async with scripted.running() as one, serving(forwarding(one)) as server:
        one.answer("web.example.", "A", record("web.example."))
        async with await Udp.open(server.host, server.port) as client:
            for junk in (b"", b"\0", b"\xff" * 11, b"\xff" * 600, query("web.example.").to_wire()[:20]):
                client.send(junk)
            wire = query("web.example.", query_id=7).to_wire()
            client.send(wire)
            while (answer := await client.receive())[:2] != wire[:2]:
                assert dns.message.from_wire(answer).rcode() in {dns.rcode.FORMERR, dns.rcode.NOTIMP}
            assert records(parse(answer, to=wire)) == [record("web.example.")]
