"""One question whose first try was not a clean answer: the task that owns the rest of it.

`forward.attempt` decides; this file sends, waits and tells it what happened. Every try that has not failed
stays open until the end: whoever answers first wins.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from resolver import logs
from resolver.errors import UpstreamError
from resolver.forward.attempt import TRY_S, Ask, Attempt, Fail, Use, Wait
from resolver.forward.exchange import Exchange
from resolver.forward.upstream import Upstream
from resolver.wire.answer import Refusal
from resolver.wire.edns import EDE_NO_REACHABLE_AUTHORITY, EDE_NOT_READY
from resolver.wire.header import SERVFAIL

if TYPE_CHECKING:  # the forwarder starts rescues; only the type leads back
    from resolver.forward.forwarder import Forwarder


class Rescue:
    """The rest of one flight. `run` ends with exactly one call of the forwarder's `finish`."""

    def __init__(self, forwarder: "Forwarder", key: bytes, flight: Any, attempt: Attempt[Upstream]) -> None:
        self._forwarder = forwarder
        self._key = key
        self._flight = flight
        self._attempt = attempt
        self._timers = forwarder.timers
        self._woken: asyncio.Future[None] | None = None
        self._open: set[Exchange] = set()
        self._streams: set[asyncio.Task[None]] = set()

    def answered(self, exchange: Exchange, packet: bytes, now_s: float) -> None:
        """A UDP try was answered."""
        self._open.discard(exchange)
        exchange.done = True
        if packet[2] & 0x02:
            exchange.upstream.counters.truncated += 1
        self._attempt.answered(exchange.upstream, False, exchange.plain, packet, now_s)
        self._wake()

    def refused(self, exchange: Exchange, reason: str, now_s: float) -> None:
        """A UDP try met a closed door."""
        self._open.discard(exchange)
        exchange.done = True
        self._attempt.failed(reason, now_s)
        self._wake()

    def silent(self, exchange: Exchange) -> None:
        """A UDP try got nothing in its time; it stays open."""
        self._attempt.silent(f"{exchange.upstream.label}: no answer over UDP")
        self._wake()

    def adopt(self, exchange: Exchange) -> None:
        """Take over a first try that is still open or has just ended."""
        exchange.rescue = self
        self._open.add(exchange)
        self._attempt.sent(False, exchange.sent_s)

    async def run(self) -> None:
        """Try until something is the answer or nothing more can be done."""
        forwarder = self._forwarder
        packet: bytes | None = None
        refusal: Refusal | None = Refusal(SERVFAIL, EDE_NO_REACHABLE_AUTHORITY, "internal error", "forward")
        try:
            while True:
                step = self._attempt.next_step(self._timers.now(), forwarder.heard_s)
                match step:
                    case Ask():
                        self._ask(step)
                    case Wait(until_s):
                        await self._wait(until_s)
                    case Use(packet):
                        refusal = None
                        break
                    case Fail(reason):
                        refusal = self._failure(reason)
                        break
        finally:
            for exchange in self._open:
                exchange.give_up()
            for task in self._streams:
                task.cancel()
            forwarder.finish(self._key, self._flight, packet, refusal)

    def _failure(self, reason: str) -> Refusal:
        if not self._forwarder.upstreams and not self._forwarder.fallback:
            return Refusal(SERVFAIL, EDE_NOT_READY, "no upstream is known yet", "forward")
        text = f"no upstream answered in time; last: {reason}"
        return Refusal(SERVFAIL, EDE_NO_REACHABLE_AUTHORITY, text, "forward")

    def _ask(self, step: Ask[Upstream]) -> None:
        now_s = self._timers.now()
        upstream = step.upstream
        self._attempt.sent(step.tcp or upstream.tls, now_s)
        if upstream in self._forwarder.fallback:
            self._forwarder.counters.fallbacks += 1
        if step.tcp or upstream.tls:
            task = asyncio.get_running_loop().create_task(self._ask_stream(step, now_s))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
            logs.held(task, f"question to {upstream.label} over a stream")
            return
        try:
            exchange = self._forwarder.send(upstream, self._key, now_s, plain=step.plain)
        except UpstreamError as error:
            self._forwarder.doubt(upstream)
            self._attempt.failed(str(error), now_s)
            return
        exchange.rescue = self
        self._open.add(exchange)
        self._timers.add(TRY_S, exchange, now_s)

    async def _ask_stream(self, step: Ask[Upstream], sent_s: float) -> None:
        upstream, forwarder = step.upstream, self._forwarder
        query = b"\0\0" + forwarder.query_body(self._key, step.plain)
        try:
            packet = await upstream.streams.ask(query, forwarder.options.read_timeout_s)
        except UpstreamError as error:
            forwarder.doubt(upstream)
            self._attempt.failed(str(error), self._timers.now())
        else:
            now_s = self._timers.now()
            upstream.counters.answered(packet[3] & 0x0F, now_s - sent_s)
            forwarder.heard_s = now_s
            upstream.heard(now_s)
            self._attempt.answered(upstream, True, step.plain, packet, now_s)
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _wait(self, until_s: float) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        # Delays are rounded up to the tick, so that the timers keep few queues.
        delay_s = max(0.01, round(until_s - self._timers.now() + 0.005, 2))
        call = self._timers.call_after(delay_s, self._wake)
        try:
            await self._woken
        finally:
            call.cancel()
            self._woken = None
