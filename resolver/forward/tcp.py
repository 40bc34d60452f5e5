"""Questions to one upstream over TCP or TLS: a few lasting connections, each with many questions in flight.

What callers may rely on:

- `ask` returns a message with the caller's ID that matches the question, or raises a named UpstreamError, at
  latest after its `timeout_s`. It may be cancelled at any time; nothing is left behind.
- A question takes an idle connection, else a new one, else the one with the fewest questions in flight
  (RFC 7766 section 6.2.1.1). While a new one is silent for `connect.SECOND_S`, those that work are used.
- A question that gets no answer from a connection which says nothing else either makes it suspect: it takes no
  more questions, and its others are asked again, once, on another connection; either answer counts. So are
  those on a connection that the upstream closes. Idle connections that were silent for as long are closed.
- A new connection carries one question until it has answered, or `HOLD_S`. One that says nothing for `PROOF_S`
  while others work is not served by the upstream: its questions are asked on one that works as well, and no
  more are opened for a while.
- Bounds: connections, questions on one, failures in a row (`forward.learned`), questions that wait for a
  connection (`WAITING_MAX`). An idle connection is closed after `expire_s`, 10 s at most; one older than
  `max_age_s` takes no new question.

What is not here: which upstream to ask, and how often (`forward.attempt`).

A little over 300 lines, because the rest is one object with one life: what it decides is in `forward.streams` and
`forward.learned`, how it connects in `forward.connect`.
"""

import asyncio
import ssl
from functools import partial

from resolver import logs
from resolver.clock import Timers
from resolver.errors import UpstreamBusy, UpstreamClosed, UpstreamError, UpstreamTimeout
from resolver.forward.connect import SECOND_S, connect, start_protocol
from resolver.forward.stream import Ids, Place, Stream, StreamQuestion
from resolver.forward.streams import HOLD_S, Streams
from resolver.metrics import ConnCounts

IDLE_MAX_S = 10.0
"""Servers close idle connections after 10 s (CoreDNS) to 30 s (unbound); who closes first loses no question."""

WAITING_MAX = 4096
"""For a connection, 1 KiB each. A burst of new names on a node without a connection is this long at most."""

PROOF_S = 0.4

SUSPECT_AFTER_S = 0.5
"""A question that is given up after this, unanswered, speaks against its connection as much as a timeout."""

_WATCH_S = 0.5


