"""Which packets answer a question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.forward.match import matches

ASKED = b"\3web\7example\0\0\1\0\1"


def packet(flags: bytes = b"\x81\x80", counts: bytes = b"\0\1", section: bytes = ASKED) -> bytes:
    return b"\0\7" + flags + counts + b"\0\0\0\0\0\0" + section


@pytest.mark.parametrize(
    ("answer", "ours"),
    [
        pytest.param(packet(), True, id="the question itself"),
        pytest.param(packet(section=b"\3wEb\7EXAMPLE\0\0\1\0\1"), True, id="in other letters"),
        pytest.param(packet(b"\x81\x82"), True, id="SERVFAIL"),
        pytest.param(packet(b"\x81\x81", b"\0\0", b""), True, id="FORMERR without the question"),
        pytest.param(packet(b"\x81\x84", b"\0\0", b""), True, id="NOTIMP without the question"),
        pytest.param(packet(b"\x81\x80", b"\0\0", b""), False, id="NOERROR without the question"),
        pytest.param(packet(b"\x01\x80"), False, id="a query"),
        pytest.param(packet(b"\xa1\x80"), False, id="another opcode"),
        pytest.param(packet(counts=b"\0\2"), False, id="two questions"),
        pytest.param(packet(section=b"\3wab\7example\0\0\1\0\1"), False, id="another name"),
        pytest.param(packet(section=b"\3web\7example\0\0\x1c\0\1"), False, id="another type"),
        pytest.param(packet(section=b"\3web\7example\0\0\1\0\3"), False, id="another class"),
        pytest.param(packet(section=ASKED[:-1]), False, id="half a question"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"\0\7\x81", False, id="three bytes"),
    ],
)
def test_matching(answer: bytes, ours: bool) -> None:
    assert matches(answer, ASKED) is ours


@given(st.binary(max_size=80))
def test_any_bytes_match_or_not(answer: bytes) -> None:
    if matches(answer, ASKED):
        assert answer[2] & 0x80
        assert answer[4:6] == b"\0\0" or answer[12 : 12 + len(ASKED)].lower() == ASKED


@given(upper=st.lists(st.booleans(), min_size=len(ASKED), max_size=len(ASKED)))
def test_letter_case_never_matters(upper: list[bool]) -> None:
    section = bytes(
        byte - 32 if flip and 97 <= byte <= 122 else byte for byte, flip in zip(ASKED, upper, strict=True)
    )
    assert matches(packet(section=section), ASKED)
