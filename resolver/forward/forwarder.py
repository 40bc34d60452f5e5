"""One `forward` directive: which names it takes, its upstreams, and the way of a question through them.

What callers may rely on:

- `ask` never raises and never blocks; it ends with exactly one call of `landed(flight, packet, refusal, now_s)`,
  within `deadline_slow_s` or so: with a packet that matches the question, or with the refusal to send instead.
- The question sent is ours: RD and AD set, CD and DO from the key, lower case, our EDNS size, no options.
- Between `swap`s the set of upstreams stays; a flight that began before one ends with the old ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import random
from typing import Any

from resolver import logs
from resolver.clock import Timers
from resolver.errors import UpstreamError
from resolver.forward import choose
from resolver.forward.attempt import TRY_S, Attempt
from resolver.forward.exchange import Exchange
from resolver.forward.options import ForwardOptions
from resolver.forward.probe import Prober
from resolver.forward.rescue import Rescue
from resolver.forward.upstream import Upstream
from resolver.metrics import ForwardCounters
from resolver.wire import names
from resolver.wire.answer import Refusal
from resolver.wire.edns import EDE_NO_REACHABLE_AUTHORITY, EDE_PROHIBITED, PLAIN
from resolver.wire.header import AD, CD, NOERROR, NXDOMAIN, RD, REFUSED, SERVFAIL
from resolver.wire.question import CD_BIT, DO_BIT

Landed = Callable[[Any, bytes | None, Refusal | None, float], None]
"""Called with (flight, packet, refusal, now_s); one of packet and refusal is None."""

_ONE_QUESTION = b"\0\1\0\0\0\0"
_TAILS = tuple(
    ((RD | AD | (CD if bits & CD_BIT else 0)).to_bytes(2, "big") + _ONE_QUESTION + b"\0\1") for bits in range(4)
)
"""A query between its ID and its question, by the key's last byte; one additional record, the OPT."""

_OPTS = tuple(PLAIN[bool(bits & DO_BIT)] for bits in range(4))


