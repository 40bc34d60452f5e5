"""Orders of an answer: CoreDNS's order of kinds, each address first as often as the others, nothing lost."""

import io
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import dns.exception
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import Malformed
from resolver.reply.options import LoadBalanceOptions
from resolver.reply.rotate import RECORDS_MAX, TURNS_MAX, Ring, Rotation
from resolver.wire.header import HEADER, QR, RA
from resolver.wire.ttls import scan
from tests.support.mutants import mutate


def packet_of(
    answer: Iterable[str],
    authority: Iterable[str] = (),
    additional: Iterable[str] = (),
    *,
    name: str = "web.example.",
    rcode: int = 0,
    compress: bool = True,
) -> bytes:
    """A message with these records in this order; `compress` as dnspython does, or not at all."""
    wire = io.BytesIO()
    sections = [list(lines) for lines in (answer, authority, additional)]
    wire.write(HEADER.pack(0, QR | RA | rcode, 1, *map(len, sections)))
    asked = dns.name.from_text(name)
    names: dict[dns.name.Name, int] | None = {} if compress else None
    asked.to_wire(wire, names)
    wire.write(b"\0\1\0\1")
    for line in itertools.chain(*sections):
        owner, ttl, rdclass, rdtype, data = line.split(None, 4)
        dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, data).to_wire(wire, names)
    return wire.getvalue()


def ring_of(packet: bytes, prefer: Sequence[str] = (), *, shuffled: bool = False) -> Ring | None:
    """The orders of `packet`; chance leaves everything as it is unless `shuffled`."""
    options = LoadBalanceOptions(tuple(prefer))
    rotation = Rotation(options) if shuffled else Rotation(options, lambda _: None)
    return rotation.ring(packet, scan(packet).question_end)


def data_of(packet: bytes, section: str = "answer") -> list[str]:
    """The data of a section's records in their order."""
    message = dns.message.from_wire(packet, one_rr_per_rrset=True)
    return [rrset[0].to_text() for rrset in getattr(message, section)]


def orders_of(ring: Ring | None, section: str = "answer") -> list[list[str]]:
    """Each order, as data."""
    assert ring is not None
    return [data_of(ring.turn(number).packet, section) for number in range(ring.turns)]


A, B, C = (f"web.example. {ttl} IN A 192.0.2.{ttl}" for ttl in (1, 2, 3))
SIX = "web.example. 6 IN AAAA 2001:db8::6"
ALIAS = "web.example. 9 IN CNAME host.example."
HOST = ["host.example. 1 IN A 192.0.2.1", "host.example. 2 IN A 192.0.2.2"]
SIGNATURE = "web.example. 9 IN RRSIG A 8 2 300 20300101000000 20200101000000 1 example. wMDA/w=="
TXT = "web.example. 9 IN TXT hello"
MX = [f"web.example. 9 IN MX {number} m{number}.web.example." for number in (1, 2)]

#       the answer's records, the orders in which they take turns (last octets and words)
ORDERS = [
    pytest.param([A, B], ["1 2", "2 1"], id="two addresses"),
    pytest.param([A, B, C], ["1 2 3", "2 3 1", "3 1 2"], id="three"),
    pytest.param([A, B, SIX], ["1 2 6", "2 6 1", "6 1 2"], id="both families together"),
    pytest.param([ALIAS, *HOST], ["host 1 2", "host 2 1"], id="the alias stays first"),
    pytest.param([A, B, SIGNATURE], ["sig 1 2", "sig 2 1"], id="what is no address stands before them"),
    pytest.param([A, TXT, B], ["hello 1 2", "hello 2 1"], id="also from between them"),
    pytest.param(MX, ["m1 m2", "m2 m1"], id="mail exchangers"),
    pytest.param([*MX, A, B], ["1 2 m1 m2", "2 1 m2 m1"], id="mail exchangers behind addresses"),
]


def words_of(data: list[str]) -> str:
    """Records' data as in ORDERS."""
    short = {"host.example.": "host", '"hello"': "hello", "1 m1.web.example.": "m1", "2 m2.web.example.": "m2"}
    return " ".join("sig" if " 8 2 " in one else short.get(one, one[-1]) for one in data)


@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "plain"])
@pytest.mark.parametrize(("answer", "orders"), ORDERS)
def test_orders(answer: list[str], orders: list[str], compress: bool) -> None:
    assert [words_of(data) for data in orders_of(ring_of(packet_of(answer, compress=compress)))] == orders


#       an alias behind its addresses, the orders
ALIAS_LAST = [
    pytest.param([*HOST, ALIAS], ["host 1 2", "host 2 1"], id="two"),
    pytest.param([HOST[0], ALIAS], ["host 1"], id="one"),
]


