"""The listening end of the hand-over: gives sockets and cache to whoever starts (the words: `system.handover`).

What callers may rely on:

- A successor that serves is one that has said so and is still connected; `confirm` asks it once more.
- What a successor does, or leaves undone, costs a line of log and nothing else.
- The cache goes out piece by piece, with a turn of the loop after each.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from resolver import logs
from resolver.cache.frames import frame
from resolver.errors import HandoverFailed
from resolver.system.channel import FDS_PER_MESSAGE, Channel
from resolver.system.handover import (
    ANSWER_S,
    ASK,
    CACHE,
    COUNT,
    GOES,
    LIFELINE,
    LIVE,
    LIVES,
    NODE,
    SERVES,
    SOCKETS,
    WANT,
    YES,
    OtherVersion,
    expect,
    greet,
    greeted,
)

STALLED_S = 10.0
"""A successor that takes nothing for so long is given up."""

UPDATE_S = 1.5
"""What is new in the cache goes out in this time, 100,000 answers, or not at all."""

SUCCESSORS_MAX = 4
BACKLOG = 8
ACCEPT_PAUSE_S = 1.0

COUNTS = ("served", "broken", "other_version")
"""What became of those who came."""


class _Successor:
    """One process that has connected. `answered` is waited for by who asks it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.holds = False  # it has our sockets
        self.serves = False
        self.served = False
        self.answered: asyncio.Future[bool] | None = None
        self.known_s = 0.0  # what was stored before this moment is on its way to it
        self.giving: asyncio.Task[None] | None = None


class Offer:
    """Our listening end: gives sockets and cache to whoever starts."""

    def __init__(
        self,
        listening: socket.socket,
        node: bytes,
        lifeline: Callable[[], tuple[int, int]],
        sockets: Callable[[], Sequence[int]],
        snapshot: Callable[[float], tuple[float, Iterator[bytes]]],
        changed: Callable[[], None],
    ) -> None:
        """Give from now on.

        snapshot  Returns a moment and all answers that were stored between the one that it is told and that one.
        changed   Called when a successor serves, or is gone.
        """
        self.counts = dict.fromkeys(COUNTS, 0)
        self._listening = listening
        self._node = node
        self._lifeline = lifeline
        self._sockets = sockets
        self._snapshot = snapshot
        self._changed = changed
        self._successors: list[_Successor] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._listen()

    @property
    def successor_serves(self) -> bool:
        """Whether a successor has said that it serves, and is still connected."""
        return any(each.serves for each in self._successors)

    @property
    def shares(self) -> bool:
        """Whether a process that lives has our sockets."""
        return any(each.holds for each in self._successors)

    async def confirm(self) -> bool:
        """Let a successor that serves read from now on; return whether one does.

        One that is stopped or stuck counts no more. Before it is asked, it is told what is new in the cache.
        """
        for each in [each for each in self._successors if each.serves]:
            if await self._ask(each, LIVE) and await self._bring_up_to_date(each) and await self._ask(each, ASK):
                return True
            each.serves = False
        return False

    async def _ask(self, successor: _Successor, kind: int) -> bool:
        successor.answered = self._loop.create_future()
        with suppress(HandoverFailed, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await successor.channel.send(kind)
                return await successor.answered
        return False

    async def _bring_up_to_date(self, successor: _Successor) -> bool:
        try:
            async with asyncio.timeout(UPDATE_S):
                if successor.giving is not None:
                    await asyncio.wait({successor.giving})
                await self._send_cache(successor)
        except TimeoutError:
            # It takes nothing, or what is new is too much; half a frame may be on its way.
            successor.channel.close()
            return False
        except HandoverFailed:
            return False
        return True

    def refuse_more(self) -> None:
        """Take no more successors; those that are connected stay so."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    async def close(self) -> None:
        """End every conversation."""
        self.refuse_more()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _listen(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # gone again
        except OSError:  # no descriptors: the socket stays readable, and looking again at once would spin
            self._loop.remove_reader(self._listening.fileno())
            self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
            return
        sock.setblocking(False)
        if len(self._successors) >= SUCCESSORS_MAX:
            sock.close()
            return
        try:
            successor = _Successor(Channel(sock))
        except HandoverFailed as error:
            logs.warning(f"hand-over refused: {error}")
            return
        self._successors.append(successor)
        task = logs.hold(self._converse(successor), "a hand-over")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, successor: _Successor) -> None:
        channel = successor.channel
        giving: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(STALLED_S):
                await greet(channel)
                await greeted(channel)
                await channel.send(NODE, self._node)
                await expect(channel, WANT)
                await self._give_sockets(successor)
            successor.giving = giving = logs.hold(self._give_cache(successor), "handing the cache over")
            self._tasks.add(giving)
            giving.add_done_callback(self._tasks.discard)
            while True:
                await self._hear(successor)
        except OtherVersion as error:
            self.counts["other_version"] += 1
            logs.info(f"a successor has come, {error}: both serve side by side, without the cache")
        except (HandoverFailed, TimeoutError) as error:
            if successor.served:
                logs.info("a successor is gone; we go on")
            else:
                self.counts["broken"] += 1
                logs.info(f"a successor has not come to serve: {error or 'it does not answer'}; we go on")
        finally:
            if giving is not None:
                giving.cancel()
            self._successors.remove(successor)
            channel.close()
            self._changed()

    async def _hear(self, successor: _Successor) -> None:
        kind, _ = await successor.channel.receive()
        if kind == LIVE:
            async with asyncio.timeout(STALLED_S):
                await successor.channel.send(LIVES)
            return
        if kind not in {SERVES, YES, GOES, LIVES}:
            return
        if successor.answered is not None and not successor.answered.done():
            successor.answered.set_result(kind != GOES)
        # An answer that comes late: it was stuck, and is not any more.
        serves = kind != GOES
        if serves != successor.serves:
            successor.serves = serves
            successor.served = True
            self.counts["served"] += kind == SERVES
            logs.info("a successor serves" if serves else "the successor ends; we go on")
            self._changed()

    async def _give_sockets(self, successor: _Successor) -> None:
        channel = successor.channel
        successor.holds = True
        await channel.send(LIFELINE, b"", self._lifeline())
        fds = self._sockets()
        for at in range(0, len(fds), FDS_PER_MESSAGE):
            some = fds[at : at + FDS_PER_MESSAGE]
            await channel.send(SOCKETS, COUNT.pack(len(some)), some)

    async def _give_cache(self, successor: _Successor) -> None:
        try:
            async with asyncio.timeout(None) as patience:
                await self._send_cache(successor, patience)
        except HandoverFailed:
            pass  # it is gone, and whoever reads the channel is told so, too
        except TimeoutError:
            successor.channel.close()

    async def _send_cache(self, successor: _Successor, patience: asyncio.Timeout | None = None) -> None:
        """Send what was stored since the last time, with a turn of the loop after each piece."""
        channel = successor.channel
        successor.known_s, pieces = self._snapshot(successor.known_s)
        for piece in itertools.chain((frame(CACHE, next(pieces)),), pieces):
            if patience is not None:
                patience.reschedule(self._loop.time() + STALLED_S)
            if piece:
                await channel.send_raw(piece)
            await asyncio.sleep(0)
