"""How late the loop was, on both loops."""

import asyncio
import time

import pytest

from resolver.metrics import ProcessCounters
from resolver.status.turns import EVERY_S, LoopTurns


class Clock:
    """Says these readings, the last one for ever; `read_all` is set once it has come to that one."""

    def __init__(self, *readings_s: float) -> None:
        self._readings_s = list(readings_s)
        self.read_all = asyncio.Event()

    def __call__(self) -> float:
        if len(self._readings_s) > 1:
            return self._readings_s.pop(0)
        self.read_all.set()
        return self._readings_s[0]


#        readings (at start; then at each look, and after it), longest, stalls
LATENESS = [
    pytest.param((5.0, 5.0 + EVERY_S, 6.0), 0.0, 0, id="in time"),
    pytest.param((5.0, 5.0 + EVERY_S - 0.001, 6.0), 0.0, 0, id="early by a tick of uvloop"),
    pytest.param((5.0, 5.0 + EVERY_S + 0.05, 6.0), 0.05, 0, id="late, and nobody noticed"),
    pytest.param((5.0, 5.0 + EVERY_S + 0.25, 6.0), 0.25, 1, id="late"),
    pytest.param((5.0, 5.3 + EVERY_S, 6.0, 6.2 + EVERY_S, 7.0), 0.3, 2, id="the longest counts"),
]


@pytest.mark.parametrize(("readings_s", "longest_s", "stalls"), LATENESS)
async def test_lateness(readings_s: tuple[float, ...], longest_s: float, stalls: int) -> None:
    counters = ProcessCounters()
    clock = Clock(*readings_s)
    turns = LoopTurns(asyncio.get_running_loop(), counters, clock)
    turns.start()
    await clock.read_all.wait()
    turns.close()
    assert counters.loop_longest_turn_s == pytest.approx(longest_s)
    assert counters.loop_stalls == stalls


async def test_a_turn_that_really_is_long() -> None:
    """Only what must hold on a busy machine: not less than it was."""
    counters = ProcessCounters()
    looked = asyncio.Event()

    def now() -> float:
        looked.set()
        return time.monotonic()

    turns = LoopTurns(asyncio.get_running_loop(), counters, now)
    turns.start()
    until_s = time.monotonic() + EVERY_S + 0.05
    while time.monotonic() < until_s:
        pass  # a turn of 150 ms
    looked.clear()
    await looked.wait()
    turns.close()
    assert counters.loop_longest_turn_s >= 0.049
