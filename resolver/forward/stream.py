"""One connection to an upstream, and one question on it: IDs, framing, matching. What to do is the pool's to say.

IDs are random and unique on their connection; answers come in any order (RFC 7766 section 7) and match by ID and
question. What does not match is counted and waited past. A message shorter than a header means that the two ends
are out of step: the connection is closed.
"""

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple, cast

from resolver.errors import UpstreamError
from resolver.forward.match import matches
from resolver.wire.framing import FrameReader
from resolver.wire.header import HEADER_BYTES

if TYPE_CHECKING:  # the pool makes both; only the type leads back
    from resolver.forward.tcp import StreamPool


IDS_BYTES = 512
"""Message IDs come from the system's random source, 256 to a draw."""


class Ids:
    """Random message IDs."""

    __slots__ = ("_drawn", "_position")

    def __init__(self) -> None:
        self._drawn = b""
        self._position = 0

    def next(self) -> bytes:
        """Return two random bytes."""
        position = self._position
        if position >= len(self._drawn):
            self._drawn = os.urandom(IDS_BYTES)
            position = 0
        self._position = position + 2
        return self._drawn[position : position + 2]


class Place(NamedTuple):
    """Where a question waits for its answer."""

    stream: "Stream"
    wire_id: bytes
    sent_s: float


class StreamQuestion:
    """One `ask`, on one connection, or on two when it was asked again. An `Expiring` of `clock.Timers`.

    asked   Its question section, the name in lower case.
    answer  The message with the ID of the query.
    """

    __slots__ = ("again", "answer", "asked", "body", "done", "places", "pool", "query_id")

    def __init__(self, pool: "StreamPool", query: bytes, answer: "asyncio.Future[bytes]") -> None:
        self.pool = pool
        self.answer = answer
        self.asked = _question_section(query)
        self.query_id = query[:2]
        self.body = query[2:]
        self.places: list[Place] = []
        self.again = False
        self.done = False

    def expire(self, now_s: float) -> None:
        self.pool.timed_out(self, now_s)

    def answered(self, message: bytes) -> None:
        """Wake the asker with `message`, under the ID that it knows."""
        if not self.answer.done():
            self.answer.set_result(self.query_id + message[2:])
        asked_on = [place.stream for place in self.places]
        self.leave()
        for stream in asked_on:
            if not stream.answers:  # another connection was faster: this one does not work
                stream.retire()

    def failed(self, error: UpstreamError) -> None:
        """Wake the asker with a copy of `error`: one that several share would collect all their tracebacks."""
        if not self.answer.done():
            self.answer.set_exception(type(error)(*error.args))
        self.leave()

    def silent_places(self) -> list[Place]:
        """Return where it waits on a connection that has said nothing since it was sent there."""
        return [place for place in self.places if place.stream.heard_s < place.sent_s]

    def leave(self) -> None:
        """Wait nowhere any more."""
        self.done = True
        for stream, wire_id, _ in self.places:
            stream.forget(wire_id)
        self.places.clear()
        self.pool.waiting.pop(self, None)


class Stream(asyncio.Protocol):
    """One connection.

    asked    Questions sent on it so far.
    answers  Answers that came, 0 while it has not proven to work.
    retired  It takes no more questions and closes with its last answer.
    """

    __slots__ = (
        "_flush_is_due", "_frames", "_ids", "_loop", "_out", "_pool", "_transport", "answers", "asked", "born_s",
        "closed", "heard_s", "pending", "retired", "used_s", "writable",
    )  # fmt: skip

    def __init__(self, pool: "StreamPool", ids: Ids) -> None:
        self.pending: dict[bytes, StreamQuestion] = {}
        self.asked = 0
        self.answers = 0
        self.retired = False
        self.closed = False
        self.writable = True
        self.born_s = self.used_s = 0.0
        self.heard_s = float("-inf")
        self._pool = pool
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._out: list[bytes] = []
        self._flush_is_due = False
        self._transport: asyncio.Transport | None = None

    def send(self, question: StreamQuestion, now_s: float) -> None:
        """Send it with an ID of its own; those of one turn of the loop leave together."""
        wire_id = self._ids.next()
        while wire_id in self.pending:
            wire_id = self._ids.next()
        self.pending[wire_id] = question
        question.places.append(Place(self, wire_id, now_s))
        self.asked += 1
        self.used_s = now_s
        self._out += ((len(question.body) + 2).to_bytes(2, "big"), wire_id, question.body)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def forget(self, wire_id: bytes) -> None:
        """Nobody waits for this ID any more."""
        self.pending.pop(wire_id, None)
        if self.retired and not self.pending:
            self.close()

    def retire(self) -> None:
        """Take no more questions; close when nothing is waited for."""
        self.retired = True
        if not self.pending:
            self.close()

    def close(self) -> None:
        """Close now. No goodbye is said: messages have lengths, so nothing can be cut off unseen."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.born_s = self.used_s = self._pool.timers.now()
        self._pool.streams.opened.add(self)
        if self._pool.closed:
            self.close()

    def data_received(self, data: bytes) -> None:
        pool = self._pool
        frames = self._frames
        now_s = pool.timers.now()
        frames.feed(data)
        before = self.answers
        while (message := frames.next()) is not None:
            if len(message) < HEADER_BYTES:
                self.close()
                break
            question = self.pending.get(message[:2])
            if question is None or not matches(message, question.asked):
                pool.counts.wrong_answers += 1
                continue
            self.answers += 1
            self.heard_s = self.used_s = now_s
            question.answered(message)
        if self.answers != before:
            pool.progressed(self, first=before == 0, now_s=now_s)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def connection_lost(self, exc: Exception | None) -> None:
        by_us, self.closed = self.closed, True
        self._transport = None
        self._pool.lost(self, by_us)

    def _flush(self) -> None:
        self._flush_is_due = False
        out = b"".join(self._out)
        self._out.clear()
        if self._transport is not None and not self.closed:
            self._transport.write(out)


def _question_section(query: bytes) -> bytes:
    """Return the question of one of our own queries, its name in lower case."""
    position = HEADER_BYTES
    while query[position]:
        position += query[position] + 1
    end = position + 5
    return query[HEADER_BYTES : end - 4].lower() + query[end - 4 : end]
