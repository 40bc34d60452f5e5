"""One client connection: questions in, answers out, in whatever order they are ready (RFC 7766 section 6.2.1.1).

Works on any stream transport of asyncio or uvloop. The limits and clocks that connections share are the desk's
(`accept.desk`): a turn of the loop has a budget of questions, and what one connection cannot ask within it waits
its turn, unread.

Reading stops while `tcp_pipelined_max` questions wait for upstream, and while more than `tcp_unsent_max_bytes`
of answers are unsent. A client that has said its last (EOF) still gets every answer. One that we close on our own
account hears EOF, never a reset: a question that crosses it is asked again elsewhere (RFC 7766 section 6.2.4). A
message that is shorter than a DNS header cannot be answered, and what follows it cannot be trusted: it counts as
the last.
"""

import asyncio
from typing import Any, cast

from resolver.accept.desk import Desk
from resolver.wire.framing import FrameReader
from resolver.wire.header import HEADER_BYTES

SLICE_QUESTIONS = 64
"""Questions of one connection before the next one has its turn; up to so many of one read leave in one write."""

UNSENT_FACTOR = 16
"""A client with 16 x 64 KiB unsent is cut off: it asked for more at once than it reads. `tcp_pipelined_max`
answers of 8 KiB fit."""

LINGER_S = 0.5
"""After our EOF, time for a client's own: a round trip, and until its program looks."""

_MAPPED = "::ffff:"


