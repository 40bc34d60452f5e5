"""A reload under way: what is known stays, what is new begins, and no client notices (stories tell more)."""

import asyncio
from pathlib import Path

import dns.rcode
import pytest

from resolver import logs
from tests.support import node, scripted
from tests.support.addresses import free_port, loopback
from tests.support.client import Client, Tcp, Udp, parse, query, records
from tests.support.replies import Reply
from tests.support.standing import error_of, record, serving


def blocks(upstream: scripted.Upstream, *zones: str, cache: str = "cache 60", tail: str = "") -> str:
    """A Corefile with one block for each zone, all on the same address."""
    return "".join(
        f"{zone}:PORT {{\n    bind HOST\n    {cache}\n    forward . {upstream.host}:{upstream.port}\n{tail}\n}}\n"
        for zone in zones
    )


async def until_asked(upstream: scripted.Upstream, name: str) -> None:
    while not upstream.count(name):
        await upstream.seen(len(upstream.asked) + 1)


async def test_the_cache_stays_for_zones_that_go_on_and_goes_with_those_that_go() -> None:
    names = ("web.a.example.", "web.b.example.")
    async with scripted.running() as one, serving(blocks(one, "a.example.", "b.example.")) as server:
        for name in names:
            one.answer(name, "A", record(name))
            await server.client.ask(name)
        full_bytes = server.daemon.kept.ledger.used_bytes
        assert await server.reload(blocks(one, "a.example."))
        await server.go_on(1)
        assert 0 < server.daemon.kept.ledger.used_bytes < full_bytes, "what is gone gives its bytes back"
        assert records(await server.client.ask(names[0])) == [f"{names[0]} 59 IN A 192.0.2.7"]
        assert one.count(names[0]) == 1
        assert (await server.client.ask(names[1])).rcode() == dns.rcode.REFUSED
        # The zone comes back, and knows nothing.
        assert await server.reload(blocks(one, "a.example.", "b.example."))
        await server.client.ask(names[1])
        assert one.count(names[1]) == 2


async def test_a_block_without_cache_gives_its_bytes_back() -> None:
    async with scripted.running() as one, serving(blocks(one, "example.")) as server:
        one.answer("web.example.", "A", record("web.example."))
        for _ in range(3):
            await server.client.ask("web.example.")
        assert await server.reload(blocks(one, "example.", cache=""))
        await server.go_on(1)  # renderings are tidied up in the background
        assert server.daemon.kept.ledger.used_bytes == 0


async def test_a_flight_in_the_air_for_a_zone_that_goes_leaves_nothing_behind() -> None:
    """Its client gets the answer, and the ledger gets its bytes back."""
    release = asyncio.Event()
    async with (
        scripted.running() as one,
        serving(blocks(one, "a.example.", "b.example.")) as server,
        await Udp.open(server.host, server.port) as client,
    ):
        one.on("web.b.example.", "A", Reply(records=(record("web.b.example."),), release=release))
        wire = query("web.b.example.").to_wire()
        client.send(wire)
        await until_asked(one, "web.b.example.")
        assert await server.reload(blocks(one, "a.example."))
        release.set()
        assert records(parse(await client.receive(), to=wire)) == [record("web.b.example.")]
        await server.go_on(1)  # bytes are given back in the background
        assert server.daemon.kept.ledger.used_bytes == 0


