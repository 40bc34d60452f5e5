"""A real unbound as upstream: our first answer is unbound's own in every section, flag and rcode.

A cached answer differs in three things only: AA is clear, because it is no authority's word any more (RFC 1035
section 4.1.1), TTLs have counted down, and SOA records of denials show no more than their MINIMUM (RFC 2308
section 5). Those TTLs are not greater in the first answer either.
"""

from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.support import node, unbound, zones
from tests.support.client import Client, Udp, parse, query, records

SECTIONS = ("answer", "authority", "additional")


@pytest.fixture(scope="module")
def upstream() -> Iterator[unbound.Unbound]:
    with unbound.running() as server:
        yield server


def forwarding(upstream: unbound.Unbound, options: str = "") -> str:
    return f"cache\nforward . {upstream.host}:{upstream.port} {{\n{options}\n}}"


#   name, type, what is special about it
QUESTIONS = [
    ("host1.example.com.", "A", "an address"),
    ("host1.example.com.", "AAAA", "an IPv6 address"),
    ("headless.shop.svc.cluster.local.", "A", "several addresses"),
    ("alias.example.com.", "A", "a CNAME"),
    ("chain.example.com.", "AAAA", "a chain of four CNAMEs with five TTLs"),
    ("chain.example.com.", "CNAME", "a CNAME asked for as such"),
    ("dangling.example.com.", "A", "a CNAME to a name that does not exist"),
    ("nope.example.com.", "A", "NXDOMAIN"),
    ("nope.shop.svc.cluster.local.", "AAAA", "NXDOMAIN below a zone of our own"),
    ("elsewhere.test.", "A", "NXDOMAIN from the root"),
    ("txtonly.example.com.", "A", "NODATA"),
    ("web.shop.svc.cluster.local.", "MX", "NODATA for another type"),
    ("_http._tcp.web.shop.svc.cluster.local.", "SRV", "SRV"),
    ("7.7.96.10.in-addr.arpa.", "PTR", "PTR"),
    ("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.", "PTR", "PTR of IPv6"),
    ("example.com.", "MX", "MX"),
    ("example.com.", "NS", "NS"),
    ("example.com.", "SOA", "SOA"),
    ("txtonly.example.com.", "TXT", "TXT"),
    ("any.wild.example.com.", "A", "a wildcard"),
    ("one.example.com.", "A", "TTL 1"),
    ("www.signed.example.", "A", "a signed zone"),
    ("www.signed.example.", "AAAA", "a signed zone, IPv6"),
    ("alias.signed.example.", "A", "a signed CNAME"),
    ("text.signed.example.", "TXT", "a signed TXT"),
    ("signed.example.", "DNSKEY", "keys"),
    ("signed.example.", "DS", "DS, of the parent's side"),
    ("a.wild.signed.example.", "A", "a signed wildcard"),
    ("nope.signed.example.", "A", "a signed denial"),
    ("www.signed.example.", "MX", "a signed NODATA"),
]


@pytest.mark.parametrize(("name", "rdtype", "special"), QUESTIONS, ids=lambda value: value.replace(" ", "_"))
async def test_answers_are_unbounds_own(upstream: unbound.Unbound, name: str, rdtype: str, special: str) -> None:
    truth = Client(upstream.host, upstream.port)
    async with node.serving(forwarding(upstream)) as server:
        for how in (set(), {"edns"}, {"do"}, {"do", "cd"}, {"ad"}):
            for tcp in (False, True):
                ours, wanted = [
                    await whom.ask(
                        name, rdtype, tcp=tcp, edns="edns" in how, do="do" in how, cd="cd" in how, ad="ad" in how
                    )
                    for whom in (server.client, truth)
                ]
                compare(ours, wanted, first=None)


async def test_the_first_answer_and_the_cached_one(upstream: unbound.Unbound) -> None:
    truth = Client(upstream.host, upstream.port)
    async with node.serving(forwarding(upstream)) as server:
        for name, rdtype, _ in QUESTIONS:
            if name == "one.example.com.":
                continue  # its second may be over between the two questions
            wanted = await truth.ask(name, rdtype, do=True)
            compare(await server.client.ask(name, rdtype, do=True), wanted, first=True)
            before = await upstream.queries()
            compare(await server.client.ask(name, rdtype, do=True), wanted, first=False)
            assert await upstream.queries() == before, f"{name} {rdtype} was not kept"


