"""What nft says, as facts and in pieces of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.system.dialogue import Dialogue, Verdict

PROBE = "list set inet ours alive4"
FOUND = b"table inet ours {\n\tset alive4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.96.0.10 expires 3s }\n\t}\n}\n"
REFUSED = b"Error: Could not process rule: File exists\nadd table inet ours\n^^^\n"
GONE = f"Error: No such file or directory\n{PROBE}\n              ^^^^\n".encode()

#        what the child says, what that means
SAYINGS = [
    pytest.param(b"", [], id="nothing"),
    pytest.param(FOUND, [Verdict(True, "")], id="all is well"),
    pytest.param(FOUND * 2, [Verdict(True, "")] * 2, id="twice"),
    pytest.param(REFUSED + FOUND, [Verdict(True, "Could not process rule: File exists")], id="a line was refused"),
    pytest.param(GONE, [Verdict(False, "No such file or directory")], id="the table is gone"),
    pytest.param(
        REFUSED + GONE + FOUND,
        [Verdict(False, "Could not process rule: File exists"), Verdict(True, "")],
        id="the first problem counts, and only once",
    ),
    pytest.param(b"nft> table inet ours {\n", [Verdict(True, "")], id="a prompt of another line editor"),
    pytest.param(f"nft> {PROBE}\n".encode() + FOUND, [Verdict(True, "")], id="an echo of another line editor"),
    pytest.param(b"table inet ours2 {\n\tours {\n}\n", [], id="another table"),
]


@pytest.mark.parametrize(("said", "verdicts"), SAYINGS)
def test_sayings_whole_and_byte_by_byte(said: bytes, verdicts: list[Verdict]) -> None:
    assert Dialogue("ours", PROBE).feed(said) == verdicts
    slow = Dialogue("ours", PROBE)
    assert [verdict for byte in said for verdict in slow.feed(bytes([byte]))] == verdicts


def test_last_words_are_kept() -> None:
    dialogue = Dialogue("ours", PROBE)
    assert dialogue.feed(b"netlink: Error: cache initialization failed: Operation not permitted\n") == []
    assert dialogue.problem == "cache initialization failed: Operation not permitted"
    assert not dialogue.hopeless


def test_one_that_may_do_nothing_is_hopeless() -> None:
    dialogue = Dialogue("ours", PROBE)
    assert dialogue.feed(b"Operation not permitted (you must be root)\nnetlink: Error: cache") == []
    assert dialogue.hopeless
    assert dialogue.problem == "Operation not permitted (you must be root)"


@given(st.lists(st.binary(max_size=50) | st.sampled_from([FOUND, REFUSED, GONE, b"\n"])))
def test_nothing_that_is_said_raises(pieces: list[bytes]) -> None:
    dialogue = Dialogue("ours", PROBE)
    for piece in pieces:
        dialogue.feed(piece)
