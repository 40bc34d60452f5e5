"""Both codecs, side by side, over whatever bytes arrive: what one returns or raises, so does the other.

`tests/accept/test_decode.py`, `tests/wire/test_ttls.py` and `tests/reply/test_fit.py` say what is right, and run
against both. `test_lane_sanitized` runs all of them again with AddressSanitizer and UBSan.
"""

from typing import Any

import dns.edns
import dns.message
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept import codec, lanes
from resolver.errors import Malformed
from resolver.reply.fit import STREAM_BYTES
from resolver.wire.edns import EDE_STALE, opt_record
from resolver.wire.question import Question
from tests.accept.lane import answer_to, query

IN_PYTHON = lanes.IN_PYTHON

QUERIES = [
    query("web.example."),
    query("wEb.Example.", "AAAA"),
    query("web.example.", use_edns=0, want_dnssec=True),
    query("web.example.", use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")]),
    query("."),
    query(f"{'x' * 63}.{'y' * 63}.{'z' * 63}.{'w' * 61}."),
]


def denial() -> bytes:
    message = dns.message.make_response(dns.message.from_wire(query("web.example.", use_edns=0)))
    soa = "ns.example. h.example. 1 7200 1800 86400 60"
    message.authority.append(dns.rrset.from_text("example.", 300, "IN", "SOA", soa))
    return message.to_wire()


ANSWERS = [answer_to(query("web.example."), addresses=3), denial(), answer_to(query("."), ttl_s=0, addresses=70)]


def outcome(function: Any, *words: Any) -> Any:
    """Return what a call came to, with the types of all of it: True is not 1 here."""
    try:
        got = function(*words)
    except Malformed as error:
        return str(error)
    return type(got), got, [type(field) for field in got] if isinstance(got, tuple) else None


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    changes = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6)

    def change(seed: bytes, made: list[tuple[int, int]], length: int, tail: bytes) -> bytes:
        packet = bytearray(seed)
        for at, value in made:
            if at < len(packet):
                packet[at] = value
        return bytes(packet[: len(packet) - length]) + tail

    return st.builds(
        change, st.sampled_from(seeds), changes, st.just(0) | st.integers(0, 60), st.binary(max_size=20)
    )


@given(mutated(QUERIES) | st.binary(max_size=300))
def test_both_read_the_same_question(wire: bytes) -> None:
    assert outcome(codec.decode, wire) == outcome(IN_PYTHON.decode, wire)


@given(mutated(ANSWERS) | st.binary(max_size=300), st.just(0) | st.integers(-1, 400))
def test_both_find_the_same_in_an_answer(packet: bytes, question_end: int) -> None:
    assert outcome(codec.scan, packet) == outcome(IN_PYTHON.scan, packet)
    if question_end == 0 or question_end >= 17:  # an end that the caller has compared; -1 and 1 to 16 are none
        assert outcome(codec.scan, packet, question_end) == outcome(IN_PYTHON.scan, packet, question_end)


@given(
    asked=st.sampled_from(QUERIES[:4]),
    stored=st.sampled_from(ANSWERS[:2]),
    elapsed_s=st.integers(0, 2**33),
    floor_s=st.integers(0, 1),
    max_bytes=st.sampled_from([0, 100, 512, 1232, STREAM_BYTES]),
    authoritative=st.sampled_from([0, 0x400]),
    explained=st.booleans(),
    ttl_s=st.integers(0, 2**32 - 1),
)
def test_both_write_the_same_answer(
    asked: bytes,
    stored: bytes,
    elapsed_s: int,
    floor_s: int,
    max_bytes: int,
    authoritative: int,
    explained: bool,
    ttl_s: int,
) -> None:
    question = IN_PYTHON.decode(asked)
    assert isinstance(question, Question)
    found = IN_PYTHON.scan(stored, 0)
    packet = bytearray(found.packet)
    for at in found.ttl_offsets:
        packet[at : at + 4] = ttl_s.to_bytes(4, "big")
    opt = opt_record(do=question.do, ede_code=EDE_STALE, ede_text="old") if explained else None
    words = (question, bytes(packet), found.ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative, opt)
    assert outcome(codec.fit, *words) == outcome(IN_PYTHON.fit, *words)


def test_the_compiled_one_does_the_ordinary_by_itself() -> None:
    """Else the tests above would compare Python with itself, and nothing would be faster."""
    import sys

    called: list[str] = []

    def record(frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)

    wires = QUERIES[:4]
    questions = [codec.decode(wire) for wire in wires]
    founds = [codec.scan(packet) for packet in ANSWERS[:2]]
    sys.setprofile(record)
    try:
        for wire in wires:
            codec.decode(wire)
        for packet in ANSWERS[:2]:
            codec.scan(packet)
        for question in questions:
            for found in founds:
                codec.fit(question, found.packet, found.ttl_offsets, 3, 0, 1232)  # type: ignore[arg-type] # a Question
    finally:
        sys.setprofile(None)
    assert called == []
