"""What the connections of one TCP listener share: one epoll, turns, and clocks that cost nothing for each question.

Connections wait in an epoll of their own, which the loop watches as one descriptor: each is registered once, one
call tells which have news, and closing a descriptor takes it out. With transports of the loop, a connection with
one question took 45 us in place of 25. `TCP_DEFER_ACCEPT` is not used: who connects early and asks late would be
reset when we end, because the kernel would not have given that connection to us.

A turn of the loop answers at most `TURN_QUESTIONS`, whoever asks; what is left waits in one queue, in order.

Deadlines are looked at every `WATCH_S`, at the fronts of four queues that are in the order of their times: no
timer for a connection or a question. Nobody else closes a connection for being slow.
"""

import asyncio
import select
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from resolver.accept.options import AcceptOptions
from resolver.clock import Now, Timers

if TYPE_CHECKING:  # streams use the desk; only the type leads back
    from resolver.accept.stream import Stream

Answer = Callable[[bytes, "Stream", float], bytes | None]
"""`answer(query, client, now_s)`, see `accept.listener.Listener.answer`; None: later by `Stream.send`, or never."""

TURN_QUESTIONS = 128
"""Of all connections in one turn of the loop: at 15 us for a stored answer 2 ms."""

READY_MAX = 64
"""Connections with news in one turn of the loop: each costs about 10 us. The kernel has those left out in front
next time."""

STALLED_MAX = 32
"""Connections with more than `tcp_unsent_max_bytes` unsent: 32 x 1 MiB (`stream.UNSENT_FACTOR`). One more ends the
one that has stalled longest."""

WATCH_S = 0.1

PATIENCE = 3
"""Idle times that a connection may wait for answers of ours: flights end well before, but a question that is
dropped on purpose never does."""


@dataclass(slots=True)
class TcpCounters:
    """What became of connections. Those that clients close are in none of these but `accepted`."""

    accepted: int = 0
    refused_full: int = 0  # over tcp_connections_max, and nobody was idle
    refused_client: int = 0  # over tcp_connections_per_client, and none of them was idle
    evicted: int = 0  # idle ones that made room
    closed_idle: int = 0
    closed_read: int = 0  # a message did not become whole in time
    closed_write: int = 0  # answers were not taken in time, or too many of them were unsent
    accept_errors: int = 0


class Desk:
    """Made by `accept.tcp.TcpServer`, used by its streams.

    questions_left  In this turn of the loop.
    epoll           What streams wait for, by descriptor.
    quiet           Every open stream that is not closing, the one that is quiet longest in front.
    begun           A message has begun to arrive, and since when.
    stalled         More unsent than it may have, and since when.
    closing         Closed as soon as the rest is sent, and since when.
    """

    def __init__(
        self,
        answer: Answer,
        options: AcceptOptions,
        timers: Timers,
        now: Now,
        lost: Callable[["Stream"], None],
    ) -> None:
        """`lost` is told of every stream that closes, by whomever."""
        self.answer = answer
        self.options = options
        self.now = now
        self.counters = TcpCounters()
        self.questions_left = TURN_QUESTIONS
        self.epoll = select.epoll()
        self.quiet: OrderedDict[Stream, None] = OrderedDict()
        self.begun: dict[Stream, float] = {}
        self.stalled: dict[Stream, float] = {}
        self.closing: dict[Stream, float] = {}
        self.timers = timers
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._open: dict[int, Stream] = {}
        self._due: deque[Stream] = deque()
        self._turn_is_due = False
        self._watching = False
        self._loop.add_reader(self.epoll.fileno(), self.look)

    def look_by(self, look: Callable[[], None]) -> None:
        """Let `look` do what `Desk.look` does: what was compiled in its place."""
        self.look = look  # type: ignore[method-assign] # its twin, which `drain` calls as well
        self._loop.add_reader(self.epoll.fileno(), look)

    def look(self) -> None:
        """Let streams that have news read and write, `READY_MAX` at most."""
        if not self._turn_is_due:
            self.questions_left = TURN_QUESTIONS
        now_s, streams = self.now(), self._open
        for fd, events in self.epoll.poll(0, READY_MAX):
            stream = streams.get(fd)
            if stream is not None:  # not closed by one before it
                stream.ready(events, now_s)

    def close(self) -> None:
        """Look no more; every stream is closed."""
        if not self.epoll.closed:
            self._loop.remove_reader(self.epoll.fileno())
            self.epoll.close()

    def next_turn(self, stream: "Stream") -> None:
        """Call `stream.turn` in the next turn of the loop, or in one soon after."""
        self._due.append(stream)
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def opened(self, stream: "Stream") -> None:
        """Watch it from now on."""
        self._open[stream.fd] = stream
        self.quiet[stream] = None
        try:
            self.epoll.register(stream.fd, select.EPOLLIN)
        except OSError:  # no kernel memory, or over fs.epoll.max_user_watches
            self.counters.accept_errors += 1
            stream.abort()
        if not self._watching:
            self._watching = True
            self.timers.call_after(WATCH_S, self._watch)

    def has_stalled(self, stream: "Stream") -> None:
        """It has more unsent than it may; it reads no more until that is out."""
        if stream in self.stalled:
            return
        if len(self.stalled) >= STALLED_MAX:
            self.cut_off(next(iter(self.stalled)))
        self.stalled[stream] = self.now()

    def cut_off(self, stream: "Stream") -> None:
        """It does not take its answers: end it."""
        self.counters.closed_write += 1
        stream.abort()

    def lost(self, stream: "Stream") -> None:
        """It is about to close its descriptor."""
        del self._open[stream.fd]
        self.quiet.pop(stream, None)
        self.begun.pop(stream, None)
        self.stalled.pop(stream, None)
        self.closing.pop(stream, None)
        self._lost(stream)

    def _turn(self) -> None:
        self._turn_is_due = False
        self.questions_left = TURN_QUESTIONS
        now_s = self.now()
        for _ in range(len(self._due)):
            if self.questions_left <= 0:
                # Who had no turn stays in front of those that had one.
                if not self._turn_is_due:
                    self._turn_is_due = True
                    self._loop.call_soon(self._turn)
                break
            self._due.popleft().turn(now_s)

    def _watch(self) -> None:
        """Close whoever has had its time."""
        now_s, options = self.now(), self.options
        for stream in _since(self.begun, now_s - options.tcp_read_s):
            self.counters.closed_read += 1
            stream.abort()
        for stuck in (self.stalled, self.closing):
            for stream in _since(stuck, now_s - options.tcp_write_s):
                self.cut_off(stream)
        idle_since_s = now_s - options.tcp_idle_s
        patient_since_s = now_s - options.tcp_idle_s * PATIENCE
        for stream in list(takewhile(lambda stream: stream.quiet_since_s <= idle_since_s, self.quiet)):
            if not stream.outstanding or stream.quiet_since_s <= patient_since_s:
                self.counters.closed_idle += 1
                stream.abort()
        self._watching = bool(self.quiet or self.closing)
        if self._watching:
            self.timers.call_after(WATCH_S, self._watch)


def _since(queue: dict["Stream", float], then_s: float) -> list["Stream"]:
    """Return those that are in `queue`, oldest in front, since `then_s` or longer."""
    return list(takewhile(lambda stream: queue[stream] <= then_s, queue))
