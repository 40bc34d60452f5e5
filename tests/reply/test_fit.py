"""What one stored message becomes for each client: header bits, letter case, TTLs, OPT, never too many bytes."""

from collections.abc import Iterable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept.decode import decode
from resolver.reply.fit import STREAM_BYTES, fit
from resolver.wire.edns import EDE_STALE, opt_record
from resolver.wire.header import AA
from resolver.wire.question import Question
from resolver.wire.ttls import Scan, scan
from tests.support import codecs

codec = codecs.both(__name__, "fit")
LISTENER_BYTES = 1232

A = "web.example. 300 IN A 192.0.2.7"


def question_of(
    name: str = "web.example.", *, flags: int = dns.flags.RD, edns: int | None = None, do: bool = False
) -> Question:
    """A query as it was decoded; `edns` is the size that it announces, None: no OPT record."""
    message = dns.message.make_query(name, "A", id=0x1234)
    message.flags = dns.flags.Flag(flags)
    if edns is not None:
        message.use_edns(0, dns.flags.DO if do else 0, edns)
    question = decode(message.to_wire())
    assert isinstance(question, Question)
    return question


def stored(
    answer: Iterable[str] = (A,),
    authority: Iterable[str] = (),
    additional: Iterable[str] = (),
    *,
    flags: int = dns.flags.QR | dns.flags.RA,
    rcode: int = 0,
) -> Scan:
    """A message as the cache keeps it."""
    message = dns.message.make_query("web.example.", "A", id=0)
    message.flags = dns.flags.Flag(flags)
    message.set_rcode(rcode)  # type: ignore[arg-type] # dnspython takes the number as well
    sections = ((message.answer, answer), (message.authority, authority), (message.additional, additional))
    for section, lines in sections:
        for line in lines:  # one by one: dnspython shuffles the records of a set
            name, ttl, rdclass, rdtype, data = line.split(None, 4)
            section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, data))
    return scan(message.to_wire(max_size=65535))


def fitted(question: Question, found: Scan, elapsed_s: int = 0, floor_s: int = 0, **options: Any) -> bytes:
    limit = options.pop("max_bytes", LISTENER_BYTES)
    return fit(question, found.packet, found.ttl_offsets, elapsed_s, floor_s, limit, **options)


FLAG = {name: int(dns.flags.from_text(name)) for name in ("QR", "AA", "TC", "RD", "RA", "AD", "CD")}

#       the query's flags, DO, upstream's flags, AA passed on, flags of the answer
BITS = [
    pytest.param("RD", False, "QR RA", False, "QR RD RA", id="the usual"),
    pytest.param("", False, "QR RA", False, "QR RA", id="RD is the query's"),
    pytest.param("RD", False, "QR RD", False, "QR RD RA", id="RA is always ours"),
    pytest.param("", False, "QR RD RA", False, "QR RA", id="upstream's RD is not passed on"),
    pytest.param("RD CD", False, "QR RA", False, "QR RD RA CD", id="CD is the query's"),
    pytest.param("RD", False, "QR RA CD", False, "QR RD RA", id="upstream's CD is not passed on"),
    pytest.param("RD", False, "QR RA AD", False, "QR RD RA", id="AD is for who asks (RFC 6840 section 5.8)"),
    pytest.param("RD AD", False, "QR RA AD", False, "QR RD RA AD", id="AD set in the query asks"),
    pytest.param("RD", True, "QR RA AD", False, "QR RD RA AD", id="DO asks as well"),
    pytest.param("RD AD", True, "QR RA", False, "QR RD RA", id="what upstream did not verify stays unverified"),
    pytest.param("RD", False, "QR AA RA", False, "QR RD RA", id="AA is not a cache's to give"),
    pytest.param("RD", False, "QR AA RA", True, "QR AA RD RA", id="AA fresh from its server"),
    pytest.param("RD", False, "QR TC RA", False, "QR RD RA", id="upstream's TC said nothing about us"),
]


