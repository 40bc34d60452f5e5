"""Time as a value, and timers that obey it.

Pure code takes `now_s` as an argument. What must wake up later asks `Timers`, which reads the one
clock it was given: a test that makes that clock jump makes every timer jump with it, without sleeping.

Timers are coarse (10 ms) and cheap: entries with the same delay wait in one queue, in order, so one
tick looks only at the front of each queue. A tick comes when the first of them is due, not before.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

Now = Callable[[], float]
"""A monotonic clock, in seconds. `time.monotonic` in production."""

TICK_S = 0.01

QUEUES_MAX = 256
"""Empty queues are dropped beyond this number; delays are constants, or rounded to the tick."""

_NEVER_S = float("inf")


class Expiring(Protocol):
    """What waits in a queue: told once, unless `done` is true by then."""

    @property
    def done(self) -> bool:
        """True when nobody waits for it any more."""

    def expire(self, now_s: float) -> None:
        """The delay has passed."""


class _Call:
    """A callback as an `Expiring`."""

    __slots__ = ("callback", "done")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.done = False

    def expire(self, now_s: float) -> None:
        self.done = True
        self.callback()

    def cancel(self) -> None:
        self.done = True


class Timers:
    """All that this process waits for, by the clock that it was given.

    wakes_s  When the next tick is due; never, while nothing waits.
    on_tick  Called at the end of each tick with the seconds, by the real clock, since it was due: how late the loop
             was for it, and what was done in it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Now) -> None:
        self.now = now
        self.wakes_s = _NEVER_S
        self.on_tick: Callable[[float], None] | None = None
        self._loop = loop
        # A clock of a test may jump at any moment, so it is looked at on every tick.
        self._jumps = now is not time.monotonic
        self._queues: dict[float, deque[tuple[float, Expiring]]] = {}
        self._lent: set[float] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0

    def queue(self, delay_s: float) -> deque[tuple[float, Expiring]]:
        """Return the queue of all that waits for `delay_s`, as (when due, item), soonest first.

        For who adds one item for each packet: append to it, and call `arm` if the item is due before `wakes_s`.
        """
        self._lent.add(delay_s)
        return self._queues.setdefault(delay_s, deque())

    def add(self, delay_s: float, item: Expiring, now_s: float) -> None:
        """Call `item.expire` once `delay_s` has passed since `now_s`, unless `item.done` by then.

        Delays should come from a small set of constants: each one is a queue of its own.
        """
        due_s = now_s + delay_s
        queue = self._queues.get(delay_s)
        if queue is None:
            queue = self._queues[delay_s] = deque()
        queue.append((due_s, item))
        if due_s < self.wakes_s:
            self.arm(due_s)

    def arm(self, due_s: float) -> None:
        """Tick at `due_s` at the latest."""
        if self._ticking is not None:
            self._ticking.cancel()
        self.wakes_s = due_s
        wait_s = TICK_S if self._jumps else max(TICK_S, due_s - self.now())
        self._tick_due_s = time.monotonic() + wait_s
        self._ticking = self._loop.call_later(wait_s, self._tick)

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> _Call:
        """Call `callback` after `delay_s`; the value returned has `cancel()`."""
        call = _Call(callback)
        self.add(delay_s, call, self.now())
        return call

    def call_on_beat(self, period_s: float, callback: Callable[[], None]) -> _Call:
        """Call `callback` at a multiple of `period_s` on this clock, half a period to one and a half from now.

        For what is done again and again: all that has this period, or a multiple of it, is done in one wake-up. An
        idle process pays for waking up, with cold caches, more than for what it does then.
        """
        call = _Call(callback)
        # Not `add`: these are due in order as well, but not after one delay. No delay is negative.
        queue = self._queues.setdefault(-period_s, deque())
        due_s = round(self.now() / period_s + 1) * period_s
        queue.append((due_s, call))
        if due_s < self.wakes_s:
            self.arm(due_s)
        return call

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the next loop turn."""
        self._loop.call_soon(callback)

    async def sleep(self, delay_s: float, *, on_beat: bool = False) -> None:
        """Return after `delay_s` of this clock, or when `call_on_beat` would call."""
        woken: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        call = (self.call_on_beat if on_beat else self.call_after)(delay_s, wake)
        try:
            await woken
        finally:
            call.cancel()

    def close(self) -> None:
        """Forget everything; nothing is told any more."""
        for queue in self._queues.values():
            queue.clear()
        self.wakes_s = _NEVER_S
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _tick(self) -> None:
        self._ticking = None
        due_s = self._tick_due_s
        now_s = self.now()
        # While this runs nobody needs to arm: the end does, for whatever is first then.
        self.wakes_s = -_NEVER_S
        try:
            for queue in list(self._queues.values()):
                while queue and (queue[0][0] <= now_s or queue[0][1].done):
                    item = queue.popleft()[1]
                    if not item.done:
                        item.expire(now_s)
        finally:
            # Also when one of them raised: the loop's handler is told, and the others must not wait for ever.
            if len(self._queues) > QUEUES_MAX:
                kept = {delay_s: queue for delay_s, queue in self._queues.items() if queue or delay_s in self._lent}
                self._queues = kept
            if self.on_tick is not None:
                self.on_tick(time.monotonic() - due_s)
            self.wakes_s = _NEVER_S
            first_s = min((queue[0][0] for queue in self._queues.values() if queue), default=_NEVER_S)
            if first_s < _NEVER_S:
                self.arm(first_s)
