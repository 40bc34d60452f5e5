"""Time as a value, and timers that obey it.

Pure code takes `now_s` as an argument. What must wake up later asks `Timers`, which reads the one
clock it was given: a test that makes that clock jump makes every timer jump with it, without sleeping.

Timers are coarse (10 ms) and cheap: entries with the same delay wait in one queue, in order, so one
tick looks only at the front of each queue. The tick is armed only while something waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

Now = Callable[[], float]
"""A monotonic clock, in seconds. `time.monotonic` in production."""

TICK_S = 0.01


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
    """All that this process waits for, by the clock that it was given."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Now) -> None:
        self.now = now
        self._loop = loop
        self._queues: dict[float, deque[tuple[float, Expiring]]] = {}
        self._ticking: asyncio.TimerHandle | None = None

    def add(self, delay_s: float, item: Expiring, now_s: float) -> None:
        """Call `item.expire` once `delay_s` has passed since `now_s`, unless `item.done` by then.

        Delays should come from a small set of constants: each one is a queue of its own.
        """
        queue = self._queues.get(delay_s)
        if queue is None:
            queue = self._queues[delay_s] = deque()
        queue.append((now_s + delay_s, item))
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> _Call:
        """Call `callback` after `delay_s`; the value returned has `cancel()`."""
        call = _Call(callback)
        self.add(delay_s, call, self.now())
        return call

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the next loop turn."""
        self._loop.call_soon(callback)

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` of this clock."""
        woken: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        call = self.call_after(delay_s, wake)
        try:
            await woken
        finally:
            call.cancel()

    def close(self) -> None:
        """Forget everything; nothing is told any more."""
        self._queues.clear()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _tick(self) -> None:
        self._ticking = None
        now_s = self.now()
        try:
            for delay_s, queue in list(self._queues.items()):
                while queue and (queue[0][0] <= now_s or queue[0][1].done):
                    item = queue.popleft()[1]
                    if not item.done:
                        item.expire(now_s)
                # Queues of rare delays must not stay for ever.
                if not queue and self._queues.get(delay_s) is queue:
                    del self._queues[delay_s]
        finally:
            # Also when one of them raised: the loop's handler is told, and the others must not wait for ever.
            if self._queues and self._ticking is None:
                self._ticking = self._loop.call_later(TICK_S, self._tick)