@pytest.mark.parametrize("proto", ["udp", "tcp"])
async def test_a_flight_in_the_air_ends_with_the_upstream_that_it_began_with(proto: str) -> None:
    release = asyncio.Event()
    async with (
        scripted.running() as one,
        scripted.running() as two,
        serving(blocks(one, "example.")) as server,
    ):
        one.on("web.example.", "A", Reply(records=(record("web.example."),), release=release))
        two.answer("new.example.", "A", record("new.example."))
        kind: type[Udp] | type[Tcp] = Udp if proto == "udp" else Tcp
        async with await kind.open(server.host, server.port) as client:
            wire = query("web.example.").to_wire()
            client.send(wire)
            await until_asked(one, "web.example.")
            assert await server.reload(blocks(two, "example."))
            # Whoever asks the same now joins that flight; other names are the new upstream's.
            joining = asyncio.create_task(server.client.ask("web.example."))
            assert records(await server.client.ask("new.example.")) == [record("new.example.")]
            await server.settle()
            assert two.count("web.example.") == 0
            release.set()
            assert records(parse(await client.receive(), to=wire)) == [record("web.example.")]
            assert records(await joining) == [record("web.example.")]
        await server.go_on(15, 1)  # the old parts are closed
        users = {to: counters.users for to, counters in server.daemon.registry.upstreams.items()}
        assert users == {f"{one.host}:{one.port}": 0, f"{two.host}:{two.port}": 1}
        assert records(await server.client.ask("web.example."))
        assert one.count("web.example.") == 1


async def test_an_upstream_that_goes_on_keeps_its_counters() -> None:
    async with scripted.running() as one, serving(blocks(one, "example.")) as server:
        one.answer("web.example.", "A", record("web.example."))
        assert await server.reload(blocks(one, "example.", cache="cache 20"))
        await server.client.ask("web.example.")
        await server.go_on(15, 1)  # the old parts are closed
        counters = server.daemon.registry.upstreams[f"{one.host}:{one.port}"]
        assert counters.users == 1
        assert sum(counters.by_rcode[0].counts) == 1


@pytest.mark.parametrize("how", ["address", "resolv.conf", "name"])
async def test_a_client_that_asks_throughout_loses_nothing(how: str, tmp_path: Path) -> None:
    """Twenty reloads, each with other options, while cold names are asked for all the time."""
    port = 53 if how == "resolv.conf" else 0
    async with scripted.running(port=port) as one, scripted.running() as book:
        one.default = Reply(raw=_any_address)
        book.answer("dns.cluster.local.", "A", f"dns.cluster.local. 60 IN A {one.host}")
        resolv_conf = tmp_path / "resolv.conf"
        resolv_conf.write_text(f"nameserver {one.host}\n")
        target = {
            "address": f"{one.host}:{one.port}",
            "resolv.conf": str(resolv_conf),
            "name": f"dns.cluster.local:{one.port}",
        }[how]
        options = f"{{\nresolver {book.host}:{book.port}\n}}" if how == "name" else ""
        async with serving(f"cache 60\nforward . {target} {options}") as server:
            if how == "name":
                await until_asked(one, ".")
            codes: list[tuple[int, int | None]] = []
            answered, stop = asyncio.Event(), asyncio.Event()

            async def ask_on() -> None:
                async with await Udp.open(server.host, server.port) as client:
                    while not stop.is_set():
                        wire = query(f"n{len(codes)}.example.", edns=True).to_wire()
                        client.send(wire)
                        answer = parse(await client.receive(), to=wire)
                        codes.append((answer.rcode(), error_of(answer)))
                        answered.set()

            asking = asyncio.create_task(ask_on())
            for number in range(20):
                assert await server.reload(f"cache {61 + number}\nforward . {target} {options}")
                answered.clear()
                async with asyncio.timeout(5):
                    await answered.wait()
            stop.set()
            await asking
            assert set(codes) == {(dns.rcode.NOERROR, None)}
            assert len(codes) >= 20


def _any_address(wire: bytes) -> bytes:
    question = wire[12 : wire.index(b"\0", 12) + 5]
    header = wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
    return header + question + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"


