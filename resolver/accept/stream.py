"""One client connection: questions in, answers out, in whatever order they are ready (RFC 7766 section 6.2.1.1).

A bare descriptor: the desk (`accept.desk`) waits for it and tells `ready`, which reads what has arrived, answers it
and writes the answers at once. The limits and clocks that connections share are the desk's as well: a turn of the
loop has a budget of questions, and what one connection cannot ask within it waits its turn, unread.

Reading stops while `tcp_pipelined_max` questions wait for upstream, and while more than `tcp_unsent_max_bytes`
of answers are unsent. A client that has said its last (EOF) still gets every answer. One that we close on our own
account hears EOF, never a reset: a question that crosses it is asked again elsewhere (RFC 7766 section 6.2.4). A
message that is shorter than a DNS header cannot be answered, and what follows it cannot be trusted: it counts as
the last.
"""

import os
from select import EPOLLIN, EPOLLOUT
from typing import Any

from resolver.accept import sockets
from resolver.accept.desk import Desk
from resolver.wire.framing import FrameReader
from resolver.wire.header import HEADER_BYTES

SLICE_QUESTIONS = 64
"""Questions of one connection before the next one has its turn; up to so many of one read leave in one write."""

READ_BYTES = 64 * 1024
"""One read: about all that the kernel keeps for a connection (`tcp.KERNEL_BUFFER_BYTES`), a thousand questions."""

UNSENT_FACTOR = 16
"""A client with 16 x 64 KiB unsent is cut off: it asked for more at once than it reads. `tcp_pipelined_max`
answers of 8 KiB fit."""

RESUME_FACTOR = 4
"""A client that has stalled is read again when it has taken all but a quarter of what it may leave unsent."""

LINGER_S = 0.5
"""After our EOF, time for a client's own: a round trip, and until its program looks."""

_CLOSED = -1

MAPPED = "::ffff:"
"""How the kernel writes an IPv4 client of an IPv6 socket."""


