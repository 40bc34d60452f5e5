"""Names between people and packets."""

import dns.exception
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import Malformed
from resolver.wire import names

PAIRS = [
    (".", b"\0"),
    ("example.", b"\7example\0"),
    ("a.b.", b"\1a\1b\0"),
    ("a\\.b.", b"\3a.b\0"),
    ("\\000\\255.", b"\2\0\xff\0"),
    ("_http._tcp.web.", b"\5_http\4_tcp\3web\0"),
]


@pytest.mark.parametrize(("text", "wire"), PAIRS)
def test_both_ways(text: str, wire: bytes) -> None:
    assert names.from_text(text) == wire
    assert names.to_text(wire) == text


def test_a_missing_last_dot_is_added() -> None:
    assert names.from_text("web.example") == names.from_text("web.example.")


@pytest.mark.parametrize("text", ["..", "a..b.", ".a.", "a" * 64 + ".", "é.", "\\256.", "a\\", "a." * 128])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(Malformed):
        names.from_text(text)


labels = st.binary(min_size=1, max_size=63)
wires = st.lists(labels, max_size=8).map(
    lambda parts: b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
).filter(lambda wire: len(wire) <= 255)  # fmt: skip


@given(wires)
def test_round_trip(wire: bytes) -> None:
    text = names.to_text(wire)
    assert names.from_text(text) == wire
    assert text.isascii()
    assert text.isprintable()
    assert dns.name.from_text(text).to_wire() == wire


@given(st.binary(max_size=300))
def test_any_bytes_are_a_name_or_malformed(wire: bytes) -> None:
    try:
        text = names.to_text(wire)
    except Malformed:
        return
    assert names.from_text(text) == wire or len(wire) > names.MAX_NAME_BYTES


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_malformed(text: str) -> None:
    try:
        wire = names.from_text(text)
    except Malformed:
        return
    assert names.from_text(names.to_text(wire)) == wire


BELOW = [
    ("web.example.", "example.", True),
    ("example.", "example.", True),
    ("example.", ".", True),
    ("anexample.", "example.", False),
    ("example.", "web.example.", False),
    ("a\\007example.", "example.", False),  # the byte before the zone is data, not a length
]


@pytest.mark.parametrize(("name", "zone", "below"), BELOW)
def test_below(name: str, zone: str, below: bool) -> None:
    assert names.is_below(names.from_text(name), names.from_text(zone)) is below