@pytest.mark.parametrize(("asked", "do", "had", "authoritative", "expected"), BITS)
def test_header_bits(asked: str, do: bool, had: str, authoritative: bool, expected: str) -> None:
    question = question_of(flags=sum(FLAG[bit] for bit in asked.split()), edns=1232 if do else None, do=do)
    found = stored(flags=sum(FLAG[bit] for bit in had.split()))
    answer = dns.message.from_wire(fitted(question, found, authoritative=AA if authoritative else 0))
    assert set(dns.flags.to_text(answer.flags).split()) == set(expected.split())
    assert answer.id == 0x1234


@pytest.mark.parametrize("rcode", range(6))
def test_the_rcode_is_upstreams(rcode: int) -> None:
    answer = dns.message.from_wire(fitted(question_of(edns=1232), stored((), rcode=rcode)))
    assert answer.rcode() == rcode


@pytest.mark.parametrize("name", ["web.example.", "WEB.example.", "wEb.ExAmPlE."])
def test_the_letter_case_of_the_query_comes_back_in_question_and_owner_names(name: str) -> None:
    wire = fitted(question_of(name), stored())
    answer = dns.message.from_wire(wire)
    assert str(answer.question[0].name) == name
    assert str(answer.answer[0].name) == name


#       elapsed, floor, TTLs shown of records stored with 300, 20 and 0
TTLS = [
    pytest.param(0, 0, [300, 20, 0], id="fresh"),
    pytest.param(7, 0, [293, 13, 0], id="later"),
    pytest.param(25, 0, [275, 0, 0], id="one has run out"),
    pytest.param(25, 1, [275, 1, 1], id="kept by the minimum"),
]


@pytest.mark.parametrize(("elapsed_s", "floor_s", "shown"), TTLS)
def test_each_record_counts_down_on_its_own(elapsed_s: int, floor_s: int, shown: list[int]) -> None:
    found = stored(
        ["web.example. 300 IN CNAME a.example."],
        ["example. 20 IN NS ns.example."],
        ["ns.example. 0 IN A 192.0.2.53"],
    )
    before = found.packet
    answer = dns.message.from_wire(fitted(question_of(edns=1232), found, elapsed_s, floor_s))
    got = [section[0].ttl for section in (answer.answer, answer.authority, answer.additional)]
    assert got == shown
    assert found.packet == before


#       what the client announces, bytes that it gets at most over UDP, and without truncation
SIZES = [
    pytest.param(None, 512, id="no EDNS"),
    pytest.param(0, 512, id="0 means 512 (RFC 6891 section 6.2.3)"),
    pytest.param(511, 512, id="below 512 means 512"),
    pytest.param(512, 512, id="512"),
    pytest.param(800, 800, id="between"),
    pytest.param(1232, 1232, id="our own limit"),
    pytest.param(4096, 1232, id="more than ours"),
    pytest.param(65535, 1232, id="the largest"),
]


@pytest.mark.parametrize(("edns", "limit_bytes"), SIZES)
def test_the_limit_is_the_smaller_of_the_clients_and_ours(edns: int | None, limit_bytes: int) -> None:
    """The limit is met to the byte: an answer of that size is whole, one of a byte more is cut."""
    question = question_of(edns=edns)
    room = limit_bytes - len(fitted(question, stored(["web.example. 300 IN TYPE65400 \\# 0"])))
    for size, cut in ((room, False), (room + 1, True)):
        wire = fitted(question, stored([f"web.example. 300 IN TYPE65400 \\# {size} {'ab' * size}"]))
        answer = dns.message.from_wire(wire)
        assert bool(answer.flags & dns.flags.TC) is cut
        assert len(wire) == limit_bytes or (cut and len(wire) < limit_bytes)
    more = stored([f"web.example. 300 IN TYPE65400 \\# {room} {'ab' * room}"], [], ["a.example. 9 IN A 192.0.2.1"])
    assert fitted(question, more)[2:3] == b"\x81"  # the additional record went, and nothing else