class StreamPool:
    """All TCP, or all TLS, connections to one upstream address."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        server_name: str,
        source_address: str,
        timers: Timers,
        expire_s: float,
        max_age_s: float,
        max_idle_conns: int,
        counts: ConnCounts,
    ) -> None:
        """Open nothing yet.

        server_name     Checked against the certificate, and sent; empty: the address is checked.
        max_age_s       0: no limit.
        max_idle_conns  0: no limit but ours.
        counts          A question on a connection that had one before is a hit, the first one a miss.
        """
        self.label = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.timers = timers
        self.streams = Streams(min(expire_s, IDLE_MAX_S), max_age_s or float("inf"))
        self.waiting: dict[StreamQuestion, None] = {}
        self._address = (host, port)
        self._tls = tls
        self._server_name = server_name or host
        self._source_address = source_address
        self._max_idle_conns = max_idle_conns
        self.counts = counts
        self._protocol = "TCP" if tls is None else "TLS"
        self._loop = asyncio.get_running_loop()
        self._ids = Ids()
        self._connecting: set[asyncio.Task[None]] = set()
        self._last_error: UpstreamError = UpstreamError(f"{self.label}: no connection")
        self.closed = False
        self._all_lost: asyncio.Future[None] | None = None
        self._watching = False

    async def ask(self, query: bytes, timeout_s: float) -> bytes:
        """Return the answer to `query`, a whole message that we made, without the length in front.

        Raises UpstreamTimeout, UpstreamRefused, UpstreamClosed, UpstreamBusy, TlsFailed or UpstreamError itself.
        """
        if self.closed:
            raise UpstreamClosed(f"{self.label}: not in use any more")
        now_s = self.timers.now()
        question = StreamQuestion(self, query, self._loop.create_future())
        self.timers.add(timeout_s, question, now_s)
        self._place(question, now_s)
        try:
            return await question.answer
        except asyncio.CancelledError:
            self._gave_up(question)
            raise

    async def close(self) -> None:
        """Close all connections; questions that still wait raise UpstreamClosed."""
        self.closed = True
        tasks = list(self._connecting)
        for task in tasks:
            task.cancel()
        asked = {question for stream in self.streams.opened for question in stream.pending.values()}
        for question in (*self.waiting, *asked):
            question.failed(UpstreamClosed(f"{self.label}: not in use any more"))
        for stream in list(self.streams.opened):
            stream.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.streams.opened:
            self._all_lost = self._loop.create_future()
            await self._all_lost

    # What happens to questions

    def timed_out(self, question: StreamQuestion, now_s: float) -> None:
        """Its time is over."""
        silent = question.silent_places()
        where = "no answer" if question.places else "no connection"
        question.failed(UpstreamTimeout(f"{self.label}: {where} over {self._protocol} in time"))
        self._suspect(silent, now_s)

    def progressed(self, stream: Stream, first: bool, now_s: float) -> None:
        """Answers came; `first`: the first of its life among them."""
        if first:
            self.streams.learned.proven(stream.born_s)
        self._serve_waiting(now_s)
        if self._max_idle_conns and not stream.pending and len(self.streams.idle(now_s)) > self._max_idle_conns:
            stream.close()

    def lost(self, stream: Stream, by_us: bool) -> None:
        """A connection is closed. What was asked on it and nowhere else is asked again, once."""
        now_s = self.timers.now()
        self.streams.opened.discard(stream)
        if not self.streams.opened and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)
        orphans = list(stream.pending.values())
        stream.pending.clear()
        if not by_us:
            self._last_error = UpstreamClosed(f"{self.label}: closed the {self._protocol} connection")
            self.streams.learned.closed(stream.answers, len(orphans), now_s)
        for question in orphans:
            question.places = [place for place in question.places if place.stream is not stream]
            if question.places or question in self.waiting:
                continue
            if question.again or self.closed:
                question.failed(self._last_error)
            else:
                question.again = True
                self._place(question, now_s, on_new=True)
        # Nothing that waits is sent on the other connections now: the upstream may be closing them all.
        while len(self.waiting) > len(self._connecting) and self._may_connect(now_s):
            self._connect()
        if not self._connecting and not self.streams.opened:
            self._fail_waiting()

    def _gave_up(self, question: StreamQuestion) -> None:
        now_s = self.timers.now()
        late = [place for place in question.silent_places() if now_s - place.sent_s >= SUSPECT_AFTER_S]
        question.leave()
        self._suspect(late, now_s)

    def _suspect(self, silent: list[Place], now_s: float) -> None:
        """Leave these, and every other connection that has been silent for as long."""
        if not silent:
            return
        since_s = min(place.sent_s for place in silent)
        suspects = [place.stream for place in silent]
        suspects += [stream for stream in self.streams.opened if max(stream.heard_s, stream.born_s) < since_s]
        asked = {question: None for stream in suspects for question in stream.pending.values()}
        for stream in suspects:
            stream.retire()
        for question in asked:
            if not question.again:
                question.again = True
                self._place(question, now_s, on_new=True)

    def _unproven(self, stream: Stream) -> None:
        """A new connection has had time to give its first answer."""
        if stream.answers or stream.closed or not stream.pending:
            return
        now_s = self.timers.now()
        if self.streams.proven(now_s) is None:
            return
        self.streams.learned.failed(now_s)
        for question in list(stream.pending.values()):
            proven = self.streams.proven(now_s)
            if proven is not None and not question.again:
                question.again = True
                self._send(question, proven, now_s)

    # Which connection

    def _place(self, question: StreamQuestion, now_s: float, on_new: bool = False) -> None:
        """Send it, or let it wait for a connection, or fail it."""
        idle = [] if on_new else self.streams.idle(now_s)
        if idle:
            self._send(question, idle[0], now_s)
        elif self._may_connect(now_s):
            self.waiting[question] = None
            self._connect()
        elif stream := self.streams.busy(now_s):
            self._send(question, stream, now_s)
        elif len(self.waiting) >= WAITING_MAX:
            self._fail(question, UpstreamBusy(f"{self.label}: {WAITING_MAX} questions wait for a connection"))
        elif self._connecting or self.streams.may_free_a_place(now_s):
            self.waiting[question] = None
        else:
            self._fail(question, self._last_error)

    def _serve_waiting(self, now_s: float, stalled: bool = False) -> None:
        """Send what waits; `stalled`: do not wait for connections that are being opened."""
        if self.waiting:
            for stream in self.streams.idle(now_s)[: len(self.waiting)]:
                self._send(next(iter(self.waiting)), stream, now_s)
        while self.waiting and (stalled or not self._connecting):
            busy = self.streams.busy(now_s, len(self.waiting))
            if busy is None:
                break
            self._send(next(iter(self.waiting)), busy, now_s)

    def _fail_waiting(self) -> None:
        for question in list(self.waiting):
            self._fail(question, self._last_error)

    def _stalled(self) -> None:
        self._serve_waiting(self.timers.now(), stalled=True)

    def _hold_is_over(self) -> None:
        self._serve_waiting(self.timers.now())

    def _fail(self, question: StreamQuestion, error: UpstreamError) -> None:
        """Give up asking it (again); where it was asked before, the answer may still come."""
        if question.places:
            self.waiting.pop(question, None)
        else:
            question.failed(error)

    def _send(self, question: StreamQuestion, stream: Stream, now_s: float) -> None:
        self.waiting.pop(question, None)
        if stream.asked:
            self.counts.hits += 1
        else:
            self.counts.misses += 1
            self.timers.call_after(HOLD_S, self._hold_is_over)
            self.timers.call_after(PROOF_S, partial(self._unproven, stream))
        stream.send(question, now_s)
        if stream.asked >= self.streams.learned.questions_max(now_s):
            stream.retire()

    # Opening and closing

    def _may_connect(self, now_s: float) -> bool:
        return not self.closed and self.streams.may_connect(len(self._connecting), now_s)

    def _connect(self) -> None:
        task = self._loop.create_task(self._open())
        self._connecting.add(task)
        logs.held(task, f"connecting to {self.label}")

    async def _open(self) -> None:
        stall = self.timers.call_after(SECOND_S, self._stalled)
        stream = Stream(self, self._ids)
        failed = None
        try:
            sock = await connect(self._address, self._source_address, self.label, self.timers)
            await start_protocol(sock, lambda: stream, self._tls, self._server_name, self.label, self.timers)
        except UpstreamError as error:
            failed = error
        finally:
            stall.cancel()
            self._connecting.discard(asyncio.current_task())
        now_s = self.timers.now()
        if failed is not None:
            self._last_error = failed
            self.streams.learned.failed(now_s)
            self._serve_waiting(now_s, stalled=True)
            if not self._connecting and not self.streams.usable:
                self._fail_waiting()
            return
        if not self._watching:
            self._watching = True
            self.timers.call_after(_WATCH_S, self._watch)
        self._serve_waiting(now_s)

    def _watch(self) -> None:
        """Close what is idle or old."""
        now_s = self.timers.now()
        for stream in self.streams.outdated(now_s):
            stream.retire()
        self._watching = bool(self.streams.opened)
        if self._watching:
            self.timers.call_after(_WATCH_S, self._watch)
