"""The metrics are exact, those of the packet cache's answers included: so many questions, so many counts."""

from collections import Counter
from typing import NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from resolver.report.series import SIZE_BUCKETS_BYTES, TYPE_NAMES, ListenerLabels, SeriesTable
from tests.support import node, scripted
from tests.support.client import Tcp, Udp, query
from tests.support.scrape import Scrape
from tests.support.scripted import Reply


class Exchange(NamedTuple):
    """One question of ours: what it asked for, what it got, and how many bytes both had."""

    rdtype: str
    proto: str
    zone: str
    rcode: str
    plugin: str
    do: bool
    asked_bytes: int
    answered_bytes: int


class Asker:
    """Asks over one UDP socket and one connection, and keeps the books."""

    def __init__(self, udp: Udp, tcp: Tcp) -> None:
        self._udp = udp
        self._tcp = tcp
        self.book: list[Exchange] = []

    async def ask(
        self, wire: bytes, rdtype: str, rcode: str, plugin: str, *, zone: str = ".", tcp: bool = False
    ) -> None:
        """Ask, check the rcode, and write down what must be counted."""
        socket = self._tcp if tcp else self._udp
        socket.send(wire)
        response = await socket.receive()
        assert dns.rcode.to_text(dns.message.from_wire(response).rcode()) == rcode
        do = dns.message.from_wire(wire).ednsflags & dns.flags.DO if zone == "." else 0
        proto = "tcp" if tcp else "udp"
        self.book.append(Exchange(rdtype, proto, zone, rcode, plugin, bool(do), len(wire), len(response)))

    def count(self, *fields: str) -> dict[tuple[str, ...], float]:
        """Return how many exchanges have the same values in these fields."""
        counted = Counter(tuple(str(getattr(exchange, field)) for field in fields) for exchange in self.book)
        return {key: float(number) for key, number in counted.items()}


lanes = pytest.mark.parametrize("lane", ["python", "compiled"])

CONFIG = "cache 30\nprometheus 127.0.0.1:0\nforward . {host}:{port} {{\nprefer_udp\n}}"


async def scraped(server: node.Node) -> Scrape:
    pages = server.daemon._pages
    return Scrape((await pages.metrics()).body.decode())


@lanes
async def test_every_question_is_counted_once_and_in_the_right_place(lane: str) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(CONFIG.format(host=upstream.host, port=upstream.port), lane=lane) as server,
        await Udp.open(server.host, server.port) as udp,
        await Tcp.open(server.host, server.port) as tcp,
    ):
        upstream.answer("web.example.", "A", "web.example. 30 IN A 192.0.2.7")
        upstream.answer("web.example.", "AAAA", "web.example. 30 IN AAAA 2001:db8::7")
        upstream.on("broken.example.", "A", Reply(rcode="SERVFAIL"))
        asker = Asker(udp, tcp)
        await mixed_questions(asker)
        page = await scraped(server)
        (listener,) = server.daemon.listeners.udp.values()
        # The process asks itself as well: that is received, and is nobody's request.
        own = listener.received - sum(exchange.proto == "udp" for exchange in asker.book) - 2
        assert 0 <= own < 5
        check_requests(page, asker)
        assert page.by("coredns_dns_responses_total", "zone", "rcode", "plugin") == asker.count(
            "zone", "rcode", "plugin"
        )
        check_cache(page, asker)
        check_sizes(page, asker)
        check_durations(page)


