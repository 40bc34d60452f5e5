"""The scripted upstream and the test client, against each other: a mistake here makes other tests lie."""

import asyncio
import socket

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.support import scripted
from tests.support.client import Client, Tcp, Udp, parse, query, records
from tests.support.scripted import SILENT, Forgery, Reply

WEB = "web.example. 30 IN A 192.0.2.7"
SOON_S = 0.05  # how long silence is listened to: nothing else can show it


async def test_what_is_told_is_answered_over_both_protocols() -> None:
    async with scripted.running() as upstream:
        upstream.answer("web.example.", "A", WEB)
        client = Client(upstream.host, upstream.port)
        for tcp in (False, True):
            assert records(await client.ask("Web.Example.", tcp=tcp)) == ["Web.Example. 30 IN A 192.0.2.7"]
            answer = await client.ask("web.example.", "AAAA", tcp=tcp)
            assert answer.rcode() == dns.rcode.NXDOMAIN
        assert upstream.count("web.example", "A", "udp") == 1
        assert upstream.count("web.example", proto="tcp") == 2
        assert upstream.count() == len(upstream.asked) == 4
        assert upstream.asked[0].peer[0] == "127.0.0.1"


async def test_an_answer_waits_for_its_event_and_others_pass_it() -> None:
    async with scripted.running() as upstream:
        release = asyncio.Event()
        upstream.on("slow.example.", "A", Reply(records=("slow.example. 30 IN A 192.0.2.8",), release=release))
        upstream.answer("web.example.", "A", WEB)
        async with await Tcp.open(upstream.host, upstream.port) as stream:
            stream.send(query("slow.example.", query_id=1).to_wire())
            stream.send(query("web.example.", query_id=2).to_wire())
            assert parse(await stream.receive()).id == 2
            await upstream.seen(2)
            release.set()
            assert parse(await stream.receive()).id == 1


async def test_silence_and_what_waits_is_dropped_at_the_end() -> None:
    async with scripted.running() as upstream:
        upstream.on("lost.example.", "*", SILENT)
        upstream.on("never.example.", "*", Reply(release=asyncio.Event()))
        async with await Udp.open(upstream.host, upstream.port) as socket_:
            socket_.send(query("lost.example.").to_wire())
            socket_.send(query("never.example.").to_wire())
            await upstream.seen(2)
            with pytest.raises(TimeoutError):
                await socket_.receive(SOON_S)


async def test_truncation_over_udp_only() -> None:
    async with scripted.running() as upstream:
        upstream.on("web.example.", "A", Reply(records=(WEB,), truncate=True))
        client = Client(upstream.host, upstream.port)
        short = await client.ask("web.example.")
        assert short.flags & dns.flags.TC
        assert not short.answer
        assert records(await client.ask("web.example.", tcp=True)) == [WEB]


@pytest.mark.parametrize("forgery", ["id", "name", "type", "no question", "not a response", "garbage"])
async def test_a_forgery_comes_first_and_does_not_fit_the_question(forgery: Forgery) -> None:
    async with scripted.running() as upstream:
        upstream.on("web.example.", "A", Reply(records=(WEB,), forgeries=(forgery,)))
        wire = query("web.example.").to_wire()
        async with await Udp.open(upstream.host, upstream.port) as socket_:
            socket_.send(wire)
            forged, right = await socket_.receive(), await socket_.receive()
        assert records(parse(right, to=wire)) == [WEB]
        assert not fits(forged, wire)


def fits(forged: bytes, wire: bytes) -> bool:
    try:
        answer = parse(forged, to=wire)
    except (AssertionError, dns.exception.DNSException):
        return False
    return bool(answer.question)


async def test_a_port_that_refuses_and_comes_back() -> None:
    async with scripted.running() as upstream:
        upstream.answer("web.example.", "A", WEB)
        client = Client(upstream.host, upstream.port)
        await upstream.refuse()
        with pytest.raises(ConnectionRefusedError):
            await client.ask("web.example.")
        with pytest.raises(ConnectionRefusedError):
            await client.ask("web.example.", tcp=True)
        await upstream.reopen()
        assert records(await client.ask("web.example.")) == [WEB]
        assert upstream.count() == 1


async def test_a_connection_that_is_closed_after_one_answer() -> None:
    async with scripted.running() as upstream:
        upstream.on("web.example.", "A", Reply(records=(WEB,), close=True))
        async with await Tcp.open(upstream.host, upstream.port) as stream:
            stream.send(query("web.example.").to_wire())
            await stream.receive()
            assert await stream.at_end()


async def test_a_wrong_rule_is_told_at_the_end_of_the_block() -> None:
    async def story() -> None:
        async with scripted.running() as upstream:
            upstream.answer("web.example.", "A", "web.example. 30 IN A not-an-address")
            async with await Udp.open(upstream.host, upstream.port) as socket_:
                socket_.send(query("web.example.").to_wire())
                await upstream.seen(1)

    with pytest.raises(dns.exception.SyntaxError):
        await story()


async def test_ipv6() -> None:
    async with scripted.running(host="::1") as upstream:
        upstream.answer("web.example.", "A", WEB)
        assert records(await Client("::1", upstream.port).ask("web.example.", edns=True)) == [WEB]


def test_the_whole_loopback_net_is_ours() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.254.253.252", 0))
