"""What comes from the process that served before us, for as long as it lives: its cache, and its turn to read.

What callers may rely on:

- While that process lives and answers us, what arrives at the shared sockets is its to read: one that is killed has
  nothing of it in hand. It becomes ours (`our_turn`, for good) when it asks whether we serve, ends, or is silent.
- It brings our cache up to date before it asks.
- Nothing that it does or leaves undone raises here.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from resolver import logs
from resolver.cache import snapshot
from resolver.cache.snapshot import Loading, Taken
from resolver.errors import BadSnapshot, HandoverFailed
from resolver.system import handover
from resolver.system.handover import ANSWER_S, ASK, CACHE, LIVE, LIVES, YES, Predecessor

LOOK_EVERY_S = 0.5
"""How often it is looked whether the process before us answers us."""

SILENT_S = 1.5
"""It has not answered two times: it is stopped or stuck, and questions wait in the sockets."""


class Inheritance:
    """The connection to one predecessor, from its sockets on.

    answers   That were taken over and are of use.
    our_turn  What arrives at the sockets is ours to read.
    serves    We said so, and do not end ourselves.
    """

    def __init__(self, predecessor: Predecessor, now: Callable[[], Taken], turned: Callable[[], None]) -> None:
        """`turned` is called when it becomes our turn, and when the connection is over."""
        self.answers = 0
        self.our_turn = False
        self.is_over = False
        self._predecessor = predecessor
        self._channel = predecessor.channel
        self._now = now
        self._turned = turned
        self._serves = True
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._loading: Callable[[float], Loading] | None = None
        self._into: Loading | None = None
        self._whole: asyncio.Future[bool] = self._loop.create_future()
        self._tasks: list[asyncio.Task[Any]] = []

    async def fill(self, loading: Callable[[float], Loading]) -> bool:
        """Load what it sends, from now on; return whether the first snapshot came whole.

        loading  Told what to add to a snapshot's times.
        """
        self._loading = loading
        self._begin(self._predecessor.head)
        self._tasks.append(logs.hold(self._attend(), "listening to who served before us"))
        self._tasks.append(logs.hold(self._watch(), "watching who served before us"))
        taken = -1
        while not self._whole.done() and taken != self._taken():
            taken = self._taken()
            await asyncio.wait({self._whole}, timeout=ANSWER_S)
        if not self._whole.done():
            logs.warning("the cache of who serves now does not come: it is silent")
        return self._whole.done() and self._whole.result()

    async def announce(self) -> None:
        """Say that we serve."""
        await self._say(handover.SERVES)

    async def withdraw(self) -> None:
        """Say that we end ourselves."""
        self._serves = False
        await self._say(handover.GOES)

    async def close(self) -> None:
        """Hear no more of it, and tell nobody anything any more."""
        self._turned = lambda: None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._end()

    async def _say(self, kind: int) -> None:
        if not self.is_over:
            with suppress(HandoverFailed, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._channel.send(kind)

    async def _attend(self) -> None:
        try:
            while True:
                kind, payload = await self._channel.receive()
                self._heard_s = self._loop.time()
                if kind == LIVE and self._serves:
                    await self._say(LIVES)
                elif kind == ASK and self._serves:
                    # Read first: there is no moment at which nobody does.
                    self._take_turn()
                    await self._say(YES)
                elif kind == CACHE:
                    self._begin(payload)
                elif kind != LIVES:
                    self._take(kind, payload)
                await asyncio.sleep(0)
        except HandoverFailed:
            self._end()

    async def _watch(self) -> None:
        while not self.our_turn:
            await self._say(LIVE)
            waited: asyncio.Future[None] = self._loop.create_future()
            await asyncio.wait({waited}, timeout=LOOK_EVERY_S)
            if self._loop.time() - self._heard_s > SILENT_S:
                logs.warning("who serves now does not answer us: we read what arrives")
                self._take_turn()

    def _begin(self, head: bytes) -> None:
        """A snapshot comes: the whole cache, or later what is new in it."""
        try:
            shift_s = snapshot.clock_shift_s(snapshot.read_head(head), self._now(), living=True)
        except BadSnapshot as error:
            self._spoilt(error)
        else:
            self._into = self._loading(shift_s) if self._loading is not None else None

    def _take(self, kind: int, payload: bytes) -> None:
        if self._into is None:
            return
        before = self._into.loaded
        try:
            self._into.take(kind, payload, self._now().clock_s)
        except BadSnapshot as error:
            self._spoilt(error)
            return
        self.answers += self._into.loaded - before
        if self._into.done:
            self._into = None
            if not self._whole.done():
                self._whole.set_result(True)

    def _spoilt(self, error: BadSnapshot) -> None:
        logs.warning(f"the cache of who serves now cannot be used: {error}")
        self._into = None
        if not self._whole.done():
            self._whole.set_result(False)

    def _taken(self) -> int:
        return self._into.loaded + self._into.left if self._into is not None else 0

    def _take_turn(self) -> None:
        if not self.our_turn:
            self.our_turn = True
            self._turned()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._channel.close()
            if not self._whole.done():
                self._whole.set_result(False)
            self._take_turn()
            self._turned()
