"""Whatever arrives: every packet is counted, memory stays where it is, and the next good question is answered."""

import asyncio
import random
import socket
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.errors import Malformed
from resolver.wire.ttls import scan
from tests.support import mirror, mutants, node, process, scripted
from tests.support.addresses import free_port, loopback
from tests.support.client import Tcp, Udp, parse, query, records
from tests.support.replies import Reply, reply_to
from tests.support.scrape import fetch

PACKETS = 200_000
WARM_UP = 60_000
AT_ONCE = 64
"""Sent before the loop is closed by a good question: half of what a small receive buffer holds."""

RSS_GROWTH_MAX_BYTES = 6 * 1024 * 1024
"""The heap's own unrest; a leak of 50 bytes for each packet would be more."""


def test_200_000_mutated_packets_leave_a_healthy_process() -> None:
    status = loopback()
    port = free_port(status)
    with mirror.in_a_thread() as upstream:
        corefile = (
            f".:{{port}} {{\n bind {{host}}\n cache 30\n prometheus {status}:{port}\n"
            f" forward . {upstream.host}:{upstream.port}\n}}\n"
        )
        with process.running(corefile, flags=["-cache-memory", "4Mi"]) as server:
            attack = Attack(server)
            before = fetch(status, port)
            attack.send(WARM_UP)
            rss_bytes = resident_bytes(server.pid)
            attack.send(PACKETS - WARM_UP)
            growth_bytes = resident_bytes(server.pid) - rss_bytes
            after = fetch(status, port)
            attack.close()
            assert server.stop() == 0
            said = server.output()
    received = after.value("resolver_udp_received_total") - before.value("resolver_udp_received_total")
    # The process asks itself once a second; at either scrape one such question may be on its way.
    own = after.value("coredns_health_request_duration_seconds_count")
    own -= before.value("coredns_health_request_duration_seconds_count")
    assert abs(received - attack.sent - own) <= 1
    assert attack.sent >= PACKETS
    assert growth_bytes < RSS_GROWTH_MAX_BYTES
    assert after.value("coredns_panics_total") == 0
    assert after.value("resolver_udp_send_failures_total") == 0
    assert "Traceback" not in said
    assert "[ERROR]" not in said


