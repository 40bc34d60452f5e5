"""The order of the stages for one server block, and the hand-over between them. Nothing else is decided here.

    admit → builtin → cache → collapse → forward        … and back:   lifetime → cache → reply, for each waiter

A pipeline belongs to a server block, is shared by its listeners, and owns no socket. `answer` returns the
bytes for the client, or None when a flight has the question; then `landed` sends them through the listener
that the client came by. A reload makes new pipelines; a flight keeps the one that it began with.

Longer than 300 lines because the way of a question is read from top to bottom in one file.

Counted with `sys.setprofile` (tests/test_call_budget.py): a stored answer may cost 10 Python calls, a miss 24.
"""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, NamedTuple, Protocol

from resolver.admit import check
from resolver.builtin import selfcheck
from resolver.cache import refresh
from resolver.cache.cache import BYTES_OF_A, Cache, key_of_a
from resolver.cache.entry import Entry, Kind
from resolver.cache.lifetime import decide
from resolver.clock import Timers
from resolver.collapse.flights import Flight, Flights, Waiter
from resolver.errors import Malformed
from resolver.forward.forwarder import Forwarder
from resolver.forward.loops import TYPE_HINFO, LoopWatch
from resolver.metrics import CacheCounters
from resolver.reply import failures
from resolver.reply.fit import STREAM_BYTES, Fit, fit
from resolver.reply.rotate import Ring, Rotation
from resolver.report.series import ListenerLabels, SeriesTable
from resolver.wire.answer import Refusal
from resolver.wire.edns import (
    EDE_CACHED_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_NOT_READY,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    PLAIN,
    opt_record,
)  # fmt: skip
from resolver.wire.header import (
    AA,
    CLASS_CH,
    CLASS_IN,
    HEADER_BYTES,
    NXDOMAIN,
    QR,
    RCODE_MASK,
    RD,
    SERVFAIL,
    TYPE_A,
    TYPE_AAAA,
)
from resolver.wire.question import Question
from resolver.wire.ttls import Scan, clamp_ttls, scan

KIND_LABELS = ("success", "denial", "failure")
OPT_BYTES = len(PLAIN[0])
SERVED_PER_TURN = 128
"""Waiters of one flight that are answered in one loop turn: 128 x 15 us is 2 ms."""

MADE_FAILURE_S = 1.0
"""How long a failure that we made (timeout, unreachable) is kept; an upstream that comes back ends it sooner."""

_NO_FORWARD = Refusal(SERVFAIL, EDE_NOT_READY, "no forward directive covers this name")
_NO_SEAT = Refusal(SERVFAIL, EDE_NO_REACHABLE_AUTHORITY, "too many questions wait for upstream")
_BAD_ANSWER = Refusal(SERVFAIL, EDE_NO_REACHABLE_AUTHORITY, "the upstream's answer is malformed", "forward")


class Listener(Protocol):
    """What a pipeline may know of the socket that a question came by."""

    labels: ListenerLabels
    max_bytes: int
    packets: Any  # its packet cache: accept is above this layer

    def client_host(self, client: object) -> object:
        """What one client's share of the packet cache is counted by."""

    def send(self, response: bytes, client: object) -> None:
        """Send a late answer. Never raises."""


class Route(NamedTuple):
    """One zone of one listener: its labels, and who answers for it."""

    zone: str
    view: str
    pipeline: "Pipeline"
    counters: CacheCounters


class QueryLog(Protocol):
    """Who is told of every answer, one by one (`report.querylog`)."""

    def answered(
        self, listener: Any, client: object, question: Question, response: bytes, duration_s: float
    ) -> None:
        """An answer went out."""


class ErrorLog(Protocol):
    """Who is told of every question that no upstream would answer (`report.errorlog`)."""

    def failed(self, question: Question, refusal: Refusal) -> None:
        """No upstream could be made to answer."""


