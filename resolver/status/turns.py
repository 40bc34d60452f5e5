"""How long the loop's longest turn was, and how many were too long: the resolver_loop_* metrics.

A timer that is late was held up by the turn before it, or by a kernel that ran others: to a client it is the same.
Two looks a second cost next to nothing and see every turn of more than 0.5 s; of a shorter one they see a part,
and only by chance. On uvloop they see more: libuv reckons how long to sleep from the beginning of a turn, so
after a long turn the next timer is late by all of it, unless something else wakes the loop first. What is seen is
right to 2 ms: timers of uvloop are whole milliseconds, and epoll adds one.
"""

import asyncio
import time

from resolver.clock import Now
from resolver.metrics import ProcessCounters

EVERY_S = 0.5

STALL_S = 0.1
"""A client notices: twenty times what a turn may take."""


class LoopTurns:
    """Watches the loop's lateness from `start` to `close`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counters: ProcessCounters, now: Now = time.monotonic
    ) -> None:
        self._loop = loop
        self._counters = counters
        # Not the loop's own clock, which has whole milliseconds on uvloop.
        self._now = now
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look again and again."""
        self._next = self._loop.call_later(EVERY_S, self._look, self._now() + EVERY_S)

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def _look(self, due_s: float) -> None:
        late_s = self._now() - due_s
        self._counters.loop_longest_turn_s = max(self._counters.loop_longest_turn_s, late_s)
        self._counters.loop_stalls += late_s >= STALL_S
        self.start()