@pytest.mark.parametrize(("answer", "orders"), ALIAS_LAST)
def test_an_alias_is_brought_to_the_front(answer: list[str], orders: list[str]) -> None:
    assert [words_of(data) for data in orders_of(ring_of(packet_of(answer, compress=False)))] == orders
    assert ring_of(packet_of(answer)) is None  # its data is a pointer to the addresses' name


#       what has one order only
AS_IT_IS = [
    pytest.param(packet_of([]), id="no records"),
    pytest.param(packet_of([A]), id="one address"),
    pytest.param(packet_of([ALIAS, HOST[0]]), id="an alias and its address"),
    pytest.param(packet_of([TXT, "web.example. 9 IN TXT other"]), id="texts"),
    pytest.param(packet_of([A], ["example. 9 IN NS a.example.", "example. 9 IN NS b.example."]), id="servers"),
    pytest.param(packet_of([A, B], rcode=3), id="not NOERROR"),
    pytest.param(
        packet_of([f"web.example. 9 IN A 10.0.{n >> 8}.{n & 255}" for n in range(RECORDS_MAX + 1)]), id="too long"
    ),
]


@pytest.mark.parametrize("packet", AS_IT_IS)
def test_what_has_one_order_is_left_as_it_is(packet: bytes) -> None:
    assert ring_of(packet) is None


def test_additional_addresses_take_turns_and_authority_stays() -> None:
    servers = ["example. 9 IN NS web.example.", "example. 9 IN NS other.example."]
    ring = ring_of(packet_of([A, B], servers, [A, SIX]))
    assert [words_of(data) for data in orders_of(ring, "additional")] == ["1 6", "6 1"]
    assert orders_of(ring, "authority") == [["web.example.", "other.example."]] * 2


# Compression: names may point into other records.

POINTER = b"\xc0\x0c"


def records(*parts: tuple[bytes, int, bytes]) -> bytes:
    """A message about web.example. with these records, written by hand: owner, type, data."""
    question = b"\x03web\x07example\0\0\1\0\1"
    body = b"".join(
        owner + rtype.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
        for owner, rtype, data in parts
    )
    return b"\0\0\x81\x80\0\1" + len(parts).to_bytes(2, "big") + b"\0\0\0\0" + question + body


FIRST = 29  # where the first record starts
WEB = b"\x03web\x07example\0"

#       records by hand, whether they take turns
POINTING = [
    pytest.param([(POINTER, 1, b"\1\1\1\1"), (POINTER, 1, b"\2\2\2\2")], True, id="to the question"),
    pytest.param([(WEB, 1, b"\1\1\1\1"), (b"\xc0\x1d", 1, b"\2\2\2\2")], False, id="to the first address"),
    pytest.param(
        [(POINTER, 5, b"\1a\xc0\x0c"), (b"\xc0\x29", 1, b"\1\1\1\1"), (b"\xc0\x29", 1, b"\2\2\2\2")],
        True,
        id="to an alias that stays",
    ),
    pytest.param(
        [(b"\1a\xc0\x0c", 1, b"\1\1\1\1"), (b"\xc0\x1d", 1, b"\2\2\2\2"), (POINTER, 5, b"\xc0\x1d")],
        False,
        id="from an alias behind its addresses",
    ),
    pytest.param(
        [(POINTER, 15, b"\0\1\2mx\xc0\x0c"), (POINTER, 15, b"\0\2\1b\xc0\x2b")], False, id="from data to other data"
    ),
    pytest.param(
        [(POINTER, 1, b"\1\1\1\1"), (POINTER, 1, b"\2\2\2\2"), (POINTER, 99, b"\xc0\x1d")],
        False,
        id="from data of an unknown type",
    ),
    pytest.param(
        [(POINTER, 16, b"\x02\xc0\x3b"), (b"\xc0\x2a", 1, b"\1\1\1\1"), (b"\xc0\x2a", 1, b"\2\2\2\2")],
        False,
        id="to a text that reads as a pointer",
    ),
    pytest.param(
        [(POINTER, 1, b"\xc0\x1d\xc0\x1d"), (POINTER, 1, b"\2\2\2\2")], True, id="an address that looks like one"
    ),
]


@pytest.mark.parametrize(("parts", "turns"), POINTING)
def test_where_names_point_into_what_would_move_the_answer_stays(
    parts: list[tuple[bytes, int, bytes]], turns: bool
) -> None:
    packet = records(*parts)
    assert scan(packet).question_end == FIRST
    assert (ring_of(packet) is not None) == turns


# `prefer`