class Pipeline:
    """All stages of one server block."""

    def __init__(
        self,
        cache: Cache | None,
        flights: Flights,
        series: SeriesTable,
        timers: Timers,
        query_log: QueryLog | None = None,
        error_log: ErrorLog | None = None,
        loops: LoopWatch | None = None,
        rotation: Rotation | None = None,
        scan: Callable[[bytes, int], Scan] = scan,
        fit: Fit = fit,
    ) -> None:
        """Put the stages together. A query log sees each answer, so with one none comes from a rendering.

        scan, fit  In Python unless the compiled ones of `accept.codec` are given.
        """
        self.cache = cache
        self.flights = flights
        self.forwarders: tuple[Forwarder, ...] = ()
        self.forwarder: Forwarder | None = None
        self.series = series
        self.timers = timers
        self.query_log = query_log
        self.error_log = error_log
        self.loops = loops
        self.rotation = rotation
        self._scan = scan
        self._fit = fit

    def use(self, forwarders: Sequence[Forwarder]) -> None:
        """Forward by these; they call `landed`, so they are made after the pipeline."""
        self.forwarders = tuple(forwarders)
        # The usual block forwards everything one way; then nobody needs to look.
        self.forwarder = forwarders[0] if forwarders and forwarders[0].takes_all else None

    def answer(self, question: Question, client: Any, listener: Any, route: Route, now_s: float) -> bytes | None:
        """Return the answer to `question`, or None when a flight has it. Never raises."""
        key, _, qtype, qclass, _, flags, *_ = question
        if qclass != CLASS_IN or qtype in check.SPECIAL_TYPES:
            special = self._special(question, listener, route, now_s)
            if special is not None:
                return special
        cache = self.cache
        entry = None
        if cache is not None and (not cache.zones or cache.covers(key[:-5])):
            entry = cache.find(key, now_s)
            if entry is not None and now_s < entry.expires_s:
                life = entry.life
                life.uses = life.uses + 1 if now_s - life.used_s <= life.gap_s else 1
                life.used_s = now_s
                if now_s >= life.until_s and refresh.wants_prefetch(entry, now_s, cache.options):
                    life.until_s = entry.expires_s
                    self._prefetch(question, entry, route, now_s)
                return self._hit(question, client, listener, route, entry, now_s)
        if not flags & RD:
            return self.refuse(question, client, listener, route, check.NOT_RECURSIVE, now_s)
        if entry is not None and cache is not None and refresh.goes_at_once(entry, now_s, cache.options):
            return self._stale_at_once(question, client, listener, route, entry, now_s)
        route.counters.requests += 1
        route.counters.misses += 1
        waiter: Waiter = tuple.__new__(Waiter, (listener, client, question, route, now_s))
        return self._wait(waiter, entry, now_s)

    def refuse(
        self,
        question: Question,
        client: object,
        listener: Listener,
        route: Route,
        refusal: Refusal,
        now_s: float,
    ) -> bytes:
        """Return the answer that says `refusal`, counted."""
        response = failures.refuse(question, refusal)
        self._note(Waiter(listener, client, question, route, now_s), response, refusal.source, now_s)
        return response

    def landed(self, flight: Flight, packet: bytes | None, refusal: Refusal | None, now_s: float) -> None:
        """A flight has ended, with a packet that answers its question or with the refusal to send."""
        key = flight.key
        self.flights.land(flight)
        waiters, flight.waiters = flight.waiters, []
        stale = flight.stale
        found: Scan | None = None
        if packet is not None:
            try:
                found = self._scan(packet, 11 + len(key))
            except Malformed:
                refusal = _BAD_ANSWER
            else:
                if found.rcode > 15:
                    refusal = _BAD_ANSWER
        if refusal is not None or found is None:
            self._failed(flight, waiters, refusal or _BAD_ANSWER, now_s)
            return
        cache = self.cache
        if cache is not None and cache.zones and not cache.covers(key[:-5]):
            cache = None
        if cache is not None:
            lifetime = decide(found, flight.question.qtype, cache.options)
            if stale is not None and refresh.prefers_stale(stale, lifetime, now_s, cache.options):
                self._serve_stale(waiters, stale, now_s)
                return
        if flight.paired and found.rcode != NXDOMAIN:
            waiters = self._part(waiters, key, now_s)
        packet = found.packet
        if cache is not None:
            packet = cache.put(key, found, lifetime, now_s).packet
        self._serve(waiters, packet, found.flags & AA, now_s)

    def stale_is_due(self, flight: Flight, now_s: float) -> None:
        """The upstream had its time first: who waits gets the old answer, and the flight goes on."""
        if flight.stale is None or now_s >= flight.stale.expires_s + self._stale_s():
            return
        waiters, flight.waiters = flight.waiters, []
        self._serve_stale(waiters, flight.stale, now_s)

    def _hit(
        self, question: Question, client: Any, listener: Any, route: Route, entry: Entry, now_s: float
    ) -> bytes:
        elapsed_s = int(now_s - entry.stored_s)
        # `keepttl`: no TTL counts down while the answer is fresh.
        ttl_offsets = () if self.cache is not None and self.cache.options.keepttl else entry.ttl_offsets
        kind = entry.kind
        opt = None
        if kind == Kind.FAILURE and question.edns_size:
            opt = opt_record(do=question.do, ede_code=EDE_CACHED_ERROR, ede_text="a failure of a moment ago")
        packet = entry.packet
        ring = None
        if self.rotation is not None:
            ring = self.rotation.ring(packet, HEADER_BYTES + len(question.asked))
            if ring is not None:
                packet, turned = ring.turn(0)
                ttl_offsets = turned if ttl_offsets else ()
        response = self._fit(question, packet, ttl_offsets, elapsed_s, entry.floor_s, listener.max_bytes, 0, opt)
        series = self.series.count(
            listener.labels, route.zone, route.view, question.qtype, entry.rcode, question.do, "cache",
            question.size_bytes, len(response), 0.0, KIND_LABELS[kind],
        )  # fmt: skip
        if self.query_log is not None:
            self.query_log.answered(listener, client, question, response, 0.0)
        if (
            question.packet_key is not None
            and self.query_log is None
            and opt is None
            and now_s < entry.life.until_s
            and len(response) == len(entry.packet) + (OPT_BYTES if question.edns_size else 0)
        ):
            aged_s = elapsed_s + round(entry.stored_s - entry.life.stored_s)
            listener.packets.keep(
                question.packet_key, response, listener.client_host(client), ttl_offsets, aged_s, entry.floor_s,
                entry.life, series,
                () if ring is None else _others(question, ring, ttl_offsets, elapsed_s, entry.floor_s),
            )  # fmt: skip
        return response

    def _special(self, question: Question, listener: Listener, route: Route, now_s: float) -> bytes | None:
        """Answer what no cache and no upstream is asked; None if it is an ordinary question after all."""
        if question.qclass == CLASS_CH:
            own = selfcheck.answer(question)
            if own is not None:
                return self._fit(question, own.packet, (), 0, 0, listener.max_bytes, AA)
        refusal = check.check(question.qtype, question.qclass)
        if question.qtype == TYPE_HINFO and self.loops is not None and self.loops.seen(question.name):
            refusal = check.OUR_OWN
        if refusal is None:
            return None
        dropped = route._replace(zone=check.NO_ZONE_LABEL) if question.qclass != CLASS_IN else route
        return self.refuse(question, None, listener, dropped, refusal, now_s)

    def _forwarder(self, name: bytes) -> Forwarder | None:
        return next((forwarder for forwarder in self.forwarders if forwarder.covers(name)), None)

    def _wait(self, waiter: Waiter, entry: Entry | None, now_s: float) -> bytes | None:
        """Have the question of `waiter` asked upstream, or wait with those for whom it is asked already.

        entry  What is known and too old. Returns the answer if there is no place to wait.
        """
        listener, client, question, route, _ = waiter
        key = question.key
        flights = self.flights
        flight = flights.by_key.get(key)
        if flight is not None:
            if entry is not None:
                self._keep_in_hand(entry, flight, now_s)
            flights.join(flight, waiter)
            return None
        cache = self.cache
        if question.qtype == TYPE_AAAA and cache is not None:
            # libc asks for A and AAAA at once, through a search list, for names that mostly do not exist. Where A's
            # last answer was that, its next one most likely is, and says it for AAAA as well (decision 0010).
            of_a = key_of_a(key)
            flight = flights.by_key.get(of_a)
            if (
                flight is not None
                and (entry is None or flight.stale is not None)  # nobody gives up an old answer by waiting
                and cache.last_said_nxdomain(of_a)
                and key not in cache.success.entries
            ):
                flight.paired = True
                flights.join(flight, waiter)
                return None
        forwarder = self.forwarder if self.forwarder is not None else self._forwarder(key[:-5])
        if forwarder is None:
            return self.refuse(question, client, listener, route, _NO_FORWARD, now_s)
        flight = flights.start(question, [waiter], listener.client_host(client))
        if flight is None:
            if entry is not None:
                return self._stale_response(waiter, entry, now_s)
            return self.refuse(question, client, listener, route, _NO_SEAT, now_s)
        if entry is not None:
            self._keep_in_hand(entry, flight, now_s)
        forwarder.ask(key, listener.max_bytes == STREAM_BYTES, flight, now_s)
        return None

    def _part(self, waiters: list[Waiter], key: bytes, now_s: float) -> list[Waiter]:
        """Return those of `waiters` who asked `key`. The name exists after all: AAAA is a question of its own."""
        for waiter in waiters:
            if waiter.question.key != key:
                response = self._wait(waiter, None, now_s)
                if response is not None:
                    waiter.listener.send(response, waiter.client)
        return [waiter for waiter in waiters if waiter.question.key == key]

    def _keep_in_hand(self, entry: Entry, flight: Flight, now_s: float) -> None:
        """Have the old answer ready for all who wait, should the flight come to nothing or too late."""
        if flight.stale is not None or self.cache is None:
            return
        flight.stale = entry
        timeout_s = self.cache.options.stale_verify_timeout_s
        if timeout_s is not None:
            self.timers.add(timeout_s, _StaleTimer(self, flight), now_s)

    def _refresh(self, question: Question, now_s: float, stale: Entry | None = None) -> bool:
        """Start a flight that nobody waits for; false if one is in the air already or none may start.

        stale  What is already out of date: a failure does not displace it, and is not tried again at once.
        """
        forwarder = self._forwarder(question.name)
        if forwarder is None or question.key in self.flights.by_key:
            return False
        flight = self.flights.start(question, [])
        if flight is None:
            return False
        flight.stale = stale
        forwarder.ask(question.key, False, flight, now_s)
        return True

    def _prefetch(self, question: Question, entry: Entry, route: Route, now_s: float) -> None:
        type_at = HEADER_BYTES + len(question.key) - 5
        if question.qtype == TYPE_AAAA and entry.packet[type_at : type_at + 2] == BYTES_OF_A:
            # The denial of A answered for AAAA: it is that one which grows old.
            asked = question.asked[:-4] + BYTES_OF_A + question.asked[-2:]
            question = question._replace(key=key_of_a(question.key), asked=asked, qtype=TYPE_A)
        if self._refresh(question, now_s):
            route.counters.prefetches += 1

    def _stale_s(self) -> float:
        return self.cache.options.stale_s if self.cache is not None else 0.0

    def _stale_at_once(
        self, question: Question, client: Any, listener: Any, route: Route, entry: Entry, now_s: float
    ) -> bytes:
        """Answer with what is old, and ask for what is new unless that was tried a moment ago."""
        if now_s >= entry.life.recheck_s:
            self._refresh(question, now_s, entry)
        waiter = Waiter(listener, client, question, route, now_s)
        return self._stale_response(waiter, entry, now_s)

    def _stale_response(self, waiter: Waiter, entry: Entry, now_s: float) -> bytes:
        """Return the old answer with the TTL of RFC 8767 and the extended error that says what it is."""
        options = self.cache.options if self.cache is not None else None
        listener, _, question, route, _ = waiter
        packet = entry.packet
        if options is not None:
            packet = clamp_ttls(packet, entry.ttl_offsets, 1, options.stale_answer_ttl_s)
        if self.rotation is not None:
            ring = self.rotation.ring(packet, HEADER_BYTES + len(question.asked))
            packet = packet if ring is None else ring.turn(0).packet
        code = EDE_STALE_NXDOMAIN if entry.rcode == NXDOMAIN else EDE_STALE
        opt = opt_record(do=question.do, ede_code=code, ede_text="the upstream did not answer in time")
        response = self._fit(question, packet, (), 0, 0, listener.max_bytes, 0, opt)
        route.counters.served_stale += 1
        self._note(waiter, response, "cache", now_s, KIND_LABELS[entry.kind])
        return response

    def _serve_stale(self, waiters: list[Waiter], entry: Entry, now_s: float) -> None:
        """Give all of `waiters` the old answer; for a while, the next askers get it at once."""
        if self.cache is not None:
            entry.life.recheck_s = now_s + self.cache.options.stale_recheck_s

        def respond(waiter: Waiter, now_s: float) -> bytes:
            # Asking was counted as a miss; in the end it was the cache that answered. The series count it as
            # a hit, which the scrape adds to the requests: this question is one.
            waiter.route.counters.requests -= 1
            return self._stale_response(waiter, entry, now_s)

        self._deliver(waiters, respond, now_s)

    def _failed(self, flight: Flight, waiters: list[Waiter], refusal: Refusal, now_s: float) -> None:
        if self.error_log is not None:
            self.error_log.failed(flight.question, refusal)
        cache = self.cache
        if flight.stale is not None and now_s < flight.stale.expires_s + self._stale_s():
            self._serve_stale(waiters, flight.stale, now_s)
            return
        if cache is not None and refusal.rcode == SERVFAIL and cache.options.servfail_s:
            header = b"\0\0" + (QR | SERVFAIL).to_bytes(2, "big") + b"\0\1\0\0\0\0\0\0"
            cache.keep_failure(flight.key, header + flight.key[:-1], MADE_FAILURE_S, now_s)

        def respond(waiter: Waiter, now_s: float) -> bytes:
            response = failures.refuse(waiter.question, refusal)
            self._note(waiter, response, refusal.source, now_s)
            return response

        self._deliver(waiters, respond, now_s)

    def _deliver(self, waiters: list[Waiter], respond: Callable[[Waiter, float], bytes], now_s: float) -> None:
        """Send each waiter what `respond` makes for it; many waiters are served over several loop turns."""
        for waiter in waiters[:SERVED_PER_TURN]:
            waiter.listener.send(respond(waiter, now_s), waiter.client)
        rest = waiters[SERVED_PER_TURN:]
        if rest:
            self.timers.call_soon(lambda: self._deliver(rest, respond, self.timers.now()))

    def _note(self, waiter: Waiter, response: bytes, plugin: str, now_s: float, kind: str = "") -> None:
        """Count one answer and log it; what answers most questions has this written out."""
        listener, client, question, route, started_s = waiter
        self.series.count(
            listener.labels, route.zone, route.view, question.qtype, response[3] & RCODE_MASK, question.do, plugin,
            question.size_bytes, len(response), now_s - started_s, kind,
        )  # fmt: skip
        if self.query_log is not None:
            self.query_log.answered(listener, client, question, response, now_s - started_s)

    def _serve(self, waiters: list[Waiter], packet: bytes, authoritative: int, now_s: float) -> None:
        """`_deliver` for a fresh answer, two Python calls shorter: every miss comes here."""
        rcode = packet[3] & 0x0F
        orders = None
        if self.rotation is not None and waiters:
            ring = self.rotation.ring(packet, HEADER_BYTES + len(waiters[0].question.asked))
            if ring is not None:
                orders = cycle([ring.turn(number).packet for number in range(min(ring.turns, len(waiters)))])
        for waiter in waiters[:SERVED_PER_TURN]:
            listener, client, question, route, started_s = waiter
            if orders is not None:
                packet = next(orders)
            response = self._fit(question, packet, (), 0, 0, listener.max_bytes, authoritative)
            self.series.count(
                listener.labels, route.zone, route.view, question.qtype, rcode, question.do, "forward",
                question.size_bytes, len(response), now_s - started_s,
            )  # fmt: skip
            if self.query_log is not None:
                self.query_log.answered(listener, client, question, response, now_s - started_s)
            listener.send(response, client)
        if len(waiters) > SERVED_PER_TURN:
            rest = waiters[SERVED_PER_TURN:]
            self.timers.call_soon(lambda: self._serve(rest, packet, authoritative, self.timers.now()))


def _others(
    question: Question, ring: Ring, ttl_offsets: tuple[int, ...], elapsed_s: int, floor_s: int
) -> list[tuple[bytes, tuple[int, ...]]]:
    """Return the answers that take turns with turn 0 of `ring`, whole; without `ttl_offsets` none of them ages."""
    others = []
    for number in range(1, ring.turns):
        packet, turned = ring.turn(number)
        offsets = turned if ttl_offsets else ()
        others.append((fit(question, packet, offsets, elapsed_s, floor_s, STREAM_BYTES), offsets))
    return others


class _StaleTimer:
    """`serve_stale verify TIMEOUT`: wakes the pipeline unless the flight has landed by then."""

    __slots__ = ("_flight", "_pipeline")

    def __init__(self, pipeline: Pipeline, flight: Flight) -> None:
        self._pipeline = pipeline
        self._flight = flight

    @property
    def done(self) -> bool:
        return self._flight.done

    def expire(self, now_s: float) -> None:
        self._pipeline.stale_is_due(self._flight, now_s)
