"""How long the loop's longest turn was: resolver_loop_longest_turn_seconds.

A timer that is late was held up by the turn before it. Four looks a second cost next to nothing and
see every turn that is long enough to hurt, though the shorter ones only by chance.
"""

import asyncio

from resolver.metrics import ProcessCounters

EVERY_S = 0.25


class LoopTurns:
    """Watches the loop's lateness from `start` to `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counters: ProcessCounters) -> None:
        self._loop = loop
        self._counters = counters
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look again and again."""
        due_s = self._loop.time() + EVERY_S
        self._next = self._loop.call_at(due_s, self._look, due_s)

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def _look(self, due_s: float) -> None:
        late_s = self._loop.time() - due_s
        self._counters.loop_longest_turn_s = max(self._counters.loop_longest_turn_s, late_s)
        self.start()
