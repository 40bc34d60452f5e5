"""How late the loop was, on both loops."""

import asyncio
import time

import pytest

from resolver.clock import Timers
from resolver.metrics import ProcessCounters
from resolver.status.turns import LoopTurns
from tests.support.jumping import JumpingClock


class Ticks(Timers):
    """Timers that tick when a test says so, as late as it says."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop(), time.monotonic)
        self._loop.close()

    def tick(self, late_s: float) -> None:
        assert self.on_tick is not None
        self.on_tick(late_s)


#        how late each tick was, longest, stalls
LATENESS = [
    pytest.param((0.0,), 0.0, 0, id="in time"),
    pytest.param((-0.001,), 0.0, 0, id="early by a tick of uvloop"),
    pytest.param((0.05,), 0.05, 0, id="late, and nobody noticed"),
    pytest.param((0.0, 0.25, 0.0), 0.25, 1, id="late"),
    pytest.param((0.3, 0.2), 0.3, 2, id="the longest counts"),
]


@pytest.mark.parametrize(("late_s", "longest_s", "stalls"), LATENESS)
def test_lateness(late_s: tuple[float, ...], longest_s: float, stalls: int) -> None:
    ticks, counters = Ticks(), ProcessCounters()
    LoopTurns(ticks, counters).start()
    for late in late_s:
        ticks.tick(late)
    assert counters.loop_longest_turn_s == longest_s
    assert counters.loop_stalls == stalls


def spin(seconds: float) -> None:
    """Hold the loop."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pass


@pytest.mark.parametrize("inside", [True, False], ids=["in a tick", "outside"])
async def test_a_turn_that_really_is_long(inside: bool) -> None:
    """Only what must hold on a busy machine: not less than it was."""
    counters = ProcessCounters()
    timers = Timers(asyncio.get_running_loop(), JumpingClock() if inside else time.monotonic)
    turns = LoopTurns(timers, counters)
    turns.start()
    ticked = asyncio.Event()
    if inside:
        timers.call_after(0.0, lambda: spin(0.15))
    timers.call_after(0.0, ticked.set)
    if not inside:
        spin(0.15)
    await ticked.wait()
    await asyncio.sleep(0)
    turns.close()
    assert counters.loop_longest_turn_s >= 0.13
    assert counters.loop_stalls == 1
    timers.close()


async def test_after_close_nothing_is_counted() -> None:
    counters = ProcessCounters()
    timers = Timers(asyncio.get_running_loop(), time.monotonic)
    turns = LoopTurns(timers, counters)
    turns.start()
    turns.close()
    ticked = asyncio.Event()
    timers.call_after(0.0, ticked.set)
    spin(0.15)
    await ticked.wait()
    assert counters.loop_stalls == 0