async def mixed_questions(asker: Asker) -> None:
    """Misses, stored answers, hits, refusals, rubbish; over UDP and TCP."""
    for rdtype in ("A", "AAAA"):
        plain = query("web.example.", rdtype).to_wire()
        await asker.ask(plain, rdtype, "NOERROR", "forward")
        for _ in range(10):  # the first is a stored answer, the others are the packet cache's
            await asker.ask(plain, rdtype, "NOERROR", "cache")
        for _ in range(3):  # never rendered
            await asker.ask(query("WEB.example.", rdtype).to_wire(), rdtype, "NOERROR", "cache")
        for _ in range(4):
            await asker.ask(plain, rdtype, "NOERROR", "cache", tcp=True)
    with_do = query("web.example.", "A", do=True).to_wire()
    await asker.ask(with_do, "A", "NOERROR", "forward")
    for _ in range(6):
        await asker.ask(with_do, "A", "NOERROR", "cache")
    await asker.ask(query("no.example.", "MX").to_wire(), "MX", "NXDOMAIN", "forward", tcp=True)
    for _ in range(5):
        await asker.ask(query("no.example.", "MX").to_wire(), "MX", "NXDOMAIN", "cache")
    await asker.ask(query("broken.example.", "A").to_wire(), "A", "SERVFAIL", "forward")
    for _ in range(2):
        await asker.ask(query("broken.example.", "A").to_wire(), "A", "SERVFAIL", "cache")
    # A type that has no label of its own.
    await asker.ask(query("no.example.", "CAA").to_wire(), "other", "NXDOMAIN", "forward")
    # Refused: a transfer, RD clear for what is not known, another class.
    await asker.ask(query("web.example.", "AXFR").to_wire(), "AXFR", "REFUSED", "", tcp=True)
    await asker.ask(query("unknown.example.", "A", rd=False).to_wire(), "A", "REFUSED", "")
    await asker.ask(query("x.", "MX", rdclass="CH").to_wire(), "MX", "REFUSED", "", zone="dropped")
    # Not a question that can be read, for one reason and another.
    notify = query("web.example.", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    await asker.ask(notify.to_wire(), "other", "NOTIMP", "", zone="dropped")
    await asker.ask(query(".", "A").to_wire()[:12], "other", "FORMERR", "", zone="dropped")
    # No answer at all: an answer, and less than a header. What follows shows that they were read.
    asker._udp.send(dns.message.make_response(query("web.example.")).to_wire())
    asker._udp.send(b"short")
    await asker.ask(query("web.example.", "A").to_wire(), "A", "NOERROR", "cache")


def check_requests(page: Scrape, asker: Asker) -> None:
    assert page.by("coredns_dns_requests_total", "zone", "proto", "type") == asker.count("zone", "proto", "rdtype")
    assert page.value("coredns_dns_do_requests_total") == sum(exchange.do for exchange in asker.book)
    assert page.value("resolver_packets_dropped_total", reason="short") == 1
    assert page.value("resolver_packets_dropped_total", reason="not_a_query") == 1


def check_cache(page: Scrape, asker: Asker) -> None:
    by_rcode = {key[0]: number for key, number in asker.count("rcode", "plugin").items() if key[1] == "cache"}
    misses = sum(exchange.plugin == "forward" for exchange in asker.book)
    assert page.value("coredns_cache_hits_total", type="success") == by_rcode["NOERROR"]
    assert page.value("coredns_cache_hits_total", type="denial") == by_rcode["NXDOMAIN"] + by_rcode["SERVFAIL"]
    assert page.value("coredns_cache_misses_total") == misses
    assert page.value("coredns_cache_requests_total") == misses + sum(by_rcode.values())
    assert page.value("coredns_cache_entries", type="success") == 3
    assert page.value("coredns_cache_entries", type="denial") == 2


def check_sizes(page: Scrape, asker: Asker) -> None:
    places = {(exchange.zone, exchange.proto) for exchange in asker.book}
    for name, field in (("request", "asked_bytes"), ("response", "answered_bytes")):
        family = f"coredns_dns_{name}_size_bytes"
        for zone, proto in places:
            sizes = [
                getattr(exchange, field)
                for exchange in asker.book
                if (exchange.zone, exchange.proto) == (zone, proto)
            ]
            assert page.value(f"{family}_sum", zone=zone, proto=proto) == sum(sizes)
            assert page.value(f"{family}_count", zone=zone, proto=proto) == len(sizes)
            for bound in SIZE_BUCKETS_BYTES:
                below = sum(size <= bound for size in sizes)
                assert page.value(f"{family}_bucket", zone=zone, proto=proto, le=str(bound)) == below


def check_durations(page: Scrape) -> None:
    family = "coredns_dns_request_duration_seconds"
    for zone in (".", "dropped"):
        answers = page.value("coredns_dns_responses_total", zone=zone)
        assert page.value(f"{family}_count", zone=zone) == answers
        assert page.value(f"{family}_bucket", zone=zone, le="+Inf") == answers


@lanes
async def test_what_the_packet_cache_answers_has_its_bytes_in_the_sums(lane: str) -> None:
    """The difference of two scrapes around hits alone; the process's own questions are told apart by the clock."""
    async with (
        scripted.running() as upstream,
        node.serving(CONFIG.format(host=upstream.host, port=upstream.port), lane=lane) as server,
        await Udp.open(server.host, server.port) as udp,
    ):
        upstream.answer("web.example.", "A", "web.example. 30 IN A 192.0.2.7")
        server.daemon._prober.close()
        wire = query("web.example.", "A").to_wire()
        sizes = set()
        for _ in range(2):
            udp.send(wire)
            sizes.add(len(await udp.receive()))
        (answer_bytes,) = sizes
        before = await scraped(server)
        for _ in range(50):
            udp.send(wire)
            await udp.receive()
        after = await scraped(server)
        expected = {
            "coredns_dns_requests_total": 50,
            "coredns_cache_hits_total": 50,
            "coredns_cache_requests_total": 50,
            "coredns_cache_misses_total": 0,
            "coredns_dns_request_size_bytes_sum": 50 * len(wire),
            "coredns_dns_request_size_bytes_count": 50,
            "coredns_dns_response_size_bytes_sum": 50 * answer_bytes,
            "coredns_dns_request_duration_seconds_count": 50,
            "resolver_udp_received_total": 50,
        }
        assert {name: after.value(name) - before.value(name) for name in expected} == expected


def test_types_without_a_label_of_their_own_share_one_series() -> None:
    """A client chooses the type: it must not be able to make the table grow."""
    table, labels = SeriesTable(), ListenerLabels("dns://:53", "udp", "1")
    for qtype in range(65536):
        table.count(labels, ".", "", qtype, 0, False, "forward", 40, 40, 0.0)
    assert len(table.by_key) == len(TYPE_NAMES) + 1
    assert sum(series.uses for series in table.by_key.values()) == 65536
