"""Timers: told once, in order, by the clock that they were given, and no wake-up while nothing waits.

Longer than 300 lines because one clock has one set of promises.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.clock import QUEUES_MAX, TICK_S, Timers
from tests.support.jumping import JumpingClock


class Loop:
    """A loop in which nothing happens but what a test lets happen: `call_later` is written down."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Handle":
        handle = Handle(delay_s, callback)
        self.handles.append(handle)
        return handle

    def tick(self) -> None:
        """Let the tick come that has been asked for; the last one, as an earlier one was cancelled."""
        handle = self.handles.pop()
        assert not handle.cancelled
        assert all(other.cancelled for other in self.handles)
        self.handles.clear()
        handle.callback()

    @property
    def waits(self) -> bool:
        return any(not handle.cancelled for handle in self.handles)


class Handle:
    def __init__(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """Timers on a loop and a clock of the test's own; `told` is what was called, in order."""

    def __init__(self) -> None:
        loop: Any = Loop()  # no more of a loop than Timers needs
        self.loop: Loop = loop
        self.clock = Clock()
        self.timers = Timers(loop, self.clock)
        self.told: list[object] = []

    def after(self, delay_s: float, name: object) -> Any:
        return self.timers.call_after(delay_s, lambda: self.told.append(name))

    def jump(self, seconds: float) -> list[object]:
        """Go forward, tick, and return what was told."""
        self.clock.now_s += seconds
        self.told.clear()
        if self.loop.waits:
            self.loop.tick()
        return self.told[:]


def test_each_is_told_once_when_its_time_has_come() -> None:
    bench = Bench()
    bench.after(2, "b")
    bench.after(1, "a")
    assert bench.jump(0.99) == []
    assert bench.jump(0.01) == ["a"]
    assert bench.jump(0.5) == []
    assert bench.jump(60) == ["b"]
    assert bench.jump(60) == []


def test_one_jump_makes_everything_due_and_one_delay_keeps_its_order() -> None:
    bench = Bench()
    for number in range(5):
        bench.after(1, number)
        bench.clock.now_s += 0.1
    bench.after(30, "late")
    assert bench.jump(31) == [0, 1, 2, 3, 4, "late"]


@given(st.lists(st.tuples(st.sampled_from((0.01, 0.4, 1.0, 5.0, 60.0)), st.floats(0, 2)), max_size=40))
def test_nobody_is_early_and_nobody_is_more_than_a_tick_late(steps: list[tuple[float, float]]) -> None:
    bench = Bench()
    due: dict[int, float] = {}
    told: dict[int, float] = {}

    def expect(number: int, delay_s: float) -> None:
        due[number] = bench.clock.now_s + delay_s

        def tell() -> None:
            assert number not in told
            told[number] = bench.clock.now_s

        bench.timers.call_after(delay_s, tell)

    for number, (delay_s, then_s) in enumerate(steps):
        expect(number, delay_s)
        end_s = bench.clock.now_s + then_s
        while bench.loop.waits and bench.timers.wakes_s <= end_s:
            bench.clock.now_s = max(bench.clock.now_s, bench.timers.wakes_s)
            bench.loop.tick()
        bench.clock.now_s = end_s
    while bench.loop.waits:
        bench.clock.now_s = max(bench.clock.now_s, bench.timers.wakes_s)
        bench.loop.tick()
    assert told.keys() == due.keys()
    for number, due_s in due.items():
        assert due_s <= told[number] <= due_s + TICK_S


def test_an_earlier_one_brings_the_tick_forward() -> None:
    bench = Bench()
    bench.after(60, "late")
    assert bench.timers.wakes_s == 160
    bench.after(1, "soon")
    assert bench.timers.wakes_s == 101
    assert bench.jump(1) == ["soon"]
    assert bench.timers.wakes_s == 160


def test_by_the_real_clock_a_tick_is_as_far_off_as_it_can_be() -> None:
    import time

    loop: Any = Loop()
    timers = Timers(loop, time.monotonic)
    timers.call_after(60, lambda: None)
    (handle,) = loop.handles
    assert 59 < handle.delay_s <= 60
    timers.call_after(0, lambda: None)
    assert loop.handles[-1].delay_s == TICK_S


def test_while_nothing_waits_there_is_no_wake_up() -> None:
    bench = Bench()
    assert not bench.loop.waits
    bench.after(1, "a")
    bench.jump(1)
    assert not bench.loop.waits
    assert bench.timers.wakes_s == float("inf")


def test_what_is_cancelled_is_not_told_and_wakes_nobody_twice() -> None:
    bench = Bench()
    call = bench.after(1, "a")
    bench.after(1, "b")
    call.cancel()
    assert bench.jump(1) == ["b"]
    bench.after(1, "c").cancel()
    assert bench.jump(0.5) == []
    assert not bench.loop.waits  # a cancelled one at the front is dropped, due or not


def test_one_that_raises_does_not_stop_the_others() -> None:
    bench = Bench()

    def raises() -> None:
        raise ValueError("a bug")

    bench.timers.call_after(1, raises)
    bench.after(1, "same queue")
    bench.after(0.5, "another queue")
    bench.clock.now_s += 1
    with pytest.raises(ValueError, match="a bug"):
        bench.loop.tick()
    assert bench.loop.waits
    told = bench.told[:]
    assert sorted(map(str, told + bench.jump(0))) == ["another queue", "same queue"]


def test_from_within_one_more_can_be_asked_for() -> None:
    bench = Bench()

    def again() -> None:
        bench.told.append(bench.clock.now_s)
        bench.timers.call_after(1, again)

    bench.timers.call_after(1, again)
    assert [bench.jump(1), bench.jump(1), bench.jump(1)] == [[101.0], [102.0], [103.0]]
    assert bench.jump(10) == [113.0]  # a jump is no reason to catch up


@given(
    starts_s=st.lists(st.floats(0, 1e6), min_size=2, max_size=5),
    periods_s=st.lists(st.sampled_from([0.5, 1.0, 5.0]), min_size=1, max_size=3),
)
def test_beats_of_one_period_come_together_whenever_they_began(
    starts_s: list[float], periods_s: list[float]
) -> None:
    bench = Bench()
    due: dict[float, set[float]] = {}
    for start_s in sorted(starts_s):
        bench.clock.now_s = start_s
        for period_s in periods_s:
            bench.timers.call_on_beat(period_s, lambda: None)
            (due_s, _) = bench.timers._queues[-period_s][-1]
            assert due_s % period_s == 0
            assert period_s / 2 <= due_s - start_s <= period_s * 1.5
            due.setdefault(period_s, set()).add(due_s)
    for period_s, found_s in due.items():
        assert [due_s for due_s, _ in bench.timers._queues[-period_s]] == sorted(
            due_s for due_s, _ in bench.timers._queues[-period_s]
        )
        assert len(found_s) <= len(starts_s)


def test_two_that_beat_share_each_wake_up_and_do_not_drift() -> None:
    bench = Bench()
    bench.timers._jumps = False  # a clock that goes on by itself needs no look in between
    told: list[tuple[str, float]] = []

    def beating(name: str, period_s: float) -> None:
        def again() -> None:
            told.append((name, bench.clock.now_s))
            bench.timers.call_on_beat(period_s, again)

        bench.timers.call_on_beat(period_s, again)

    bench.clock.now_s = 100.3
    beating("half", 0.5)
    bench.clock.now_s = 100.4
    beating("one", 1.0)
    ticks = 0
    while bench.clock.now_s < 110:
        bench.clock.now_s += bench.loop.handles[-1].delay_s + 0.003  # as late as loops are
        bench.loop.tick()
        ticks += 1
    assert ticks == 19  # 101, 101.5 ... 110
    # The first was asked for while the clock stood: from then on each comes with the other.
    ones_s = [now_s for name, now_s in told if name == "one"][1:]
    assert ones_s == pytest.approx([102.003 + n for n in range(9)], abs=0.001)


def test_after_close_nothing_is_told() -> None:
    bench = Bench()
    bench.after(1, "a")
    bench.after(2, "b")
    bench.timers.close()
    assert not bench.loop.waits
    assert bench.jump(60) == []


def test_closing_from_within_ends_it_too() -> None:
    bench = Bench()
    bench.timers.call_after(1, bench.timers.close)
    bench.after(1, "a")
    bench.after(9, "b")
    assert bench.jump(60) == []
    assert not bench.loop.waits


def test_many_different_delays_do_not_leave_queues_behind() -> None:
    bench = Bench()
    lent = bench.timers.queue(0.4)
    for number in range(3 * QUEUES_MAX):
        bench.after(1 + number / 100, number)
    bench.jump(60)
    bench.after(1, "one more")
    bench.jump(60)
    assert len(bench.timers._queues) <= QUEUES_MAX
    assert bench.timers.queue(0.4) is lent


async def test_sleeping_by_a_clock_that_jumps() -> None:
    clock = JumpingClock()
    timers = Timers(asyncio.get_running_loop(), clock)
    sleeping = [asyncio.ensure_future(timers.sleep(delay_s)) for delay_s in (30, 3600)]
    await asyncio.sleep(0)
    clock.jump(31)
    await sleeping[0]
    assert not sleeping[1].done()
    sleeping[1].cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)
    clock.jump(3600)
    await timers.sleep(0.01)
    assert timers.wakes_s == float("inf")
    timers.close()


async def test_a_sleeper_that_is_cancelled_leaves_nothing_that_wakes() -> None:
    timers = Timers(asyncio.get_running_loop(), JumpingClock())
    sleeping = asyncio.ensure_future(timers.sleep(0.01))
    await asyncio.sleep(0)
    sleeping.cancel()
    await timers.sleep(0.02)
    assert sleeping.cancelled()
    timers.close()