#       networks, addresses in their order, the orders
PREFER = [
    pytest.param(["192.0.2.2/32"], [A, B, C], ["2 1 3", "2 3 1"], id="one address first, the others in turn"),
    pytest.param(["192.0.2.3/32", "192.0.2.2/32"], [A, B, C], ["3 2 1"], id="in the order of the networks"),
    pytest.param(["192.0.2.2/31"], [A, B, C], ["2 3 1", "3 2 1"], id="those of one network take turns"),
    pytest.param(["0.0.0.0/0"], [A, B], ["1 2", "2 1"], id="all"),
    pytest.param(["2001:db8::/32"], [A, B, SIX], ["6 1 2", "6 2 1"], id="a family is not the other"),
    pytest.param(["::/0"], [A, SIX], ["6 1"], id="one of each"),
    pytest.param(["10.0.0.0/8"], [A, B], ["1 2", "2 1"], id="none"),
    pytest.param(["192.0.2.2/32"], [SIGNATURE, A, B], ["2 1 sig"], id="what is no address stands behind them"),
]


@pytest.mark.parametrize(("prefer", "answer", "orders"), PREFER)
def test_prefer(prefer: list[str], answer: list[str], orders: list[str]) -> None:
    assert [words_of(data) for data in orders_of(ring_of(packet_of(answer), prefer))] == orders


# Laws


@given(number=st.integers(2, 40))
def test_each_of_a_few_addresses_is_first_as_often_as_the_others(number: int) -> None:
    answer = [f"web.example. 9 IN A 10.0.0.{n}" for n in range(number)]
    ring = ring_of(packet_of(answer), shuffled=True)
    firsts = Counter(data[0] for data in orders_of(ring))
    assert set(firsts.values()) == {1}
    assert len(firsts) == min(number, TURNS_MAX)


def test_who_is_first_is_left_to_chance() -> None:
    answer = [f"web.example. 9 IN A 10.0.0.{n}" for n in range(20)]
    firsts = {orders_of(ring_of(packet_of(answer), shuffled=True))[0][0] for _ in range(400)}
    assert len(firsts) == 20  # one of them missing: 20 x 0.95^400, once in 40 million runs


owners = st.sampled_from(["web.example.", "host.example.", "a.web.example.", "other."])
datas = st.one_of(
    st.integers(0, 255).map(lambda n: f"A 192.0.2.{n}"),
    st.integers(0, 255).map(lambda n: f"AAAA 2001:db8::{n:x}"),
    owners.map(lambda name: f"CNAME {name}"),
    owners.map(lambda name: f"MX 10 {name}"),
    owners.map(lambda name: f"NS {name}"),
    owners.map(lambda name: f"SRV 0 0 53 {name}"),
    st.just("TXT hello"),
    st.just(SIGNATURE.split(" IN ")[1]),
)
lines = st.lists(st.tuples(owners, st.integers(0, 2**31 - 1), datas), max_size=7).map(
    lambda found: [f"{owner} {ttl} IN {data}" for owner, ttl, data in found]
)


def same_records(packet: bytes, other: bytes) -> None:
    """Assert that both have the same records in each section, read by dnspython."""
    read, also = (dns.message.from_wire(wire, one_rr_per_rrset=True) for wire in (packet, other))
    for section in ("question", "answer", "authority", "additional"):
        texts = [sorted(rrset.to_text() for rrset in getattr(message, section)) for message in (read, also)]
        assert texts[0] == texts[1]


@given(
    answer=lines, authority=lines, additional=lines, compress=st.booleans(),
    prefer=st.lists(st.sampled_from(["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/124"]), max_size=2),
)  # fmt: skip
def test_each_order_has_the_same_records(
    answer: list[str], authority: list[str], additional: list[str], compress: bool, prefer: list[str]
) -> None:
    packet = packet_of(answer, authority, additional, compress=compress)
    ring = ring_of(packet, prefer, shuffled=True)
    if ring is None:
        return
    assert 1 <= ring.turns <= TURNS_MAX
    for number in range(ring.turns + 1):
        turn = ring.turn(number)
        assert len(turn.packet) == len(packet)
        same_records(turn.packet, packet)
        assert turn.ttl_offsets == scan(turn.packet).ttl_offsets


@given(answer=lines, additional=lines, source=st.randoms(use_true_random=False))
def test_whatever_is_accepted_from_outside_keeps_its_records(
    answer: list[str], additional: list[str], source: random.Random
) -> None:
    try:
        packet = scan(mutate(source, [packet_of(answer, (), additional)], keep=FIRST)).packet
        dns.message.from_wire(packet)
    except (Malformed, dns.exception.DNSException, ValueError):
        return
    ring = ring_of(packet, shuffled=True)
    if ring is not None:
        for number in range(ring.turns):
            turn = ring.turn(number)
            assert turn.ttl_offsets == scan(turn.packet).ttl_offsets
            same_records(turn.packet, packet)
