"""Which route a question takes, and what is answered without one."""

import struct
from typing import Any, cast

import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.accept.listener import Listener
from resolver.accept.packets import PacketCache
from resolver.cache.ledger import Ledger
from resolver.metrics import CacheCounters
from resolver.pipeline import Route
from resolver.report.series import SeriesTable
from tests.accept.lane import LABELS, answer_to, life, query


class Stub:
    """A pipeline that says by which zone it was asked."""

    def answer(self, question: Any, client: object, listener: Any, route: Route, now_s: float) -> bytes:
        return route.zone.encode()


def listener_for(*zones: str, packets: PacketCache | None = None) -> Listener:
    listener = Listener(LABELS, 1232, SeriesTable(), packets or PacketCache(Ledger(1024 * 1024)))
    listener.use(Route(zone, "", cast("Any", Stub()), CacheCounters("", zone, "")) for zone in zones)
    return listener


CLUSTER = (".", "cluster.local.", "svc.cluster.local.", "10.in-addr.arpa.")

#       name, type, zone that takes it
ROUTES = [
    pytest.param("web.shop.svc.cluster.local.", "A", "svc.cluster.local.", id="the longest zone"),
    pytest.param("SVC.Cluster.LOCAL.", "A", "svc.cluster.local.", id="the zone itself, in any case"),
    pytest.param("node.cluster.local.", "A", "cluster.local.", id="the one above"),
    pytest.param("xsvc.cluster.local.", "A", "cluster.local.", id="whole labels only"),
    pytest.param("cluster.local.example.", "A", ".", id="at the end only"),
    pytest.param(".", "NS", ".", id="the root"),
    pytest.param("svc.cluster.local.", "DS", "cluster.local.", id="DS belongs above the cut"),
    pytest.param("web.svc.cluster.local.", "DS", "svc.cluster.local.", id="DS below the zone"),
    pytest.param(".", "DS", ".", id="DS of the root"),
    pytest.param("1.2.3.10.in-addr.arpa.", "PTR", "10.in-addr.arpa.", id="reverse"),
]


@pytest.mark.parametrize(("name", "rdtype", "zone"), ROUTES)
def test_the_longest_zone_takes_it(name: str, rdtype: str, zone: str) -> None:
    assert listener_for(*CLUSTER).answer(query(name, rdtype), None, 0.0) == zone.encode()


def test_ds_of_the_only_zone_has_nowhere_else_to_go() -> None:
    assert listener_for("cluster.local.").answer(query("cluster.local.", "DS"), None, 0.0) == b"cluster.local."


def test_another_class_goes_to_whoever_is_first() -> None:
    wire = dns.message.make_query("version.bind.", "TXT", "CH").to_wire()
    assert listener_for("cluster.local.", "other.").answer(wire, None, 0.0) == b"cluster.local."


@pytest.mark.parametrize("edns", [False, True])
def test_outside_every_zone_is_refused_with_the_reason_and_counted_as_dropped(edns: bool) -> None:
    listener = listener_for("cluster.local.")
    wire = query("example.com.", use_edns=0 if edns else False)
    response = listener.answer(wire, None, 0.0)
    assert response is not None
    answer = dns.message.from_wire(response)
    assert answer.rcode() == dns.rcode.REFUSED
    assert dns.message.from_wire(wire).is_response(answer)
    assert [option.otype for option in answer.options] == ([15] if edns else [])
    (series,) = listener.series.by_key.values()
    assert (series.key.zone, series.key.rcode, series.uses) == ("dropped", dns.rcode.REFUSED, 1)
    assert (series.request_bytes, series.response_bytes) == (len(wire), len(response))


def test_a_rejected_query_is_answered_and_counted() -> None:
    listener = listener_for(".")
    wire = struct.pack(">HHHHHH", 7, dns.flags.RD, 0, 0, 0, 0)
    response = listener.answer(wire, None, 0.0)
    assert response is not None
    assert dns.message.from_wire(response).rcode() == dns.rcode.FORMERR
    (series,) = listener.series.by_key.values()
    assert (series.key.zone, series.key.qtype, series.uses) == ("dropped", 0, 1)


def test_what_gets_no_answer_is_counted_by_its_reason() -> None:
    listener = listener_for(".")
    for wire in (b"", query()[:11], answer_to(query())):
        assert listener.answer(wire, None, 0.0) is None
    assert (listener.dropped_short, listener.dropped_answers) == (2, 1)
    assert not listener.series.by_key


def test_new_routes_drop_what_the_old_ones_rendered() -> None:
    packets = PacketCache(Ledger(10**6))
    listener = listener_for(".", packets=packets)
    wire = query()
    series = listener.series.count(LABELS, ".", "", 1, 0, False, "cache", 1, 1, 0.0)
    packets.keep(wire[2:], answer_to(wire), "client", (), 0, 0, life(), series)
    listener.use([])
    assert not packets.table
    assert packets.ledger.used_bytes + 10**6 <= packets.ledger.budget_bytes
    assert listener.zones() == []
    answer = listener.answer(wire, None, 0.0)
    assert answer is not None
    assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED
