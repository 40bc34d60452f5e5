"""Walking and ageing messages: facts, and laws over whatever bytes an upstream may send."""

import struct

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import Malformed
from resolver.wire.ttls import age_ttls, clamp_ttls, lower_by, scan
from tests.support import codecs

codec = codecs.both(__name__, "scan")


def answer(*records: str, section: str = "answer", edns: bool = False, question: str = "web.example.") -> bytes:
    """Return an answer with these records, each in presentation form."""
    message = dns.message.make_response(dns.message.make_query(question, "A", use_edns=0 if edns else False))
    for record in records:
        name, ttl, _, rdtype, *rdata = record.split()
        getattr(message, section).append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, " ".join(rdata)))
    if edns:
        message.use_edns(0, payload=1232)
    return message.to_wire()


def one_a_record(ttl_s: int) -> tuple[bytes, int]:
    """Return an answer with one A record of this TTL, and where the TTL stands."""
    packet = bytearray(answer("web.example. 0 IN A 192.0.2.7"))
    (offset,) = scan(bytes(packet)).ttl_offsets
    struct.pack_into(">I", packet, offset, ttl_s)
    return bytes(packet), offset


#        TTL in the cache, seconds in the cache, floor, TTL the client sees
AGEING = [
    pytest.param(30, 0, 0, 30, id="fresh"),
    pytest.param(30, 29, 0, 1, id="last second"),
    pytest.param(30, 3600, 0, 0, id="long expired stops at zero"),
    pytest.param(2, 4, 1, 1, id="kept by the minimum shows one"),
    pytest.param(2**31, 0, 0, 0, id="top bit set counts as zero (RFC 2181 section 8)"),
]


@pytest.mark.parametrize(("ttl_s", "elapsed_s", "floor_s", "seen_s"), AGEING)
def test_ageing(ttl_s: int, elapsed_s: int, floor_s: int, seen_s: int) -> None:
    packet, offset = one_a_record(ttl_s)
    aged = age_ttls(packet, [offset], elapsed_s, floor_s)
    assert struct.unpack_from(">I", aged, offset)[0] == seen_s
    assert aged[:offset] == packet[:offset]
    assert aged[offset + 4 :] == packet[offset + 4 :]


@given(ttl_s=st.integers(0, 2**31 - 1), first_s=st.integers(0, 10**6), then_s=st.integers(0, 10**6))
def test_ageing_twice_is_ageing_once_by_the_sum(ttl_s: int, first_s: int, then_s: int) -> None:
    packet, ttl_at = one_a_record(ttl_s)
    twice = age_ttls(age_ttls(packet, [ttl_at], first_s), [ttl_at], then_s)
    assert twice == age_ttls(packet, [ttl_at], first_s + then_s)


def test_an_age_below_zero_is_the_callers_mistake() -> None:
    packet, ttl_at = one_a_record(30)
    with pytest.raises(ValueError, match="future"):
        age_ttls(packet, [ttl_at], -1)


def test_clamping_changes_only_what_is_outside() -> None:
    packet, ttl_at = one_a_record(300)
    assert clamp_ttls(packet, [ttl_at], 0, 300) is packet
    assert struct.unpack_from(">I", clamp_ttls(packet, [ttl_at], 0, 30), ttl_at)[0] == 30
    assert struct.unpack_from(">I", clamp_ttls(packet, [ttl_at], 400, 500), ttl_at)[0] == 400


@given(
    ttls_s=st.lists(st.integers(0, 2**31 - 1), max_size=5),
    passed_s=st.integers(0, 2**31 - 1),
    other=st.integers(0, 200),
    flip=st.integers(1, 255),
)
def test_an_answer_that_has_counted_down_is_the_one_before_with_lower_ttls(
    ttls_s: list[int], passed_s: int, other: int, flip: int
) -> None:
    fresh = answer(*(f"n{number}.example. {ttl_s} IN A 192.0.2.7" for number, ttl_s in enumerate(ttls_s)))
    offsets = scan(fresh).ttl_offsets
    known = bytearray(fresh)
    for offset in offsets:
        struct.pack_into(">I", known, offset, struct.unpack_from(">I", fresh, offset)[0] + passed_s)
    known[:2] = b"id"
    assert lower_by(bytes(known), fresh, offsets) == (passed_s if ttls_s else 0)
    assert lower_by(fresh, bytes(known), offsets) == (-passed_s if ttls_s else 0)
    at = 2 + other % (len(fresh) - 2)
    is_ttl = any(offset <= at < offset + 4 for offset in offsets)
    known[at] ^= flip
    if not is_ttl or len(ttls_s) > 1:
        assert lower_by(bytes(known), fresh, offsets) is None
    assert lower_by(bytes(known) + b"x", fresh, offsets) is None
    assert lower_by(bytes(known)[:-1], fresh, offsets) is None


def test_a_scan_finds_ttls_in_every_section_and_drops_the_opt_record() -> None:
    packet = answer("web.example. 300 IN CNAME host.example.", "host.example. 60 IN A 192.0.2.7", edns=True)
    found = scan(packet)
    assert [struct.unpack_from(">I", found.packet, at)[0] for at in found.ttl_offsets] == [300, 60]
    assert (found.min_ttl_s, found.answers, found.has_target, found.soa_s) == (60, 2, True, None)
    assert found.max_ttl_s == 300
    assert dns.message.from_wire(found.packet).edns == -1


SOA = "example. 300 IN SOA ns.example. h.example. 1 7200 1800 86400"


@pytest.mark.parametrize(
    ("ttl_s", "minimum_s", "denied_s"), [(300, 60, 60), (30, 60, 30), (300, 0, 0), (2**31 - 1, 2**31, 0)]
)
def test_a_denial_holds_for_the_smaller_of_the_soas_ttl_and_its_minimum(
    ttl_s: int, minimum_s: int, denied_s: int
) -> None:
    soa = f"example. {ttl_s} IN SOA ns.example. h.example. 1 7200 1800 86400 {minimum_s}"
    assert scan(answer(soa, section="authority")).soa_s == denied_s


def test_an_opt_record_in_the_middle_is_taken_out_as_well() -> None:
    message = dns.message.from_wire(answer("web.example. 300 IN A 192.0.2.7", edns=True))
    whole = message.to_wire()
    extra = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
    packet = whole[:10] + b"\0\2" + whole[12:] + extra
    found = scan(packet)
    rest = dns.message.from_wire(found.packet)
    assert rest.edns == -1
    assert [record.to_text() for record in rest.additional] == ["web.example. 60 IN A 192.0.2.1"]


def test_bytes_behind_the_last_record_are_cut_off() -> None:
    packet = answer("web.example. 300 IN A 192.0.2.7")
    assert scan(packet + b"tail").packet == packet


GOOD = answer("web.example. 300 IN CNAME a.example.", "a.example. 60 IN A 192.0.2.7", SOA + " 60", edns=True)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_message_that_ends_early_is_malformed(length: int) -> None:
    with pytest.raises(Malformed):
        scan(GOOD[:length])


@pytest.mark.parametrize(
    "pointer",
    [
        pytest.param(b"\xc0\xff", id="forward"),
        pytest.param(b"\xc0\x1d", id="itself"),
        pytest.param(b"\xc0\0", id="header"),
    ],
)
def test_pointers_lead_backwards_into_the_message(pointer: bytes) -> None:
    packet = answer("web.example. 300 IN A 192.0.2.7")
    at = packet.index(b"\xc0\x0c")
    with pytest.raises(Malformed):
        scan(packet[:at] + pointer + packet[at + 2 :])


mutations = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=12)


@given(changes=mutations, tail=st.binary(max_size=40))
def test_whatever_an_upstream_sends_is_scanned_or_malformed(changes: list[tuple[int, int]], tail: bytes) -> None:
    packet = bytearray(GOOD)
    for at, value in changes:
        packet[at] = value
    check_scan(bytes(packet) + tail)


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_malformed(packet: bytes) -> None:
    check_scan(packet)


def check_scan(packet: bytes) -> None:
    """What a scan returns can be scanned again, aged and clamped."""
    try:
        found = scan(packet)
    except Malformed:
        return
    assert all(12 < at <= len(found.packet) - 6 for at in found.ttl_offsets)
    ttls_s = [struct.unpack_from(">I", found.packet, at)[0] for at in found.ttl_offsets]
    assert found.max_ttl_s == max(ttls_s, default=0)
    assert len(found.packet) <= max(len(packet), 512)
    again = scan(found.packet)
    assert again.packet == found.packet
    assert again.ttl_offsets == found.ttl_offsets
    assert len(age_ttls(found.packet, found.ttl_offsets, 1)) == len(found.packet)
