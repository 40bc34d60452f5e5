"""A clock for tests: it runs like the real one and jumps when told.

Give it to `clock.Timers` and to whatever takes `now`; after `jump(31)` everything that waits for up to 31
seconds is due at the next tick, without sleeping.
"""

import time


class JumpingClock:
    """Call it for seconds, like `time.monotonic`; it never goes backwards."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead_s

    def jump(self, seconds: float) -> None:
        """Go `seconds` forward at once. Raises ValueError for a step back: a monotonic clock has none."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self._ahead_s += seconds


class StandingClock(JumpingClock):
    """Stands still between jumps, so that no test depends on how long its own steps take; `go` ends that."""

    def __init__(self) -> None:
        super().__init__()
        self._standing_s: float | None = time.monotonic()

    def __call__(self) -> float:
        return self._ahead_s + (time.monotonic() if self._standing_s is None else self._standing_s)

    def go(self) -> None:
        """Run like the real one from now on."""
        self._standing_s = None