class Stream:
    """One connection. `client_text` is for logs: `10.0.0.7:41832`, `[::1]:53`."""

    __slots__ = (
        "_desk", "_ending", "_frames", "_held", "_last", "_lingers", "_out", "_out_bytes", "_turn_is_due",
        "_unsent", "_watched", "client_host", "client_port", "fd", "outstanding", "quiet_since_s",
    )  # fmt: skip

    def __init__(self, desk: Desk, fd: int, peer: tuple[Any, ...], now_s: float) -> None:
        """Take over the descriptor `fd`, connected and non-blocking."""
        host: str = peer[0]
        self.client_host = host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host
        self.client_port: int = peer[1]
        self.fd = fd
        self.outstanding = 0  # questions whose answer has not come
        self.quiet_since_s = now_s
        self._desk = desk
        self._ending = False  # closing or closed: no answer is taken any more
        self._frames = FrameReader()
        self._held = False  # reading is paused
        self._last = False  # no more questions will be taken from it
        self._lingers = False  # it is us who closes: a question may be under way
        self._out: list[bytes] = []  # answers of this turn
        self._out_bytes = 0
        self._turn_is_due = False
        self._unsent = b""  # what the kernel would not take
        self._watched = EPOLLIN

    @property
    def client_text(self) -> str:
        host = f"[{self.client_host}]" if ":" in self.client_host else self.client_host
        return f"{host}:{self.client_port}"

    @property
    def is_idle(self) -> bool:
        """Whether nobody loses anything when it is closed."""
        return not (self.outstanding or self._turn_is_due or self._frames.partial or self._out or self._unsent)

    @property
    def unsent_bytes(self) -> int:
        """Answers that the kernel has not taken yet."""
        return self._out_bytes + len(self._unsent)

    def send(self, response: bytes) -> None:
        """Send an answer that came later; together with others of this turn. Gone clients are no error."""
        if self.outstanding:
            self.outstanding -= 1
        if self._ending:
            return
        self._out.append(len(response).to_bytes(2, "big") + response)
        self._out_bytes += len(response) + 2
        if self._out_bytes > self._desk.options.tcp_unsent_max_bytes:
            self._flush()
        self._take_turn()

    def turn(self, now_s: float) -> None:
        """Write what has become ready, and take questions that had to wait."""
        self._turn_is_due = False
        if not self._ending:
            self.quiet_since_s = now_s
            self._desk.quiet.move_to_end(self)
            self._serve(now_s)

    def finish(self) -> None:
        """Take no new questions; close when the answers that it waits for are out."""
        self._last = self._lingers = True
        self._take_turn()

    def abort(self) -> None:
        """Close at once; what is unsent is lost."""
        if self.fd != _CLOSED:
            self._desk.lost(self)
            os.close(self.fd)  # and epoll watches it no more
            self.fd = _CLOSED
            self._ending = True
            self._watched = 0
            self._out.clear()
            self._out_bytes = 0
            self._unsent = b""

    def ready(self, events: int, now_s: float) -> None:
        """Do what the kernel's `events` are about: EPOLLIN, EPOLLOUT, or an end (EPOLLHUP, EPOLLERR)."""
        if events & EPOLLOUT:
            self._send_rest()
            if events == EPOLLOUT:
                return
        if not self._watched & EPOLLIN:
            if events & ~(EPOLLIN | EPOLLOUT):
                self.abort()  # reset, while nothing was read: nobody takes the answers
            return
        try:
            chunk = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset, or the network is gone
            self.abort()
            return
        if self._ending:
            # We have sent EOF. What still comes is not answered; unread, it would make the kernel send a reset.
            if not chunk:
                self.abort()
        elif chunk:
            self._frames.feed(chunk)
            if not self._turn_is_due:
                self._serve(now_s)
        elif self.is_idle:
            self.abort()  # most clients ask one question and leave
        else:
            self.finish()
            self._lingers = False
            self._hold(True)  # EOF is all that there is to read

    # Questions

    def _serve(self, now_s: float) -> None:
        """Answer what has arrived: at most a slice, then the others have their turn."""
        desk, frames, out = self._desk, self._frames, self._out
        pipelined_max = desk.options.tcp_pipelined_max
        left = SLICE_QUESTIONS if desk.questions_left > SLICE_QUESTIONS else desk.questions_left
        room_bytes = desk.options.tcp_unsent_max_bytes - len(self._unsent)
        full = self in desk.stalled or self.outstanding >= pipelined_max
        taken = 0
        query: bytes | None = b""
        while taken < left and not full:
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
                out.append(len(response).to_bytes(2, "big") + response)
                self._out_bytes += len(response) + 2
            full = self._out_bytes > room_bytes or self.outstanding >= pipelined_max
        if self._ending:
            return  # cut off, by a flight that failed while it was asked
        if taken:
            desk.questions_left -= taken
            self.quiet_since_s = now_s
            desk.quiet.move_to_end(self)
        if out:
            self._flush()
        if not self._ending:
            self._settle(now_s, taken, drained=query is None)

    def _settle(self, now_s: float, taken: int, drained: bool) -> None:
        """Decide whether to read on, to go on next turn, to wait for answers to go out, or to close."""
        desk = self._desk
        full = self in desk.stalled or self.outstanding >= desk.options.tcp_pipelined_max
        if drained and not full and not self._last:
            if not self._frames.partial:
                desk.begun.pop(self, None)
            elif taken or self not in desk.begun:
                desk.begun.pop(self, None)  # a new one: to the end of the queue
                desk.begun[self] = now_s
            if self._held:
                self._hold(False)
            return
        # While we do not read, or read no more, a message that is not whole is not the client's fault.
        desk.begun.pop(self, None)
        self._hold(True)
        if drained and self._last and not self.outstanding:
            self._close(now_s)
        elif not drained and not full:
            self._take_turn()

    def _hold(self, held: bool) -> None:
        """Stop or go on reading."""
        if held is not self._held:
            self._held = held
            self._watch()

    def _watch(self) -> None:
        """Let the desk know what is waited for."""
        watched = (0 if self._held else EPOLLIN) | (EPOLLOUT if self._unsent else 0)
        if watched != self._watched:
            self._watched = watched
            self._desk.epoll.modify(self.fd, watched)

    def _take_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._desk.next_turn(self)

    # Answers

    def _flush(self) -> None:
        """Write the answers of this turn: at once, unless older ones wait already."""
        out = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        if not self._unsent:
            sent = self._write(out)
            if sent == len(out) or self._ending:
                return
            out = out[sent:]
        self.keep(out)

    def keep(self, out: bytes) -> None:
        """Write `out`, which the kernel would not take, when it has room."""
        self._unsent += out
        self._watch()
        unsent_max_bytes = self._desk.options.tcp_unsent_max_bytes
        if len(self._unsent) > unsent_max_bytes * UNSENT_FACTOR:
            self._desk.cut_off(self)
        elif len(self._unsent) > unsent_max_bytes:
            self._desk.has_stalled(self)

    def _send_rest(self) -> None:
        """The kernel has room: let it take more of what is unsent."""
        self._unsent = self._unsent[self._write(self._unsent) :]
        desk = self._desk
        if self in desk.stalled and len(self._unsent) <= desk.options.tcp_unsent_max_bytes // RESUME_FACTOR:
            del desk.stalled[self]
            self._take_turn()
        if not self._unsent and self.fd != _CLOSED:
            self._watch()
            if self._ending:
                self._end()

    def _write(self, out: bytes) -> int:
        """Return how many bytes the kernel took; a client that is gone is closed."""
        try:
            return os.write(self.fd, out)
        except BlockingIOError:
            return 0
        except OSError:
            self.abort()
            return 0

    def _close(self, now_s: float) -> None:
        """Send the rest and close; the desk ends it if the client does not take the rest."""
        self._ending = True
        self._desk.quiet.pop(self)
        self._desk.closing[self] = now_s
        if not self._unsent:
            self._end()

    def _end(self) -> None:
        """All is sent."""
        if self._lingers and sockets.end_sending(self.fd):
            self._hold(False)
            self._desk.timers.call_after(LINGER_S, self.abort)
        else:
            self.abort()