@pytest.mark.parametrize(
    "broken",
    [
        "cache 60s\nforward . UP",
        "froward . UP",
        "forward . UP {\ntls no-such-file.pem\n}",
        "import no-such-file",
        ".:PORT {\n    bind HOST\n",
    ],
)
async def test_a_broken_corefile_changes_nothing_and_says_why(
    broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with scripted.running() as one, serving(blocks(one, ".")) as server:
        one.answer("web.example.", "A", record("web.example."))
        await server.client.ask("web.example.")
        settings, used_bytes = server.daemon.settings, server.daemon.kept.ledger.used_bytes
        memories = dict(server.daemon.kept.memories)
        capfd.readouterr()
        assert not await server.reload(broken.replace("UP", f"{one.host}:{one.port}"))
        await asyncio.get_running_loop().run_in_executor(None, logs.flush)
        said = capfd.readouterr().out
        assert "[ERROR] plugin/reload: reload failed, the old settings stay: " in said
        assert ":" in said.split("stay: ")[1], "FILE:LINE: what is wrong"
        assert server.daemon.registry.process.reload_failed == 1
        assert server.daemon.settings is settings
        assert server.daemon.kept.memories == memories
        assert server.daemon.kept.ledger.used_bytes == used_bytes
        assert records(await server.client.ask("web.example.")) == [record("web.example.")]
        assert one.count("web.example.") == 1


async def test_an_address_in_use_changes_nothing_and_says_whose() -> None:
    async with (
        scripted.running() as one,
        scripted.running() as taken,
        serving(blocks(one, "a.example.")) as server,
    ):
        one.answer("web.a.example.", "A", record("web.a.example."))
        await server.client.ask("web.a.example.")
        memories = dict(server.daemon.kept.memories)
        other = f"b.example.:{taken.port} {{\n    bind {taken.host}\n    cache 60\n    forward . {one.host}\n}}\n"
        assert not await server.reload(blocks(one, "a.example.") + other)
        assert server.daemon.kept.memories == memories
        assert records(await server.client.ask("web.a.example.")) == [record("web.a.example.")]
        assert one.count("web.a.example.") == 1
        assert await server.reload(blocks(one, "a.example.", cache="cache 50"))


@pytest.mark.parametrize("proto", ["udp", "tcp"])
async def test_a_new_address_is_opened_and_the_old_one_closed(proto: str) -> None:
    host = loopback()
    port = free_port(host)
    release = asyncio.Event()
    kind: type[Udp] | type[Tcp] = Udp if proto == "udp" else Tcp
    async with scripted.running() as one, serving(blocks(one, "example.")) as server:
        one.answer("web.example.", "A", record("web.example."))
        one.on("slow.example.", "A", Reply(records=(record("slow.example."),), release=release))
        await server.client.ask("web.example.")
        moved = blocks(one, "example.").replace("HOST", host).replace(":PORT", f":{port}") + "\n# PORT {"
        async with await kind.open(server.host, server.port) as client:
            wire = query("slow.example.").to_wire()
            client.send(wire)
            await until_asked(one, "slow.example.")
            assert await server.reload(moved)
            assert records(await Client(host, port).ask("web.example.")) == [record("web.example.")]
            assert records(await Client(host, port).ask("web.example.", tcp=True)) == [record("web.example.")]
            assert one.count("web.example.") == 1, "the same zones are the same block, wherever it listens"
            await server.settle()
            # Who asked at the old address gets the answer there.
            release.set()
            assert records(parse(await client.receive(), to=wire)) == [record("slow.example.")]
        await server.go_on(6, 0.5)
        with pytest.raises(ConnectionError):
            await server.client.ask("web.example.")
        with pytest.raises(ConnectionError):
            await server.client.ask("web.example.", tcp=True)
        # And back again.
        assert await server.reload(blocks(one, "example."))
        assert records(await server.client.ask("web.example."))


async def test_what_the_signal_loads_is_what_the_watch_has_seen() -> None:
    """`reload 30s`: a change of the file is loaded by itself, once."""
    async with scripted.running() as one, serving(blocks(one, ".", tail="reload 10s 2s")) as server:
        one.answer("web.example.", "A", record("web.example."))
        text = blocks(one, ".", cache="cache 20", tail="reload 10s 2s")
        server.corefile.write_text(node.corefile(text, server.host, server.port))
        before = server.daemon.settings
        for _ in range(100):
            await server.go_on(1, 1)
            if server.daemon.settings is not before:
                break
        assert records(await server.client.ask("web.example.")) == ["web.example. 20 IN A 192.0.2.7"]
        loaded = server.daemon.settings
        await server.go_on(30, 2)
        assert server.daemon.settings is loaded
