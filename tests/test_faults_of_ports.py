"""Source ports to an upstream: how many, for how long, and when one is left behind (conntrack's stale entries)."""

import asyncio

import dns.message
import dns.rcode

from resolver.forward.attempt import TRY_S
from resolver.forward.udp import QUESTIONS_PER_PORT
from tests.support import node, scripted
from tests.support.replies import Reply
from tests.support.standing import forwarding, record, serving


async def burst(server: node.Node, names: list[str]) -> list["asyncio.Task[dns.message.Message]"]:
    """Ask for all of them at the same time."""
    asking = [asyncio.create_task(server.client.ask(name)) for name in names]
    await server.settle()
    return asking


def ports_of(upstream: scripted.Upstream, names: list[str]) -> list[int]:
    return [asked.peer[1] for asked in upstream.asked if asked.name in names and asked.proto == "udp"]


async def test_a_port_carries_one_question_until_its_first_answer() -> None:
    release = asyncio.Event()
    names = [f"n{number}.example." for number in range(20)]
    later = [f"l{number}.example." for number in range(20)]
    async with scripted.running() as one:
        one.silent = True  # so that the health check of the start confirms no port
        async with serving(forwarding(one)) as server:
            one.silent = False
            for name in names:
                one.on(name, "A", Reply(records=(record(name),), release=release))
            for name in later:
                one.on(name, "A", Reply(records=(record(name),), release=release))
            first = await burst(server, names)
            assert len(ports_of(one, names)) == len(set(ports_of(one, names))) == len(names)
            release.set()
            for asking in first:
                await asking
            release.clear()
            second = await burst(server, later)
            used = ports_of(one, later)
            assert len(used) == len(later)
            assert set(used) < set(ports_of(one, names)), "ports that were heard carry several questions"
            release.set()
            for asking in second:
                await asking


async def test_a_port_retires_after_its_share_of_questions() -> None:
    count = 2 * QUESTIONS_PER_PORT
    names = [f"n{number}.example." for number in range(count)]
    async with scripted.running() as one, serving(forwarding(one)) as server:
        for name in names:
            one.answer(name, "A", record(name))
            await server.client.ask(name)
        used = ports_of(one, names)
        assert len(used) == count
        assert 2 <= len(set(used)) <= 3  # the first one had the health check, too
        assert max(used.count(port) for port in used) <= QUESTIONS_PER_PORT


async def test_a_timeout_leaves_its_port_and_every_port_not_heard_since() -> None:
    """A conntrack entry leads to a pod that is gone: whatever goes out by those ports is lost."""
    release = asyncio.Event()
    warm = ["a.example.", "b.example.", "c.example."]
    async with scripted.running() as one:
        one.silent = True  # so that the health check of the start confirms no port
        async with serving(forwarding(one)) as server:
            one.silent = False
            for name in warm:
                one.on(name, "A", Reply(records=(record(name),), release=release))
            asking = await burst(server, warm)
            release.set()
            for task in asking:
                await task
            stale = set(ports_of(one, warm))
            assert len(stale) == len(warm)
            await server.go_on(0.1)
            one.silent = True
            lost = (await burst(server, ["lost.example."]))[0]
            await server.go_on(TRY_S + 0.1)
            first, second = ports_of(one, ["lost.example."])
            assert first in stale
            assert second not in stale
            one.silent = False
            one.answer("next.example.", "A", record("next.example."))
            await server.client.ask("next.example.")
            assert not stale & set(ports_of(one, ["next.example."]))
            await server.go_on(5)
            assert (await lost).rcode() == dns.rcode.SERVFAIL


async def test_a_timeout_leaves_its_port_even_if_it_was_heard_since() -> None:
    """Of two questions on one port one is answered, one is lost: the port is not trusted any more."""
    async with scripted.running() as one, serving(forwarding(one)) as server:
        for name in ("warm.example.", "good.example.", "next.example."):
            one.answer(name, "A", record(name))
        await server.client.ask("warm.example.")
        one.on("lost.example.", "A", scripted.SILENT)
        lost = (await burst(server, ["lost.example."]))[0]
        await server.go_on(0.1)
        await server.client.ask("good.example.")
        assert ports_of(one, ["lost.example."]) == ports_of(one, ["good.example."])
        await server.go_on(TRY_S)
        await server.client.ask("next.example.")
        assert ports_of(one, ["good.example."])[0] not in ports_of(one, ["lost.example."])[1:]
        assert ports_of(one, ["good.example."]) != ports_of(one, ["next.example."])
        await server.go_on(6)
        assert (await lost).rcode() == dns.rcode.SERVFAIL
