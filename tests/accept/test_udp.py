"""The UDP listener on real sockets: batches, errors of the kernel, and the address that answers leave from."""

import asyncio
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from resolver.accept.compiled import CompiledUdpListener
from resolver.accept.lane import Table
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from tests.accept import asked_address
from tests.accept.lane import LANES, Bench, Lane, answer_to, query
from tests.support import node, scripted
from tests.support.addresses import loopback
from tests.support.client import Udp

lanes = pytest.mark.parametrize("lane", LANES)

ROOT = Path(__file__).resolve().parents[2]


@lanes
def test_a_wake_up_reads_one_batch_and_the_rest_comes_next_turn(lane: Lane) -> None:
    with Bench(lane, options=AcceptOptions(udp_batch=8, udp_batch_compiled=8)) as bench:
        wires = [query(query_id=number) for number in range(20)]
        for wire in wires:
            bench.client.send(wire)
        received = []
        for _ in range(4):
            bench.listener.drain()
            received.append(bench.listener.received)
        assert received == [8, 16, 20, 20]
        assert bench.passed_up == wires


@lanes
def test_hits_and_others_of_one_batch_are_each_answered(lane: Lane) -> None:
    with Bench(lane) as bench:
        bench.reply = answer_to
        known, other = query("known.example."), query("other.example.")
        bench.keep(known)
        for wire in (known, other, known, b"x", other):
            bench.client.send(wire)
        bench.reply = lambda wire: answer_to(wire) if len(wire) > 1 else None
        bench.listener.drain()
        answers = [bench.received() for _ in range(5)]
        assert answers.pop() is None
        assert Counter(answers) == {answer_to(known): 2, answer_to(other): 2}
        assert bench.listener.received == 5


class Failing(socket.socket):
    """A socket whose next sends fail in this way."""

    fail_with: int = 0

    def sendto(self, *arguments: Any) -> int:
        self._fail()
        return super().sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._fail()
        return super().sendmsg(*arguments)

    def _fail(self) -> None:
        if self.fail_with:
            error, self.fail_with = self.fail_with, 0
            raise OSError(error, os.strerror(error))


@pytest.mark.parametrize("host", ["", "0.0.0.0"], ids=["one address", "wildcard"])
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN, errno.EPERM, errno.ENETUNREACH, errno.EMSGSIZE])
def test_an_answer_that_the_kernel_does_not_take_is_lost_and_counted_and_no_other(host: str, number: int) -> None:
    sock = Failing(socket.AF_INET, socket.SOCK_DGRAM)
    lane: Lane = (UdpListener, PacketCache)
    with Bench(lane, host=host or loopback(), ask_at="127.0.0.1" if host else None, sock=sock) as bench:
        wire = query()
        bench.keep(wire)
        bench.reply = answer_to
        other = query("other.example.")
        for first, second in ((wire, other), (other, wire)):
            sock.fail_with = number
            bench.client.send(first)
            assert bench.ask(second) == answer_to(second)
            assert bench.received() is None
        assert bench.listener.send_failures == 2
        assert bench.listener.received == 4
        sock.fail_with = number
        bench.listener.send(answer_to(wire), bench.clients[-1])  # a late answer of a flight
        assert bench.listener.send_failures == 3
        assert bench.ask(wire) == answer_to(wire)


class Deaf(Failing):
    """A socket whose next receive fails."""

    def recvfrom(self, *arguments: Any) -> Any:
        self._fail()
        return super().recvfrom(*arguments)

    def recvmsg(self, *arguments: Any) -> Any:
        self._fail()
        return super().recvmsg(*arguments)


@pytest.mark.parametrize("host", ["", "0.0.0.0"], ids=["one address", "wildcard"])
@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENOMEM])
def test_an_error_on_receiving_stops_nobody(host: str, number: int) -> None:
    sock = Deaf(socket.AF_INET, socket.SOCK_DGRAM)
    lane: Lane = (UdpListener, PacketCache)
    with Bench(lane, host=host or loopback(), ask_at="127.0.0.1" if host else None, sock=sock) as bench:
        wire = query()
        bench.keep(wire)
        sock.fail_with = number
        bench.client.send(wire)
        bench.listener.drain()
        bench.listener.drain()
        assert bench.received() == answer_to(wire)


@lanes
def test_a_client_that_has_gone_disturbs_nobody(lane: Lane) -> None:
    """Its port answers with ICMP port unreachable."""
    with Bench(lane) as bench:
        wire = query()
        bench.keep(wire)
        for _ in range(3):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.sendto(wire, bench.sock.getsockname())
            bench.listener.drain()
        assert bench.listener.received == 3
        assert bench.ask(wire) == answer_to(wire)


@lanes
def test_a_listener_that_is_closed_loses_late_answers_quietly(lane: Lane) -> None:
    with Bench(lane) as bench:
        bench.ask(query())
        number = bench.sock.fileno()
        bench.listener.close()
        # The number of its socket is somebody else's now, who must not send our answers.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            assert other.fileno() == number
            other.bind(("127.0.0.1", 0))
            bench.listener.send(answer_to(query()), bench.clients[0])
        assert bench.listener.send_failures == 1


