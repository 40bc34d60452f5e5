"""Find upstreams that lead back to us, and leave them out (the `loop` directive).

CoreDNS ends itself when it sees its own question again, and a node is without DNS until somebody edits a file
(kubespray#9948, kubernetes#93379). We know which upstream each question went to, so we drop that one, say so, and
go on with the others.

Each upstream is sent a HINFO question for a random name, again while it does not answer, for `GIVE_UP_S` at the
most. If that name comes in through one of our own listeners, the upstream is a loop.
"""

import asyncio
import os
from collections.abc import Callable

from resolver import logs
from resolver.clock import Timers
from resolver.forward.forwarder import Forwarder
from resolver.forward.probe import answers
from resolver.forward.upstream import Upstream
from resolver.wire import names
from resolver.wire.header import HEADER, RD

TYPE_HINFO = 13

TIMEOUT_S = 2.0
GIVE_UP_S = 30.0

_HEADER = HEADER.pack(0, RD, 1, 0, 0, 0)[2:]
_TYPE_AND_CLASS = TYPE_HINFO.to_bytes(2, "big") + b"\0\1"


class LoopWatch:
    """The loop checks of one server block."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._sought: dict[bytes, tuple[Upstream, Callable[[Upstream], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: list[Callable[[], None]] | None = []

    def begin(self) -> None:
        """Our listeners know this watch from now on: do the checks that were asked for before."""
        later, self._later = self._later or [], None
        for check in later:
            check()

    def check(self, forwarder: Forwarder, leave_out: Callable[[Upstream], None]) -> None:
        """Check all upstreams of `forwarder` in the background; called at start and after each swap.

        Before `begin` it waits: a question that came back would meet listeners that do not know it.

        leave_out  Called with an upstream that leads back to us; takes it out of the forwarder and closes it.
        """
        if self._later is not None:
            self._later.append(lambda: self.check(forwarder, leave_out))
            return
        for upstream in forwarder.upstreams:
            task = asyncio.get_running_loop().create_task(self._check(forwarder, upstream, leave_out))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            logs.held(task, f"loop check of {upstream.label}")

    def seen(self, name: bytes) -> bool:
        """A question of type HINFO for lower-case wire `name` came in: true if it is one of ours."""
        found = self._sought.pop(name, None)
        if found is None:
            return False
        upstream, leave_out = found
        logs.error(
            f"upstream {upstream.label} leads back to this resolver; it is left out. If it is a local stub such as "
            "127.0.0.53, forward to the servers that it asks itself (/run/systemd/resolve/resolv.conf)",
            plugin="loop",
        )
        leave_out(upstream)
        return True

    async def close(self) -> None:
        """Stop all checks."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self, forwarder: Forwarder, upstream: Upstream, leave_out: Callable[[Upstream], None]) -> None:
        zone = names.from_text(forwarder.options.from_zone.lower())
        label = os.urandom(8).hex().encode()
        name = bytes((len(label),)) + label + zone
        if len(name) > names.MAX_NAME_BYTES:
            return
        self._sought[name] = upstream, leave_out
        stream = upstream.tls or forwarder.options.force_tcp
        end_s = self._timers.now() + GIVE_UP_S
        try:
            while self._timers.now() < end_s and name in self._sought and upstream in forwarder.upstreams:
                if await answers(upstream, _HEADER, name + _TYPE_AND_CLASS, stream, TIMEOUT_S, self._timers):
                    return
                await self._timers.sleep(TIMEOUT_S)
        finally:
            self._sought.pop(name, None)
