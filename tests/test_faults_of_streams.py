"""Upstreams over TCP and TLS that close, reset, or are not who they should be, and what a client gets."""

import asyncio
from contextlib import suppress
from pathlib import Path

import dns.message
import dns.rcode

from tests.forward.test_tls import SERVER_NAME, Certificates
from tests.support import node, scripted
from tests.support.client import records
from tests.support.replies import Reply
from tests.support.standing import error_of, forwarding, record, serving

NO_REACHABLE_AUTHORITY = 22  # RFC 8914 section 4.23


async def burst(server: node.Node, names: list[str]) -> list["asyncio.Task[dns.message.Message]"]:
    """Ask for all of them at the same time."""
    asking = [asyncio.create_task(server.client.ask(name)) for name in names]
    await server.settle()
    return asking


async def test_an_upstream_that_closes_after_each_answer() -> None:
    names = [f"n{number}.example." for number in range(10)]
    async with scripted.running() as one, serving(forwarding(one, options="force_tcp")) as server:
        for name in names:
            one.on(name, "A", Reply(records=(record(name),), close=True))
        for name in names[:5]:
            assert records(await server.client.ask(name)) == [record(name)]
        asking = await burst(server, names[5:])
        for _ in range(20):
            await server.go_on(0.1)
            if all(task.done() for task in asking):
                break
        for name, task in zip(names[5:], asking, strict=True):
            assert records(await task) == [record(name)]


async def test_an_upstream_that_closes_without_an_answer_is_passed_over() -> None:
    async with (
        scripted.running() as one,
        scripted.running() as two,
        serving(forwarding(one, two, options="force_tcp\npolicy sequential")) as server,
    ):
        one.on("web.example.", "A", Reply(silent=("tcp",), close=True))
        two.answer("web.example.", "A", record("web.example."))
        asking = asyncio.create_task(server.client.ask("web.example."))
        for _ in range(20):
            await server.go_on(0.1)
            if asking.done():
                break
        assert records(await asking) == [record("web.example.")]


async def test_a_connection_that_is_reset_is_opened_again() -> None:
    async with scripted.running() as one, serving(forwarding(one, options="force_tcp")) as server:
        for name in ("a.example.", "b.example."):
            one.answer(name, "A", record(name))
        assert records(await server.client.ask("a.example.")) == [record("a.example.")]
        await one.hang_up()
        assert records(await server.client.ask("b.example.")) == [record("b.example.")]
        assert one.connections >= 2


async def test_a_connection_that_is_reset_with_a_question_on_it() -> None:
    async with scripted.running() as one, serving(forwarding(one, options="force_tcp")) as server:
        one.on("web.example.", "A", Reply(records=(record("web.example."),), release=asyncio.Event()))
        asking = asyncio.create_task(server.client.ask("web.example."))
        while not one.count("web.example."):
            await one.seen(len(one.asked) + 1)
        one.answer("web.example.", "A", record("web.example."))
        await one.hang_up()
        with suppress(TimeoutError):
            for _ in range(20):
                await server.go_on(0.1)
                if asking.done():
                    break
        assert records(await asking) == [record("web.example.")]


async def test_truncated_and_no_tcp_is_the_other_upstreams_answer() -> None:
    async with scripted.running() as one, scripted.running() as two, serving(forwarding(one, two)) as server:
        one.on(
            "web.example.",
            "A",
            Reply(records=(record("web.example."),), truncate=True, silent=("tcp",), close=True),
        )
        two.answer("web.example.", "A", record("web.example."))
        asking = asyncio.create_task(server.client.ask("web.example."))
        for _ in range(30):
            await server.go_on(0.1)
            if asking.done():
                break
        assert records(await asking) == [record("web.example.")]


async def test_an_upstream_over_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.sign("server", f"DNS:{SERVER_NAME}")
    async with scripted.running(tls=certificates.server()) as one:
        options = f"tls {certificates.path('ca.pem')}\ntls_servername {SERVER_NAME}"
        async with serving(f"forward . tls://{one.host}:{one.port} {{\n{options}\n}}") as server:
            for name in ("a.example.", "b.example."):
                one.answer(name, "A", record(name))
                assert records(await server.client.ask(name)) == [record(name)]
            assert one.count(proto="udp") == 0
            assert one.connections == 1


async def test_an_upstream_over_tls_that_nobody_signed_is_not_asked(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.sign("server", "DNS:somebody.else.example")
    async with scripted.running(tls=certificates.server()) as one:
        options = f"tls {certificates.path('ca.pem')}\ntls_servername {SERVER_NAME}"
        async with serving(f"forward . tls://{one.host}:{one.port} {{\n{options}\n}}") as server:
            asking = asyncio.create_task(server.client.ask("web.example.", edns=True))
            await server.go_on(2.5)
            answer = await asking
            assert (answer.rcode(), error_of(answer)) == (dns.rcode.SERVFAIL, NO_REACHABLE_AUTHORITY)
            assert one.count() == 0
