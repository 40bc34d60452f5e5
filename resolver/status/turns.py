"""How long the loop's longest turn was, and how many were too long: the resolver_loop_* metrics.

A timer that is late was held up by the turn before it, or by a kernel that ran others: to a client it is the same.
Nothing wakes the loop for this: it looks at the ticks of `clock.Timers`, which come twice a second when nothing
else happens (the sweep), and every 10 ms while questions are under way. Two looks a second see every turn of more
than 0.5 s; of a shorter one they see a part, and only by chance. What is done in a tick itself they always see.
All is right to 2 ms: timers of uvloop are whole milliseconds, and epoll adds one.
"""

from resolver.clock import Timers
from resolver.metrics import ProcessCounters

STALL_S = 0.1
"""A client notices: twenty times what a turn may take."""


class LoopTurns:
    """Watches the loop's lateness from `start` to `close`."""

    def __init__(self, timers: Timers, counters: ProcessCounters) -> None:
        self._timers = timers
        self._counters = counters

    def start(self) -> None:
        """Look at every tick."""
        self._timers.on_tick = self._look

    def close(self) -> None:
        """Look no more."""
        self._timers.on_tick = None

    def _look(self, late_s: float) -> None:
        self._counters.loop_longest_turn_s = max(self._counters.loop_longest_turn_s, late_s)
        self._counters.loop_stalls += late_s >= STALL_S