class Forwarder:
    """Upstreams and fallback of one directive.

    following  The next directive of the block, for `next`.
    recovered  Called when an upstream answers for the first time, and for the first time after a failure.
    """

    def __init__(self, options: ForwardOptions, timers: Timers, counters: ForwardCounters, landed: Landed) -> None:
        self.options = options
        self.timers = timers
        self.counters = counters
        self.landed = landed
        self.following: Forwarder | None = None
        self.upstreams: tuple[Upstream, ...] = ()
        self.fallback: tuple[Upstream, ...] = ()
        self.up: list[Upstream] = []
        self.heard_s = 0.0
        self.active = 0
        self.recovered: Callable[[], None] = lambda: None
        self.clean = frozenset({NOERROR, NXDOMAIN}) - options.failover_rcodes - options.next_rcodes
        if options.next_on_nodata:
            self.clean -= {NOERROR}
        self._turn = 0
        self._tries = timers.queue(TRY_S)
        self._from = names.from_text(options.from_zone.lower())
        self._except = tuple(names.from_text(zone.lower()) for zone in options.except_zones)
        self.takes_all = self._from == names.ROOT and not self._except
        self._prober = Prober(options, timers)

    def covers(self, name: bytes) -> bool:
        """Tell whether lower-case wire `name` is under FROM and not under any `except`."""
        return names.is_below(name, self._from) and not any(names.is_below(name, zone) for zone in self._except)

    def swap(self, upstreams: Sequence[Upstream], fallback: Sequence[Upstream]) -> list[Upstream]:
        """Use these from now on; return those that are not used any more, for the caller to close."""
        before, after = {*self.upstreams, *self.fallback}, {*upstreams, *fallback}
        self.upstreams, self.fallback = tuple(upstreams), tuple(fallback)
        self.state_changed()
        for upstream in after - before:
            # Nobody has heard it yet. The first answer to its check is what makes us ready.
            upstream.doubted = True
            self._prober.watch(upstream, self)
        return list(before - after)

    def ask(self, key: bytes, tcp: bool, flight: Any, now_s: float) -> None:
        """Put the question `key` on the wire. `tcp`: the client that asks came over TCP."""
        options = self.options
        if options.max_concurrent and self.active >= options.max_concurrent:
            self.counters.max_concurrent_rejects += 1
            text = f"more than {options.max_concurrent} questions are waiting for upstream"
            self.landed(flight, None, Refusal(REFUSED, EDE_PROHIBITED, text, "forward"), now_s)
            return
        self.active += 1
        self._turn += 1
        tcp = options.force_tcp or (tcp and not options.prefer_udp)
        up = self.up
        if not up or tcp:
            self._ask_slowly(key, tcp, flight, now_s)
            return
        if len(up) == 1 or options.policy == "sequential":
            upstream = up[0]
        elif options.policy == "round_robin":
            upstream = up[self._turn % len(up)]
        else:
            upstream = up[int(random() * len(up))]
        if upstream.tls:
            self._ask_slowly(key, tcp, flight, now_s)
            return
        try:
            exchange = self.send(upstream, key, now_s)
        except UpstreamError as error:
            self.doubt(upstream)
            attempt = self._attempt(upstream, False, now_s)
            attempt.sent(False, now_s)
            attempt.failed(str(error), now_s)
            self._start(Rescue(self, key, flight, attempt))
            return
        exchange.flight = flight
        due_s = now_s + TRY_S
        self._tries.append((due_s, exchange))
        if due_s < self.timers.wakes_s:
            self.timers.arm(due_s)

    def send(self, upstream: Upstream, key: bytes, now_s: float, plain: bool = False) -> Exchange:
        """Send the question `key` to `upstream` over UDP. Raises UpstreamError if the kernel would not."""
        bits = key[-1]
        exchange = Exchange()
        exchange.asked = key[:-1]
        exchange.done = False
        exchange.flight = None
        exchange.forwarder = self
        exchange.key = key
        exchange.plain = plain
        exchange.rescue = None
        exchange.sent_s = now_s
        exchange.upstream = upstream
        body = self.query_body(key, True) if plain else _TAILS[bits] + exchange.asked + _OPTS[bits]
        exchange.port, exchange.query_id = upstream.udp.send(exchange, body, now_s)
        return exchange

    def query_body(self, key: bytes, plain: bool) -> bytes:
        """Return our query for `key`, without its ID; `plain`: without EDNS."""
        bits = key[-1]
        if plain:
            return _TAILS[bits][:-1] + b"\0" + key[:-1]
        return _TAILS[bits] + key[:-1] + _OPTS[bits]

    def rescue(self, exchange: Exchange, now_s: float) -> Rescue:
        """Hand a first try that was no clean answer to a task of its own."""
        attempt = self._attempt(exchange.upstream, False, exchange.sent_s)
        rescue = Rescue(self, exchange.key, exchange.flight, attempt)
        exchange.flight = None
        rescue.adopt(exchange)
        self._start(rescue)
        return rescue

    def finish(self, key: bytes, flight: Any, packet: bytes | None, refusal: Refusal | None) -> None:
        """A rescue has ended: land the flight, or give it to the next directive if `next` says so."""
        self.active -= 1
        now_s = self.timers.now()
        following = self.following
        while following is not None and not following.covers(key[:-5]):
            following = following.following
        if packet is not None and following is not None and self._goes_on(packet):
            following.ask(key, False, flight, now_s)
        else:
            self.landed(flight, packet, refusal, now_s)

    def doubt(self, upstream: Upstream) -> None:
        """An upstream did not answer: find out whether it is there at all."""
        if not upstream.doubted:
            upstream.doubted = True
            if self.options.max_fails:
                self._prober.watch(upstream, self)

    def state_changed(self) -> None:
        """An upstream went down or came up."""
        self.up = [upstream for upstream in self.upstreams if not upstream.down]

    def upstream_recovered(self) -> None:
        """An upstream answered for the first time, or again."""
        self.recovered()

    def sweep(self, now_s: float) -> None:
        """Close source ports that nothing uses; called every few seconds."""
        for upstream in (*self.upstreams, *self.fallback):
            upstream.udp.sweep(now_s)

    async def close(self) -> None:
        """Stop probing and close all sockets."""
        await self._prober.close()
        for upstream in (*self.upstreams, *self.fallback):
            await upstream.close()

    def _ask_slowly(self, key: bytes, tcp: bool, flight: Any, now_s: float) -> None:
        if not self.up and self.upstreams:
            self.counters.healthcheck_broken += 1
            if self.options.failfast:
                self.active -= 1
                text = "every upstream is down"
                refusal = Refusal(SERVFAIL, EDE_NO_REACHABLE_AUTHORITY, text, "forward")
                self.landed(flight, None, refusal, now_s)
                return
        self._start(Rescue(self, key, flight, self._attempt(None, tcp, now_s)))

    def _attempt(self, first: Upstream | None, tcp: bool, started_s: float) -> Attempt[Upstream]:
        order = choose.order(self.upstreams, self.options.policy, self._turn)
        if first is not None:
            order = [first, *(other for other in order if other is not first)]
        return Attempt(order, self.fallback, self.options, tcp, started_s, first_is_out=first is not None)

    def _start(self, rescue: Rescue) -> None:
        logs.held(asyncio.get_running_loop().create_task(rescue.run()), "rescue of a question")

    def _goes_on(self, packet: bytes) -> bool:
        rcode = packet[3] & 0x0F
        if rcode in self.options.next_rcodes:
            return True
        return self.options.next_on_nodata and rcode == NOERROR and packet[6:8] == b"\0\0"