def compare(ours: dns.message.Message, wanted: dns.message.Message, *, first: bool | None) -> None:
    """Assert that they are equal, TTLs not greater. `first`: AA must be as it was, or clear; None: either."""
    aa = dns.flags.AA
    assert ours.flags & ~aa == wanted.flags & ~aa, f"{flags(ours)}, not {flags(wanted)}"
    if first is not None:
        assert ours.flags & aa == (wanted.flags & aa if first else 0), f"AA of the {'first' if first else 'next'}"
    assert dns.rcode.to_text(ours.rcode()) == dns.rcode.to_text(wanted.rcode())
    assert (ours.edns, ours.ednsflags) == (wanted.edns, wanted.ednsflags)
    for section in SECTIONS:
        have, want = records(ours, section), records(wanted, section)
        assert without_ttls(have) == without_ttls(want), section
        assert all(mine <= theirs for mine, theirs in zip(ttls(have), ttls(want), strict=True)), (have, want)


def flags(message: dns.message.Message) -> str:
    return str(dns.flags.to_text(message.flags))


def without_ttls(lines: list[str]) -> list[list[str]]:
    """Name and data of each record, in one order."""
    return sorted([fields[0], *fields[2:]] for fields in (line.split(" ", 4) for line in lines))


def ttls(lines: list[str]) -> list[int]:
    """TTLs in the order of `without_ttls`."""
    ordered = sorted(
        ([fields[0], *fields[2:]], int(fields[1])) for fields in (line.split(" ", 4) for line in lines)
    )
    return [ttl_s for _, ttl_s in ordered]


@pytest.mark.parametrize("options", ["", "prefer_udp", "force_tcp"])
async def test_4_kb_of_txt_are_cut_over_udp_and_whole_over_tcp(upstream: unbound.Unbound, options: str) -> None:
    truth = Client(upstream.host, upstream.port)
    whole = await truth.ask("big.example.com.", "TXT", tcp=True)
    assert len(whole.to_wire()) > 4000
    async with node.serving(forwarding(upstream, options)) as server:
        for size in (512, 1232, 4096):
            cut = await server.client.ask("big.example.com.", "TXT", edns=True, size=size)
            assert cut.flags & dns.flags.TC
            assert len(cut.to_wire()) <= min(size, 1232)  # RFC 9715: what passes every path
            assert set(without_ttls_of(cut)) < set(without_ttls_of(whole))
        before = await upstream.queries()
        compare(await server.client.ask("big.example.com.", "TXT", tcp=True), whole, first=False)
        assert await upstream.queries() == before, "the whole answer is kept, so nobody asks for it again"


def without_ttls_of(message: dns.message.Message) -> list[str]:
    return [" ".join(fields) for fields in without_ttls(records(message))]


async def test_a_large_answer_is_cut_for_a_client_without_edns(upstream: unbound.Unbound) -> None:
    async with node.serving(forwarding(upstream)) as server:
        cut = await server.client.ask("many.example.com.")
        assert cut.flags & dns.flags.TC
        assert len(cut.to_wire()) <= 512  # RFC 1035 section 4.2.1
        assert len(records(cut)) > 20  # as many as fit: old stubs never ask over TCP
        assert len(records(await server.client.ask("many.example.com.", tcp=True))) == 100


async def test_a_thousand_names_twice_cost_upstream_a_thousand_questions(upstream: unbound.Unbound) -> None:
    async with (
        node.serving(forwarding(upstream)) as server,
        await Udp.open(server.host, server.port) as client,
    ):
        start = await upstream.queries()
        first = await ask_all(client)
        before = await upstream.queries()
        assert before - start >= zones.HOSTS
        second = await ask_all(client)
        assert await upstream.queries() == before
    assert len(first) == zones.HOSTS
    assert set(second) == set(first)
    for name, answer in second.items():
        assert without_ttls(records(answer)) == without_ttls(records(first[name]))
        assert ttls(records(answer)) <= ttls(records(first[name]))
        assert answer.rcode() == dns.rcode.NOERROR
        assert len(records(answer)) == 1


async def ask_all(client: Udp, at_once: int = 50) -> dict[str, dns.message.Message]:
    """Ask for A and AAAA of every host in turn, so many at a time; return the answers by name."""
    found: dict[str, dns.message.Message] = {}
    numbers = range(zones.HOSTS)
    for start in range(0, zones.HOSTS, at_once):
        asked = {}
        for number in numbers[start : start + at_once]:
            rdtype = "AAAA" if number % 2 else "A"
            wire = query(f"host{number}.example.com.", rdtype, query_id=number).to_wire()
            asked[number] = wire
            client.send(wire)
        for _ in range(len(asked)):
            wire = await client.receive()
            number = int.from_bytes(wire[:2], "big")
            found[f"host{number}"] = parse(wire, to=asked.pop(number))
    return found