@lanes
@pytest.mark.parametrize("host", ["", "0.0.0.0"], ids=["one address", "wildcard"])
def test_a_forged_source_port_of_zero_costs_only_its_own_answer(lane: Lane, host: str) -> None:
    """No answer can be sent to it (EINVAL); those before and behind it in the batch go out."""
    with Bench(lane, host=host or loopback(), ask_at="127.0.0.1" if host else None) as bench:
        hit, other = query("hit.example."), query("other.example.")
        bench.keep(hit)
        bench.reply = answer_to
        for wire in (hit, other):
            bench.client.send(hit)
            forge(wire, bench.client.getpeername())
            forge(wire, bench.client.getpeername())
            bench.client.send(other)
        bench.listener.drain()
        answers = [bench.received() for _ in range(5)]
        assert sorted(filter(None, answers)) == sorted([answer_to(hit), answer_to(other)] * 2)
        assert (bench.listener.received, bench.listener.send_failures) == (8, 4)


def forge(wire: bytes, to: tuple[str, int]) -> None:
    """Send a datagram from port 0."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        pytest.skip("raw sockets need CAP_NET_RAW")
    with raw:
        raw.sendto(struct.pack(">HHHH", 0, to[1], 8 + len(wire), 0) + wire, (to[0], 0))


@pytest.mark.parametrize("size", [513, 4095, 4096, 4097, 9000, 65507])
async def test_an_oversize_query_gets_an_answer(size: int) -> None:
    """Padding in EDNS up to what we read; what is longer arrives cut and cannot be read."""
    async with (
        scripted.running() as upstream,
        node.serving(f"forward . {upstream.host}:{upstream.port}") as server,
        await Udp.open(server.host, server.port) as client,
    ):
        padding = size - len(query(use_edns=0)) - 4
        option = (12).to_bytes(2, "big") + padding.to_bytes(2, "big") + bytes(padding)
        plain = query(use_edns=0)
        wire = plain[:-2] + len(option).to_bytes(2, "big") + option
        assert len(wire) == size
        client.send(wire)
        answer = dns.message.from_wire(await client.receive())
        assert answer.rcode() == (dns.rcode.NXDOMAIN if size <= 4096 else dns.rcode.FORMERR)
        client.send(query())
        assert dns.message.from_wire(await client.receive()).rcode() == dns.rcode.NXDOMAIN


@lanes
@pytest.mark.parametrize("asked_at", ["127.0.0.1", "127.1.2.3", "127.200.7.9"])
def test_a_wildcard_answers_from_the_address_that_was_asked(lane: Lane, asked_at: str) -> None:
    with Bench(lane, host="0.0.0.0", ask_at=asked_at) as bench:
        hit, miss, late = query("hit.example."), query("miss.example."), query("late.example.")
        bench.keep(hit)
        bench.reply = lambda wire: answer_to(wire) if wire == miss else None
        assert bench.ask(hit) == answer_to(hit)
        assert bench.ask(miss) == answer_to(miss)
        assert bench.ask(late) is None
        bench.listener.send(answer_to(late), bench.clients[-1])
        assert bench.received() == answer_to(late)
        port = bench.client.getsockname()[1]
        assert bench.listener.client_text(bench.clients[-1]) == f"{bench.client.getsockname()[0]}:{port}"


@lanes
def test_ipv6_wildcard_and_loopback(lane: Lane) -> None:
    for host in ("::", "::1"):
        with Bench(lane, host=host, ask_at="::1") as bench:
            wire = query()
            bench.keep(wire)
            assert bench.ask(wire) == answer_to(wire)
            assert bench.ask(query("other.example.")) is None
            text = bench.listener.client_text(bench.clients[-1])
            assert text == f"[::1]:{bench.client.getsockname()[1]}"


def test_a_host_with_several_addresses_of_both_families() -> None:
    """In a network namespace of its own: there, addresses can be added without touching this machine."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    run = subprocess.run(
        [unshare, "-rn", sys.executable, "-m", asked_address.__name__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == list(asked_address.ADDRESSES)


async def test_all_that_has_arrived_is_answered_before_it_stops_reading() -> None:
    with Bench((UdpListener, PacketCache)) as bench:
        bench.listener.start()
        wires = [query(query_id=number) for number in range(200)]  # the least that any receive buffer holds
        bench.reply = answer_to
        for wire in wires:
            bench.client.send(wire)
        await bench.listener.finish()
        assert [bench.received() for _ in wires] == [answer_to(wire) for wire in wires]
        bench.client.send(wires[0])
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.received() is None


def test_a_hit_beside_a_slow_miss_was_fast() -> None:
    """The compiled lane sends hits before it looks at misses; the Python lane takes both as they come."""
    with Bench((CompiledUdpListener, partial(PacketCache, new_table=Table))) as bench:
        hit = query()
        _, series = bench.keep(hit)

        def slowly(_query: bytes) -> None:
            assert bench.received() == answer_to(hit)
            bench.clock.now_s += 1.0

        bench.reply = slowly
        bench.client.send(query("unknown.example."))
        bench.client.send(hit)
        bench.listener.drain()
        assert len(bench.passed_up) == 1
        assert (series.uses, series.late_counts) == (2, None)
