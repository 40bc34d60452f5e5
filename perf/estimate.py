"""How much longer a run takes: by what each workload was planned to take, and how long the finished ones took."""

import time
from collections.abc import Callable, Mapping

MINUTE_S = 60


class Estimate:
    """`planned_s` has the workloads in their order; `begin` is called for each of them."""

    def __init__(self, planned_s: Mapping[str, float], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._ahead = dict(planned_s)
        self._planned_s = self._taken_s = 0.0  # of those that are finished
        self._current_s, self._begun_s = 0.0, clock_s()

    def begin(self, name: str) -> None:
        """The one before it is finished."""
        self._planned_s += self._current_s
        self._taken_s += (self._clock_s() - self._begun_s) if self._current_s else 0.0
        self._current_s, self._begun_s = self._ahead.pop(name, 0.0), self._clock_s()

    def left_s(self) -> float:
        """Seconds until the last one is finished, at least 0."""
        pace = self._taken_s / self._planned_s if self._planned_s else 1.0
        current_s = self._current_s * pace - (self._clock_s() - self._begun_s if self._current_s else 0.0)
        return max(0.0, current_s) + pace * sum(self._ahead.values())

    @property
    def text(self) -> str:
        """As people read it."""
        left_s = self.left_s()
        return f"about {left_s / MINUTE_S:.0f} min left" if left_s >= MINUTE_S else "less than a minute left"
