"""However a stream is cut, the messages are the same."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.wire.framing import MESSAGE_MAX_BYTES, FrameReader, frame

MESSAGES = st.lists(st.binary(max_size=300), max_size=20)


def take_all(reader: FrameReader) -> list[bytes]:
    taken = []
    while (message := reader.next()) is not None:
        taken.append(message)
    return taken


#    what the stream brought, the messages in it, whether another one has begun
STREAMS = [
    pytest.param(b"", [], False, id="nothing"),
    pytest.param(b"\0", [], True, id="half a length"),
    pytest.param(b"\0\3", [], True, id="a length"),
    pytest.param(b"\0\3ab", [], True, id="all but one byte"),
    pytest.param(b"\0\3abc", [b"abc"], False, id="one message"),
    pytest.param(b"\0\0", [b""], False, id="a message of nothing"),
    pytest.param(b"\0\0\0\0\0\1a", [b"", b"", b"a"], False, id="messages of nothing, then one"),
    pytest.param(b"\0\3abc\0\2de\0", [b"abc", b"de"], True, id="two and the start of a third"),
    pytest.param(b"\xff\xff" + b"x" * 65_535, [b"x" * 65_535], False, id="the longest"),
    pytest.param(b"\xff\xff" + b"x" * 65_534, [], True, id="the longest, all but one byte"),
]


@pytest.mark.parametrize(("stream", "messages", "begun"), STREAMS)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 1_000_000])
def test_streams(stream: bytes, messages: list[bytes], begun: bool, chunk_bytes: int) -> None:
    reader = FrameReader()
    taken = []
    for start in range(0, len(stream), chunk_bytes):
        reader.feed(stream[start : start + chunk_bytes])
        taken += take_all(reader)
    assert (taken, bool(reader.partial)) == (messages, begun)


@given(messages=MESSAGES, data=st.data())
def test_any_split_gives_the_same_messages(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    reader = FrameReader()
    taken = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        taken += take_all(reader)
    assert taken == messages
    assert not reader.partial


@given(stream=st.binary(max_size=2000), data=st.data())
def test_any_bytes_are_messages_and_a_rest(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    reader = FrameReader()
    reader.feed(stream[:cut])
    taken = take_all(reader)
    reader.feed(stream[cut:])
    taken += take_all(reader)
    whole = b"".join(map(frame, taken))
    assert stream.startswith(whole)
    rest = stream[len(whole) :]
    assert bool(reader.partial) == bool(rest)
    assert len(rest) < 2 or len(rest) - 2 < int.from_bytes(rest[:2], "big")


@given(messages=MESSAGES, data=st.data())
def test_what_is_not_taken_yet_is_kept(messages: list[bytes], data: st.DataObject) -> None:
    """Feeding before all was taken loses nothing and changes no order."""
    stream = b"".join(map(frame, messages))
    reader = FrameReader()
    taken: list[bytes | None] = []
    position = 0
    while position < len(stream):
        end = data.draw(st.integers(position + 1, len(stream)))
        reader.feed(stream[position:end])
        position = end
        taken += [reader.next() for _ in range(data.draw(st.integers(0, 3)))]
    taken += take_all(reader)
    assert [message for message in taken if message is not None] == messages


def test_byte_by_byte_costs_as_much_as_its_length() -> None:
    """Ten of the longest messages in single bytes: quadratic copying would be 20 GB."""
    stream = frame(b"x" * MESSAGE_MAX_BYTES) * 10
    reader = FrameReader()
    taken = 0
    began_s = time.process_time()
    for byte in stream:
        reader.feed(bytes((byte,)))
        if reader.next() is not None:
            taken += 1
    assert taken == 10
    assert time.process_time() - began_s < 5


def test_a_message_that_is_too_long_has_no_frame() -> None:
    assert frame(b"abc") == b"\0\3abc"
    with pytest.raises(OverflowError):
        frame(b"x" * (MESSAGE_MAX_BYTES + 1))
