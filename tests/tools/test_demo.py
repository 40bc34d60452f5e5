"""The demo is what a newcomer meets first, and an upstream for tests: it must be right and unbreakable."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.tools import demo
from resolver.tools.demo import Demo
from resolver.tools.demo_zone import DemoZone
from tests.support.addresses import free_port, loopback
from tests.support.client import Client, Tcp, parse, query, records
from tests.support.jumping import JumpingClock

ZONE = DemoZone()
SOA_5 = "5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"

#   name, type, rcode, answer records
FACTS = [
    ("web.shop.svc.cluster.local.", "A", "NOERROR", ["web.shop.svc.cluster.local. 30 IN A 10.96.7.7"]),
    (
        "web.shop.svc.cluster.local.",
        "AAAA",
        "NOERROR",
        ["web.shop.svc.cluster.local. 30 IN AAAA fd00:10:96::7"],
    ),
    (
        "db.shop.svc.cluster.local.",
        "A",
        "NOERROR",
        [f"db.shop.svc.cluster.local. 30 IN A 10.244.{n}" for n in ("1.5", "2.6", "3.7")],
    ),
    (
        "_http._tcp.web.shop.svc.cluster.local.",
        "SRV",
        "NOERROR",
        ["_http._tcp.web.shop.svc.cluster.local. 30 IN SRV 0 50 80 web.shop.svc.cluster.local."],
    ),
    (
        "10-244-1-5.shop.pod.cluster.local.",
        "A",
        "NOERROR",
        ["10-244-1-5.shop.pod.cluster.local. 30 IN A 10.244.1.5"],
    ),
    (
        "7.7.96.10.in-addr.arpa.",
        "PTR",
        "NOERROR",
        ["7.7.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local."],
    ),
    (
        "payments.shop.svc.cluster.local.",
        "A",
        "NOERROR",
        [
            "api.demo.example. 300 IN A 192.0.2.81",
            "payments.shop.svc.cluster.local. 30 IN CNAME api.demo.example.",
        ],
    ),
    ("svc.cluster.local.", "A", "NOERROR", []),
    ("web.shop.svc.cluster.local.", "TXT", "NOERROR", []),
    ("no.shop.svc.cluster.local.", "A", "NXDOMAIN", []),
    ("quick.demo.example.", "A", "NOERROR", ["quick.demo.example. 1 IN A 192.0.2.1"]),
    ("slow.demo.example.", "A", "NOERROR", ["slow.demo.example. 3600 IN A 192.0.2.2"]),
    ("elsewhere.test.", "A", "REFUSED", []),
    ("cluster.local.", "AXFR", "REFUSED", []),
]


def ask(wire: bytes, *, tcp: bool = False) -> dns.message.Message:
    response = ZONE.answer(wire, tcp=tcp)
    assert response is not None
    return parse(response, to=wire)


@pytest.mark.parametrize(("name", "rdtype", "rcode", "answers"), FACTS, ids=lambda value: str(value)[:30])
def test_facts(name: str, rdtype: str, rcode: str, answers: list[str]) -> None:
    answer = ask(query(name, rdtype).to_wire())
    assert (dns.rcode.to_text(answer.rcode()), records(answer)) == (rcode, answers)
    assert bool(answer.flags & dns.flags.AA) == (rcode != "REFUSED")
    if rcode != "REFUSED" and not answers:
        assert records(answer, "authority") == [f"cluster.local. {SOA_5}"]


def test_a_chain_of_names_is_followed() -> None:
    answer = ask(query("chain.demo.example.", "AAAA").to_wire())
    assert [line.split()[3] for line in records(answer)].count("CNAME") == 4
    assert "www.demo.example. 300 IN AAAA 2001:db8::80" in records(answer)


def test_ipv6_addresses_have_names_too() -> None:
    name = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."
    assert records(ask(query(name, "PTR").to_wire())) == [f"{name} 30 IN PTR web.shop.svc.cluster.local."]


@pytest.mark.parametrize(("name", "rdtype", "number"), [("many", "A", 100), ("big", "TXT", 20)])
def test_large_sets_are_cut_over_udp_and_whole_over_tcp(name: str, rdtype: str, number: int) -> None:
    for edns in (False, True):
        wire = query(f"{name}.demo.example.", rdtype, edns=edns, size=4096).to_wire()
        cut = ask(wire)
        assert cut.flags & dns.flags.TC
        assert not cut.answer
        whole = ask(wire, tcp=True)
        assert not whole.flags & dns.flags.TC
        assert len(records(whole)) == number


def test_edns_and_letter_case_come_back() -> None:
    answer = ask(query("WEB.Shop.svc.CLUSTER.local.", do=True).to_wire())
    assert (answer.edns, answer.payload, bool(answer.ednsflags & dns.flags.DO)) == (0, 1232, True)
    assert str(answer.answer[0].name) == "WEB.Shop.svc.CLUSTER.local."
    assert ask(query("web.shop.svc.cluster.local.").to_wire()).edns == -1


def test_a_later_edns_version_is_told_so() -> None:
    wire = bytearray(query("web.shop.svc.cluster.local.", edns=True).to_wire())
    wire[-5] = 1  # the OPT record is last: version is the second byte of its TTL
    response = ZONE.answer(bytes(wire), tcp=False)
    assert response is not None
    assert dns.message.from_wire(response).rcode() == dns.rcode.BADVERS


#   what is wrong, bytes, rcode in the answer (None: no answer)
HOSTILE = [
    ("empty", b"", None),
    ("short", b"\x00" * 11, None),
    ("a response", b"\x12\x34\x80\x00" + bytes(8), None),
    ("no question", b"\x12\x34\x01\x00" + bytes(8), 1),
    ("a question that is not there", b"\x12\x34\x01\x00\x00\x01" + bytes(6), 1),
    ("a pointer to itself", b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\xc0\x0c\x00\x01\x00\x01", 1),
    ("opcode UPDATE", b"\x12\x34\x28\x00\x00\x01" + bytes(6) + b"\x00\x00\x01\x00\x01", 4),
    ("class CH", b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x00\x00\x01\x00\x03", 5),
]


@pytest.mark.parametrize(("wire", "rcode"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_bytes(wire: bytes, rcode: int | None) -> None:
    response = ZONE.answer(wire, tcp=False)
    assert (None if response is None else response[3] & 15) == rcode
    assert response is None or response[:2] == wire[:2]


QUERIES = [
    query(name, rdtype, edns=edns, do=edns).to_wire() for name, rdtype, _, _ in FACTS for edns in (False, True)
]


@settings(max_examples=300, deadline=None)
@given(
    wire=st.one_of(st.sampled_from(QUERIES), st.binary(max_size=80)),
    spoilt=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6),
    tcp=st.booleans(),
)
def test_no_bytes_raise_and_no_answer_is_too_large(wire: bytes, spoilt: list[tuple[int, int]], tcp: bool) -> None:
    mutated = bytearray(wire)
    for place, octet in spoilt:
        if place < len(mutated):
            mutated[place] = octet
    response = ZONE.answer(bytes(mutated), tcp=tcp)
    if response is not None:
        assert response[:2] == mutated[:2]
        assert response[2] & 0x80
        assert len(response) <= (65535 if tcp else 1232)


async def test_over_real_sockets_it_counts_what_it_answers() -> None:
    server = Demo(loopback())
    await server.start()
    try:
        client = Client(server.host, server.port)
        for tcp in (False, True):
            answer = await client.ask("web.shop.svc.cluster.local.", tcp=tcp)
            assert records(answer) == ["web.shop.svc.cluster.local. 30 IN A 10.96.7.7"]
        async with await Tcp.open(server.host, server.port) as stream:
            for number in (1, 2, 3):
                stream.send(query("www.demo.example.", query_id=number).to_wire())
            assert [parse(await stream.receive()).id for _ in range(3)] == [1, 2, 3]
        assert server.queries == 5
    finally:
        await server.stop()


async def test_an_idle_connection_is_closed() -> None:
    clock = JumpingClock()
    server = Demo(loopback(), now=clock)
    await server.start()
    try:
        async with await Tcp.open(server.host, server.port) as stream:
            stream.send(query("www.demo.example.").to_wire())
            await stream.receive()
            clock.jump(demo.IDLE_S + 1)
            assert await stream.at_end()
    finally:
        await server.stop()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CONNECTIONS_MAX", 1)
    server = Demo(loopback())
    await server.start()
    try:
        async with await Tcp.open(server.host, server.port) as first:
            first.send(query("www.demo.example.").to_wire())
            await first.receive()
            async with await Tcp.open(server.host, server.port) as second:
                assert await second.at_end()
    finally:
        await server.stop()


ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from resolver.tools import demo; sys.exit(demo.main(sys.argv[1:]))"


def test_the_command_says_what_to_ask_and_stops_at_a_signal() -> None:
    host = loopback()
    port = free_port(host)
    command = [sys.executable, "-c", RUN, "-port", str(port), "-bind", host]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1 + len(demo.ASK))]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert f"{host} port {port}" in lines[0]
    for line in lines[1:]:
        assert re.fullmatch(rf"  dig @{host} -p {port} \S.*\n", line)


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.main(["-port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"resolver demo: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    )


@pytest.mark.parametrize("words", demo.ASK)
def test_every_hint_has_an_answer(words: str) -> None:
    name, rdtype = words.split() if not words.startswith("-x") else ("7.7.96.10.in-addr.arpa", "PTR")
    answer = ask(query(name, rdtype).to_wire(), tcp=True)
    assert bool(answer.answer) != name.startswith("nothing")
