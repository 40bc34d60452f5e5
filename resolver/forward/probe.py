"""Health checks of upstreams that are new or gave cause for doubt, and of no others (CoreDNS plugin/forward).

Every `health_check` interval one question, `. NS` unless the directive names another domain; any answer, whatever
its rcode, means that the upstream is there and ends the checks. The question goes the way that clients'
questions go: over TCP with `force_tcp`, over TLS for a TLS upstream, else over UDP.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from resolver import logs
from resolver.clock import Timers
from resolver.errors import UpstreamError
from resolver.forward.options import ForwardOptions
from resolver.forward.upstream import Upstream
from resolver.wire import names
from resolver.wire.header import HEADER, RD, TYPE_NS

if TYPE_CHECKING:  # only the type leads back to who owns the prober
    from resolver.forward.forwarder import Forwarder

CHECK_TIMEOUT_S = 1.0


class _Probe:
    """One UDP question, as `forward.udp` wants it."""

    __slots__ = ("asked", "ended")

    def __init__(self, asked: bytes, ended: "asyncio.Future[bool]") -> None:
        self.asked = asked
        self.ended = ended

    def answered(self, packet: bytes, now_s: float) -> None:
        self.end(True)

    def refused(self, reason: str, now_s: float) -> None:
        self.end(False)

    def end(self, answered: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(answered)


class Prober:
    """The checks of one directive: one task for each upstream in doubt."""

    def __init__(self, options: ForwardOptions, timers: Timers) -> None:
        self._options = options
        self._timers = timers
        self._tasks: dict[Upstream, asyncio.Task[None]] = {}
        domain = names.from_text(options.health_check_domain.lower())
        self._asked = domain + TYPE_NS.to_bytes(2, "big") + b"\0\1"
        flags = 0 if options.health_check_no_rec else RD
        self._header = HEADER.pack(0, flags, 1, 0, 0, 0)[2:]

    def watch(self, upstream: Upstream, forwarder: "Forwarder") -> None:
        """Check `upstream` until it answers, this way or a client's."""
        known = self._tasks.get(upstream)
        if known is not None and not known.done():
            return
        # A check may have ended in this very turn of the loop, with its callback still to come.
        task = self._tasks[upstream] = asyncio.get_running_loop().create_task(self._check(upstream, forwarder))
        task.add_done_callback(lambda ended: self._forget(upstream, ended))
        logs.held(task, f"health checks of {upstream.label}")

    def _forget(self, upstream: Upstream, ended: "asyncio.Task[None]") -> None:
        if self._tasks.get(upstream) is ended:
            del self._tasks[upstream]

    async def close(self) -> None:
        """Stop all checks."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self, upstream: Upstream, forwarder: "Forwarder") -> None:
        while upstream.doubted and upstream in (*forwarder.upstreams, *forwarder.fallback):
            if await self._answers(upstream):
                now_s = self._timers.now()
                forwarder.heard_s = now_s
                upstream.heard(now_s)
                return
            upstream.check_failed()
            await self._timers.sleep(self._options.health_check_s)

    async def _answers(self, upstream: Upstream) -> bool:
        stream = upstream.tls or self._options.force_tcp
        return await answers(upstream, self._header, self._asked, stream, CHECK_TIMEOUT_S, self._timers)


async def answers(
    upstream: Upstream, header: bytes, asked: bytes, stream: bool, timeout_s: float, timers: Timers
) -> bool:
    """Ask `upstream` one question, once, and tell whether any answer came within `timeout_s`.

    header  The query's ten bytes between ID and question.
    asked   The question section, its name in lower case.
    """
    if stream:
        try:
            await upstream.streams.ask(os.urandom(2) + header + asked, timeout_s)
        except UpstreamError:
            return False
        return True
    probe = _Probe(asked, asyncio.get_running_loop().create_future())
    try:
        port, query_id = upstream.udp.send(probe, header + asked, timers.now())
    except UpstreamError:
        return False
    timeout = timers.call_after(timeout_s, lambda: probe.end(False))
    try:
        return await probe.ended
    finally:
        timeout.cancel()
        port.forget(query_id)