def test_over_tcp_everything_goes_out() -> None:
    lines = [f"web.example. 300 IN TXT {'x' * 250}" for _ in range(200)]
    found = stored(lines)
    for edns in (None, 512, 1232):
        wire = fitted(question_of(edns=edns), found, max_bytes=STREAM_BYTES)
        answer = dns.message.from_wire(wire)
        assert not answer.flags & dns.flags.TC
        assert len(wire) >= len(found.packet) > 50_000


@pytest.mark.parametrize(("edns", "do"), [(None, False), (1232, False), (1232, True)])
def test_only_who_sent_edns_gets_it_and_do_is_echoed(edns: int | None, do: bool) -> None:
    answer = dns.message.from_wire(fitted(question_of(edns=edns, do=do), stored()))
    assert answer.edns == (-1 if edns is None else 0)
    if edns is not None:
        assert bool(answer.ednsflags & dns.flags.DO) is do
        assert answer.payload == 1232
        assert not answer.options


RECORDS = st.sampled_from(
    [
        "web.example. 300 IN A 192.0.2.1",
        "web.example. 20 IN AAAA 2001:db8::1",
        "web.example. 30 IN CNAME far.away.example.net.",
        f"far.away.example.net. 5 IN TXT {'y' * 200}",
        "example. 60 IN SOA ns.example. host.example. 1 2 3 4 5",
        "other.example. 60 IN MX 10 web.example.",
    ]
)
SECTION = st.lists(RECORDS, max_size=25)


@given(
    answer=SECTION,
    authority=SECTION,
    additional=SECTION,
    edns=st.none() | st.integers(0, 5000),
    do=st.booleans(),
    max_bytes=st.sampled_from([512, 1232, 4096]),
    explained=st.booleans(),
)
def test_truncation_is_valid(
    answer: list[str],
    authority: list[str],
    additional: list[str],
    edns: int | None,
    do: bool,
    max_bytes: int,
    explained: bool,
) -> None:
    question = question_of(edns=edns, do=do)
    found = stored(answer, authority, additional)
    opt = opt_record(do=do, ede_code=EDE_STALE, ede_text="old") if explained and edns is not None else None
    wire = fitted(question, found, max_bytes=max_bytes, opt=opt)
    got = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert len(wire) <= min(max(edns or 0, 512), max_bytes)
    whole = dns.message.from_wire(found.packet, one_rr_per_rrset=True)
    cut = len(got.answer) < len(whole.answer) or len(got.authority) < len(whole.authority)
    assert bool(got.flags & dns.flags.TC) is cut
    # What is left are whole records, the first of each section; one that is cut takes the later ones with it.
    assert got.answer == whole.answer[: len(got.answer)]
    assert got.authority in ([], whole.authority)
    assert got.additional in ([], whole.additional)
    if cut:
        assert not got.authority
        assert not got.additional
    assert (got.edns == 0) is (edns is not None)
    if edns is not None:
        assert bool(got.ednsflags & dns.flags.DO) is do
        assert len(got.options) == (opt is not None)
    # Nothing goes that had room.
    size_of = len(fitted(question, found, max_bytes=STREAM_BYTES, opt=opt))
    if size_of <= min(max(edns or 0, 512), max_bytes):
        assert len(wire) == size_of


def test_additional_records_go_without_tc() -> None:
    found = stored(["web.example. 300 IN SRV 0 0 53 a.example."], [], ["a.example. 300 IN A 192.0.2.1"] * 90)
    answer = dns.message.from_wire(fitted(question_of(edns=1232), found))
    assert not answer.flags & dns.flags.TC
    assert len(answer.answer) == 1
    assert not answer.additional
    assert answer.edns == 0


def test_as_many_whole_records_stay_as_fit() -> None:
    """Old musl uses what is in a truncated answer and never asks over TCP."""
    found = stored([f"web.example. 300 IN A 192.0.2.{number}" for number in range(100)])
    wire = fitted(question_of(), found)
    answer = dns.message.from_wire(wire)
    assert answer.flags & dns.flags.TC
    assert len(answer.answer[0]) == (512 - 29) // 16