class Attack:
    """A client that sends rubbish in a closed loop: good questions in between show that all of it was read."""

    def __init__(self, server: process.Server) -> None:
        self.sent = 0
        self._random = random.Random(20_201)
        self._seeds = mutants.queries()
        self._good = query("web.example.", "A").to_wire()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((server.host, server.port))
        self._socket.settimeout(10)

    def send(self, number: int) -> None:
        """Send so many mutated packets, and a good question after every AT_ONCE of them."""
        source, seeds, send = self._random, self._seeds, self._socket.send
        end = self.sent + number
        while self.sent < end:
            for _ in range(AT_ONCE):
                # IDs above 0x00FF: those below are for the good questions.
                packet = mutants.mutate(source, seeds)
                send(b"\xff" + packet[1:])
            wire = bytes((0, self.sent // AT_ONCE % 256)) + self._good[2:]
            send(wire)
            self.sent += AT_ONCE + 1
            self._await_answer(wire)

    def _await_answer(self, wire: bytes) -> None:
        while True:
            answer = self._socket.recv(65535)
            if answer[:2] == wire[:2]:
                assert records(parse(answer, to=wire))[0].endswith("IN A 192.0.2.7")
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def resident_bytes(pid: int) -> int:
    """Return how much memory the process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)


@pytest.mark.parametrize("lane", ["python", "compiled"])
async def test_mutated_packets_on_either_loop(lane: str) -> None:
    """The smaller twin of the test above; the loop's exception handler fails it."""
    source, seeds = random.Random(7), mutants.queries()
    async with (
        mirror.running() as upstream,
        node.serving(f"cache 30\nerrors\nloop\nforward . {upstream.host}:{upstream.port}", lane=lane) as server,
        await Udp.open(server.host, server.port) as client,
    ):
        good = query("web.example.", "A").to_wire()
        sent = 0
        while sent < 6_000:
            for _ in range(AT_ONCE):
                client.send(b"\xff" + mutants.mutate(source, seeds)[1:])
            wire = b"\0" + good[1:]
            client.send(wire)
            sent += AT_ONCE + 1
            while (answer := await client.receive())[:1] != b"\0":
                pass
            assert parse(answer, to=wire).answer
        (listener,) = server.daemon.listeners.udp.values()
        own = listener.received - sent
        assert 0 <= own < 30  # the process asks itself as well
        assert server.daemon.registry.process.panics == 0


async def test_mutated_streams_end_alone() -> None:
    """Frames of good and spoilt queries, cut anywhere, with lengths that lie: each connection ends alone."""
    source, seeds = random.Random(8), mutants.queries()
    async with (
        mirror.running() as upstream,
        node.serving(f"cache 30\nforward . {upstream.host}:{upstream.port} {{\nprefer_udp\n}}") as server,
    ):
        good = query("web.example.", "A").to_wire()
        async with await Tcp.open(server.host, server.port) as bystander:
            for _ in range(60):
                async with await Tcp.open(server.host, server.port) as attacker:
                    for piece in stream_of(source, seeds):
                        if attacker.writer.transport.is_closing():
                            break  # the server had enough of it
                        attacker.send_raw(piece)
                        await asyncio.sleep(0)
                    bystander.send(good)
                    assert parse(await bystander.receive(), to=good).answer
        assert parse(await server.client.exchange(good, tcp=True), to=good).answer
        (listener,) = server.daemon.listeners.tcp.values()
        while listener.server.open_connections:
            await server.daemon.timers.sleep(0.01)
            server.clock.jump(1)


def stream_of(source: random.Random, seeds: list[bytes]) -> list[bytes]:
    """Return what one attacker sends, in pieces."""
    stream = bytearray()
    for _ in range(source.randint(1, 30)):
        packet = mutants.mutate(source, seeds) if source.random() < 0.7 else source.choice(seeds)
        length = len(packet) if source.random() < 0.9 else source.choice((0, 1, 11, len(packet) + 1, 65535))
        stream += length.to_bytes(2, "big") + packet
    pieces = []
    while stream:
        size = source.choice((1, 2, 3, 17, 400, 4000))
        pieces.append(bytes(stream[:size]))
        del stream[:size]
    return pieces


UPSTREAM_ANSWERS = 800


async def test_mutated_answers_of_an_upstream_reach_nobody_unread() -> None:
    """An upstream that sends rubbish over UDP and TCP: every client gets an answer that can be walked."""
    source = random.Random(9)
    good = Reply(
        records=("web.example. 30 IN CNAME far.example.", "far.example. 30 IN A 192.0.2.7"),
        authority=("example. 30 IN SOA ns.example. host.example. 1 2 3 4 5",),
        additional=("ns.example. 30 IN A 192.0.2.53",),
    )

    def spoil(wire: bytes) -> bytes:
        answer = scripted_answer(wire, good)
        question_end = len(wire) - 11
        # Most keep header and question, so that they match; the others must be waited past.
        return mutants.mutate(source, [answer], keep=question_end if source.random() < 0.8 else 2)

    async with (
        scripted.running() as upstream,
        node.serving(
            f"cache 30\nforward . {upstream.host}:{upstream.port} {{\ndeadline 300ms 400ms\nmax_fails 0\n}}"
        ) as server,
    ):
        upstream.default = Reply(raw=spoil)
        rcodes = []
        for start in range(0, UPSTREAM_ANSWERS, 200):
            names = [f"n{number}.example." for number in range(start, start + 200)]
            rcodes += await asyncio.gather(*(asked(server, name) for name in names))
        assert len(rcodes) == UPSTREAM_ANSWERS
        assert {dns.rcode.NOERROR, dns.rcode.SERVFAIL} <= set(rcodes)
        upstream.answer("good.example.", "A", "good.example. 30 IN A 192.0.2.8")
        assert records(await server.client.ask("good.example.", "A")) == ["good.example. 30 IN A 192.0.2.8"]
        assert server.daemon.registry.process.panics == 0


async def asked(server: node.Node, name: str) -> int:
    """Ask for `name` and return the rcode; what came can be walked and belongs to the question."""
    wire = query(name, "A", edns=True).to_wire()
    answer = await server.client.exchange(wire, tcp=name.endswith("7.example."))
    assert answer[:2] == wire[:2]
    assert answer[12 : len(wire) - 11] == wire[12 : len(wire) - 11]
    try:
        found = scan(answer)
    except Malformed as error:
        raise AssertionError(f"{name}: a client got {answer.hex()}") from error
    return found.rcode & 0xF


def scripted_answer(wire: bytes, reply: Reply) -> bytes:
    """Return the bytes that `reply` gives for this query."""
    (answer,) = reply_to(wire, reply, "udp")
    return answer


def test_the_mutants_are_worth_the_name() -> None:
    """Most differ from their seed, few are short, some can still be read: noise alone finds little."""
    source, seeds = random.Random(1), mutants.queries()
    made = [mutants.mutate(source, seeds) for _ in range(2_000)]
    assert len(set(made)) > 1_800
    readable = 0
    for packet in made:
        try:
            readable += not dns.message.from_wire(packet).flags & dns.flags.QR
        except Exception:  # dnspython raises what it likes on rubbish; only the good ones are counted
            continue
    assert 100 < readable < 1_800