class Stream(asyncio.Protocol):
    """One connection. `client_text` is for logs: `10.0.0.7:41832`, `[::1]:53`."""

    __slots__ = (
        "_desk", "_frames", "_gone", "_held", "_last", "_lingers", "_out", "_out_bytes", "_transport",
        "_turn_is_due", "client_host", "client_port", "outstanding", "quiet_since_s",
    )  # fmt: skip

    def __init__(self, desk: Desk, peer: tuple[Any, ...], now_s: float) -> None:
        host = str(peer[0])
        self.client_host = host[len(_MAPPED) :] if host.startswith(_MAPPED) and "." in host else host
        self.client_port = int(peer[1])
        self.outstanding = 0  # questions whose answer has not come
        self.quiet_since_s = now_s
        self._desk = desk
        self._frames = FrameReader()
        self._gone = False  # closed or closing: nothing more is written
        self._held = False  # reading is paused
        self._last = False  # no more questions will be taken from it
        self._lingers = False  # it is us who closes: a question may be under way
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._turn_is_due = False

    @property
    def client_text(self) -> str:
        host = f"[{self.client_host}]" if ":" in self.client_host else self.client_host
        return f"{host}:{self.client_port}"

    @property
    def is_idle(self) -> bool:
        """Whether nobody loses anything when it is closed."""
        return not (self.outstanding or self._turn_is_due or self._frames.begun or self.unsent_bytes)

    @property
    def unsent_bytes(self) -> int:
        """Answers that the kernel has not taken yet."""
        transport = self._transport
        return self._out_bytes + (transport.get_write_buffer_size() if transport is not None else 0)

    def send(self, response: bytes) -> None:
        """Send an answer that came later; together with others of this turn. Gone clients are no error."""
        if self.outstanding:
            self.outstanding -= 1
        if self._gone:
            return
        self._put(response)
        if self._out_bytes > self._desk.options.tcp_unsent_max_bytes:
            self._flush()
        self._take_turn()

    def turn(self, now_s: float) -> None:
        """Write what has become ready, and take questions that had to wait."""
        self._turn_is_due = False
        if not self._gone:
            self._touch(now_s)
            self._serve(now_s)

    def finish(self) -> None:
        """Take no new questions; close when the answers that it waits for are out."""
        self._last = self._lingers = True
        self._take_turn()

    def abort(self) -> None:
        """Close at once; what is unsent is lost."""
        self._desk.forget(self)
        self._gone = True
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        if self._gone:  # given up while it was being accepted
            transport.abort()
            return
        transport.set_write_buffer_limits(high=self._desk.options.tcp_unsent_max_bytes)
        self._desk.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return  # unread, it would make the kernel send a reset
        self._frames.feed(data)
        if not self._turn_is_due:
            self._serve(self._desk.now())

    def eof_received(self) -> bool:
        if self.is_idle or self._gone:
            return False  # the transport closes: most clients ask one question and leave
        self.finish()
        self._lingers = False
        return True  # the transport stays open for our answers

    def pause_writing(self) -> None:
        if not self._gone:
            self._desk.has_stalled(self)

    def resume_writing(self) -> None:
        if not self._gone:
            self._desk.stalled.pop(self, None)
            self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._transport = None
        self._out.clear()
        self._out_bytes = 0
        self._desk.lost(self)

    # Questions

    def _serve(self, now_s: float) -> None:
        """Answer what has arrived: at most a slice, then the others have their turn."""
        desk = self._desk
        options = desk.options
        frames = self._frames
        taken = 0
        slice_left = min(SLICE_QUESTIONS, desk.questions_left)
        room_bytes = options.tcp_unsent_max_bytes - (self.unsent_bytes - self._out_bytes)
        full = self in desk.stalled or self.outstanding >= options.tcp_pipelined_max
        query: bytes | None = b""
        while slice_left > taken and not full:
            query = frames.next()
            if query is None:
                break
            if len(query) < HEADER_BYTES:
                self._last = True
                self._frames = FrameReader()
                query = None
                break
            taken += 1
            # Counted before it is asked: a flight may fail, and send, before `answer` has returned.
            self.outstanding += 1
            response = desk.answer(query, self, now_s)
            if response is not None:
                self.outstanding -= 1
                self._put(response)
            full = self._out_bytes > room_bytes or self.outstanding >= options.tcp_pipelined_max
        desk.questions_left -= taken
        if taken:
            self._touch(now_s)
        if self._out:
            self._flush()
        if not self._gone:
            self._settle(now_s, taken, drained=query is None)

    def _settle(self, now_s: float, taken: int, drained: bool) -> None:
        """Decide whether to read on, to go on next turn, to wait for answers to go out, or to close."""
        desk = self._desk
        begun = desk.begun
        full = self in desk.stalled or self.outstanding >= desk.options.tcp_pipelined_max
        if drained and not full and not self._last:
            if not self._frames.begun:
                begun.pop(self, None)
            elif taken or self not in begun:
                begun.pop(self, None)  # a new one: to the end of the queue
                begun[self] = now_s
            self._hold(False)
            return
        # While we do not read, or read no more, a message that is not whole is not the client's fault.
        begun.pop(self, None)
        self._hold(True)
        if drained and self._last and not self.outstanding:
            self._close(now_s)
        elif not drained and not full:
            self._take_turn()

    def _hold(self, held: bool) -> None:
        """Stop or go on reading. Never resumed after the last question: asyncio would report EOF again."""
        transport = self._transport
        if held is self._held or transport is None:
            return
        self._held = held
        if held:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _take_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._desk.next_turn(self)

    def _touch(self, now_s: float) -> None:
        self.quiet_since_s = now_s
        quiet = self._desk.quiet
        if self in quiet:
            quiet.move_to_end(self)

    # Answers

    def _put(self, response: bytes) -> None:
        self._out += (len(response).to_bytes(2, "big"), response)
        self._out_bytes += len(response) + 2

    def _flush(self) -> None:
        transport = self._transport
        out = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        if transport is None or self._gone:
            return
        transport.write(out)
        if transport.get_write_buffer_size() > self._desk.options.tcp_unsent_max_bytes * UNSENT_FACTOR:
            self._desk.cut_off(self)

    def _close(self, now_s: float) -> None:
        """Send the rest and close; the desk ends it if the client does not take the rest."""
        desk = self._desk
        desk.quiet.pop(self, None)
        desk.closing[self] = now_s
        self._gone = True
        transport = self._transport
        if transport is None:
            return
        if self._lingers and transport.can_write_eof():
            transport.write_eof()
            self._hold(False)
            desk.timers.call_after(LINGER_S, self._leave)
        else:
            transport.close()

    def _leave(self) -> None:
        if self._transport is not None:
            self._transport.close()
