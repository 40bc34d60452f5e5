"""What a query's bytes ask: facts, hostile bytes, and agreement with an independent decoder."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept.decode import Rejection, decode
from resolver.wire.question import CD_BIT, DO_BIT, Question
from tests.support import codecs

codec = codecs.both(__name__, "decode")


def wire(name: str = "web.example.", rdtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, rdtype, **options).to_wire()  # type: ignore[arg-type] # a test's own words


def question_of(query: bytes) -> Question:
    question = decode(query)
    assert isinstance(question, Question)
    return question


def test_a_plain_query() -> None:
    query = wire("Web.Example.", "AAAA")
    question = question_of(query)
    assert question.name == b"\3web\7example\0"
    assert question.asked == b"\3Web\7Example\0\0\x1c\0\1"
    assert (question.qtype, question.qclass, question.edns_size, question.do) == (28, 1, 0, False)
    assert question.query_id == query[:2]
    assert question.key == b"\3web\7example\0\0\x1c\0\1\0"


#       query, do the packet cache's conditions hold
KEPT = [
    pytest.param(wire(), True, id="plain"),
    pytest.param(wire(use_edns=0), True, id="EDNS without options"),
    pytest.param(wire(use_edns=0, want_dnssec=True), True, id="DO"),
    pytest.param(wire("WEB.example."), False, id="upper case"),
    pytest.param(wire(use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")]), False, id="an EDNS option"),
    pytest.param(wire(flags=0), False, id="RD clear"),
    pytest.param(wire() + b"x", False, id="bytes behind it"),
]


@pytest.mark.parametrize(("query", "kept"), KEPT)
def test_what_may_be_kept_by_its_bytes(query: bytes, kept: bool) -> None:
    assert question_of(query).packet_key == (query[2:] if kept else None)


def test_do_and_cd_are_in_the_key() -> None:
    do = wire(use_edns=0, want_dnssec=True)
    cd = wire(flags=dns.flags.RD | dns.flags.CD)
    assert question_of(do).key[-1] == DO_BIT
    assert question_of(cd).key[-1] == CD_BIT
    assert question_of(wire(flags=dns.flags.RD | dns.flags.AD)).key == question_of(wire()).key


def header(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, *counts)


ASKED = b"\3web\7example\0\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"

REJECTED = [
    pytest.param(header(0x2100) + ASKED, "NOTIMP", id="opcode NOTIFY"),
    pytest.param(header(0x2800) + ASKED, "NOTIMP", id="opcode UPDATE"),
    pytest.param(header(counts=(0, 0, 0, 0)), "FORMERR", id="no question"),
    pytest.param(header(counts=(2, 0, 0, 0)) + ASKED + ASKED, "FORMERR", id="two questions"),
    pytest.param(header(), "FORMERR", id="the question is missing"),
    pytest.param(header() + ASKED[:-1], "FORMERR", id="the question ends early"),
    pytest.param(header() + b"\xc0\x0c\0\1\0\1", "FORMERR", id="a pointer in the question"),
    pytest.param(header() + b"\x40a\0\0\1\0\1", "FORMERR", id="a label type nobody knows"),
    pytest.param(
        header() + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\0\0\1\0\1", "FORMERR", id="257 bytes"
    ),
    pytest.param(header(counts=(1, 0, 0, 1)) + ASKED, "FORMERR", id="the additional record is missing"),
    pytest.param(header(counts=(1, 0, 0, 2)) + ASKED + OPT + OPT, "FORMERR", id="two OPT records"),
    pytest.param(header(counts=(1, 0, 1, 0)) + ASKED + OPT, "FORMERR", id="an OPT record in the wrong section"),
    pytest.param(header(counts=(1, 0, 0, 1)) + ASKED + b"\1x" + OPT, "FORMERR", id="an OPT record with a name"),
    pytest.param(header(counts=(1, 0, 0, 1)) + ASKED + OPT[:-1] + b"\2\0\x0a", "FORMERR", id="half an option"),
    pytest.param(header(counts=(1, 0, 0, 1)) + ASKED + OPT[:6] + b"\1" + OPT[7:], "BADVERS", id="EDNS version 1"),
]


@pytest.mark.parametrize(("query", "rcode"), REJECTED)
def test_what_is_rejected_and_how(query: bytes, rcode: str) -> None:
    rejection = decode(query)
    assert isinstance(rejection, Rejection)
    answer = dns.message.from_wire(rejection.packet)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert answer.id == 7
    assert answer.flags & dns.flags.QR
    assert answer.opcode() == struct.unpack_from(">H", query, 2)[0] >> 11 & 15
    assert answer.edns == (0 if rcode == "BADVERS" else -1)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(wire()[:11], id="less than a header"),
        pytest.param(header(0x2100)[:11], id="less than a header of another opcode"),
        pytest.param(header(counts=(0, 0, 0, 0))[:11], id="less than a header without a question"),
        pytest.param(b"\0\7\1\0", id="ID and flags"),
        pytest.param(header(0x8100) + ASKED, id="an answer"),
        pytest.param(header(0xA100) + ASKED, id="an answer of another opcode"),
    ],
)
def test_silence(query: bytes) -> None:
    assert decode(query) is None


SEEDS = [
    wire(),
    wire(use_edns=0, want_dnssec=True),
    wire(use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")]),
]


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 80),
)
def test_a_mutated_query_is_a_question_an_answer_or_silence(
    seed: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    query = bytearray(seed)
    for at, value in changes:
        if at < len(query):
            query[at] = value
    check(bytes(query[:length]))


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_an_answer_or_silence(query: bytes) -> None:
    check(query)


def check(query: bytes) -> None:
    result = decode(query)
    if result is None:
        assert len(query) < 12 or query[2] & 0x80
    elif isinstance(result, Rejection):
        assert len(result.packet) <= 12 + len(OPT)
        assert len(query) >= 12
        assert result.packet[:2] == query[:2]
    else:
        assert query[12 : 12 + len(result.asked)] == result.asked
        assert result.key == result.asked[:-4].lower() + result.asked[-4:] + result.key[-1:]
        assert result.packet_key is None or query[2:] == result.packet_key


@given(
    labels=st.lists(st.from_regex(r"[a-zA-Z0-9-]{1,20}", fullmatch=True), min_size=1, max_size=5),
    rdtype=st.integers(1, 127),
    edns=st.booleans(),
    do=st.booleans(),
)
def test_it_agrees_with_an_independent_decoder(labels: list[str], rdtype: int, edns: bool, do: bool) -> None:
    if rdtype == 41:
        return
    query = dns.message.make_query(
        ".".join(labels) + ".",
        dns.rdatatype.RdataType(rdtype),
        use_edns=0 if edns else False,
        want_dnssec=do if edns else False,
    ).to_wire()
    theirs = dns.message.from_wire(query)
    ours = question_of(query)
    assert ours.name == theirs.question[0].name.canonicalize().to_wire()
    assert ours.qtype == theirs.question[0].rdtype
    assert ours.edns_size == max(theirs.payload, 0)
    assert ours.do == bool(theirs.ednsflags & dns.flags.DO)
