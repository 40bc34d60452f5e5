"""From one generation of this process to the next: sockets and cache from the one that serves, or a snapshot file.

Start  `inherit` (before binding) → `fill` (before anybody is answered) → `offer` (we serve) → `announce` (we are
       ready, and pods are sent to us).
Stop   `leave` → `confirm` says whether a successor serves → `let_go`, after which nobody takes the sockets.

What callers may rely on:

- A start is held up HOLD_UP_S at most, whatever the process before us does; what has not come by then comes later.
- Whatever fails is one line of log; serving goes on without it, and the other process goes on as well.
- Without a directory, or with one that is not ours alone, all of this does nothing.

While both live the older one reads what arrives, until it is told to end or is not there any more (`our_turn`).

What is said between the two is in `system.handover`, `system.inheritance` and `system.offer`, the format in
`cache.snapshot`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import random
from typing import Any

from resolver import logs
from resolver.cache import snapshot
from resolver.cache.cache import Cache
from resolver.cache.snapshot import Loading, Taken
from resolver.errors import HandoverFailed
from resolver.kept import Identity, Kept, Memory, same_block
from resolver.listeners import Listeners
from resolver.metrics import Reading
from resolver.system import handover
from resolver.system.directory import Directory
from resolver.system.inheritance import Inheritance
from resolver.system.lifeline import Lifeline
from resolver.system.offer import BACKLOG, COUNTS, Offer
from resolver.system.snapshots import Snapshots, in_thread

HOLD_UP_S = 2.0

JITTER = 0.2
"""Nodes that were started together do not write together."""

_SUFFIX = ".handover"
_EVER = float("-inf")


class Succession:
    """What this process takes over, and what it gives.

    inherited_sockets  Listening sockets that came from the process before us.
    """

    def __init__(
        self, path: str, interval_s: float, kept: Kept, listeners: Listeners, changed: Callable[[], None]
    ) -> None:
        """Do nothing yet.

        path        The hand-over directory; empty: there is no hand-over.
        interval_s  Between two snapshots.
        changed     Called when a successor serves or is gone, and when it becomes our turn to read.
        """
        self.inherited_sockets = 0
        self._path = path
        self._interval_s = interval_s
        self._kept = kept
        self._listeners = listeners
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._boot_id = b""
        self._node = b""
        self._deadline_s = 0.0
        self._directory: Directory | None = None
        self._snapshots: Snapshots | None = None
        self._predecessor: handover.Predecessor | None = None
        self._inheritance: Inheritance | None = None
        self._lifeline: Lifeline | None = None
        self._offer: Offer | None = None
        self._name = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- start

    async def inherit(self) -> None:
        """Take the listening sockets of the process that serves; the next `Listeners.open` uses them."""
        if not self._path:
            return
        self._deadline_s = self._loop.time() + HOLD_UP_S
        try:
            async with asyncio.timeout_at(self._deadline_s):
                self._directory = directory = await in_thread(partial(Directory, self._path))
                self._boot_id, self._node = await in_thread(_where_we_are)
                self._snapshots = Snapshots(directory, self._kept.timers)
                await self._find_predecessor(directory)
        except TimeoutError:
            logs.warning("who serves now has held us up: going on without its sockets and its cache")
        except (HandoverFailed, OSError) as error:
            logs.error(f"no hand-over: {error}; serving goes on")
        predecessor = self._predecessor
        if predecessor is not None:
            self.inherited_sockets = self._listeners.inherit(predecessor.sockets)
            self._inheritance = Inheritance(predecessor, self._now, self._changed)
        self._lifeline = Lifeline(predecessor.lifeline if predecessor is not None else None)

    async def _find_predecessor(self, directory: Directory) -> None:
        """Ask everyone who listens, the newest first."""
        for name in await in_thread(partial(directory.sockets, _SUFFIX)):
            try:
                self._predecessor = await handover.meet(directory.address(name), self._node)
            except ConnectionRefusedError:
                await in_thread(partial(directory.remove, name))
            except handover.OtherVersion as error:
                logs.info(
                    f"who serves now cannot hand over: {error}; both serve side by side, we without its cache"
                )
            except HandoverFailed as error:
                logs.warning(f"who serves now cannot hand over: {error}; we serve beside it, without its cache")
            else:
                return

    async def fill(self, memories: Mapping[Identity, Memory]) -> None:
        """Load what was known before into these caches, for HOLD_UP_S since `inherit`; the rest comes meanwhile."""
        if self._snapshots is not None:
            filling = self._hold(self._fill(self._snapshots, memories), "filling the cache")
            await asyncio.wait({filling}, timeout=max(0.0, self._deadline_s - self._loop.time()))

    async def _fill(self, snapshots: Snapshots, memories: Mapping[Identity, Memory]) -> None:
        loading = partial(_loading, memories)
        whole = False
        if self._inheritance is not None:
            whole = await self._inheritance.fill(loading)
            logs.info(f"taken over: {self.inherited_sockets} sockets, {self._inheritance.answers} answers")
        if not whole:
            await snapshots.load(self._now(), loading)

    async def offer(self) -> None:
        """Give sockets and cache to whoever starts from now on, and write snapshots."""
        directory, lifeline = self._directory, self._lifeline
        if directory is None or lifeline is None:
            return
        self._hold(self._save_now_and_then(), "writing snapshots")
        # Sorted by name the newest is the last; this clock nobody can set back.
        started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._name = f"{started_ns:020d}-{os.urandom(4).hex()}{_SUFFIX}"
        try:
            listening = await in_thread(partial(directory.listen, self._name, BACKLOG))
        except OSError as error:
            logs.error(f"no hand-over to whoever follows: {self._path}: {error.strerror}; serving goes on")
            return
        self._offer = Offer(
            listening, self._node, lambda: lifeline.ends, self._listeners.give, self._snapshot, self._changed
        )

    async def announce(self) -> None:
        """Tell the process before us that we serve: it may end."""
        if self._inheritance is not None:
            await self._inheritance.announce()

    # --- while we serve

    @property
    def our_turn(self) -> bool:
        """Whether what arrives at our sockets is ours to read, and not the business of the process before us."""
        return self._inheritance is None or self._inheritance.our_turn

    @property
    def successor_serves(self) -> bool:
        """Whether a process that took our sockets says that it serves."""
        return self._offer is not None and self._offer.successor_serves

    @property
    def shares_sockets(self) -> bool:
        """Whether another process that lives may read what arrives at our sockets."""
        inheriting = self._inheritance is not None and not self._inheritance.is_over
        return inheriting or (self._offer is not None and self._offer.shares)

    async def save(self) -> None:
        """Write a snapshot, unless there is a successor: then it is the successor's business."""
        if self._snapshots is not None and not self.successor_serves:
            await self._snapshots.save(lambda: self._snapshot(_EVER)[1])

    async def _save_now_and_then(self) -> None:
        while True:
            await self._kept.timers.sleep(self._interval_s * (1 + JITTER * (random() - 0.5)))
            await self.save()

    def _snapshot(self, since_s: float) -> tuple[float, Iterator[bytes]]:
        """Return the moment that it is, and the answers that were stored between `since_s` and it."""
        memories = self._kept.memories.items()
        caches = [(identity, memory.cache) for identity, memory in memories if memory.cache is not None]
        now = self._now()
        return now.clock_s, snapshot.encode(now, caches, since_s)

    def _now(self) -> Taken:
        return Taken(self._boot_id, time.time(), self._kept.timers.now())

    # --- stop

    async def leave(self) -> None:
        """We end: the process before us, if it still lives, does not count on us any more."""
        if self._snapshots is not None:
            self._snapshots.in_haste = True
        if self._inheritance is not None:
            await self._inheritance.withdraw()

    async def confirm(self) -> bool:
        """Ask whether a successor serves: one that is stopped or stuck does not say so."""
        return self._offer is not None and await self._offer.confirm()

    async def let_go(self) -> bool:
        """Give the sockets to nobody any more; return whether they are ours alone."""
        if self._offer is not None and self._directory is not None:
            self._offer.refuse_more()
            await in_thread(partial(self._directory.remove, self._name))
        return self._lifeline is None or self._lifeline.let_go()

    async def close(self) -> None:
        """Close what is open; the sockets are closed by now."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.let_go()
        if self._inheritance is not None:
            await self._inheritance.close()
        if self._offer is not None:
            await self._offer.close()
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def readings(self) -> list[Reading]:
        """The numbers of all this, for a scrape."""
        offer, snapshots = self._offer, self._snapshots
        written, failed, loaded = (
            (snapshots.written, snapshots.failed, snapshots.loaded) if snapshots else (0, 0, 0)
        )
        files = {"written": written, "failed": failed}
        answers = {"predecessor": self._inheritance.answers if self._inheritance else 0, "file": loaded}
        followed = offer.counts if offer is not None else dict.fromkeys(COUNTS, 0)
        serves, sockets = self.successor_serves, self.inherited_sockets
        return [
            Reading("resolver_successor_serves", "1 while a successor serves.", "gauge", (), serves),
            Reading(
                "resolver_inherited_sockets", "Sockets that came from who served before.", "gauge", (), sockets
            ),
            *(
                Reading("resolver_inherited_answers", "Answers not asked for.", "gauge", (("source", key),), number)
                for key, number in answers.items()
            ),
            *(
                Reading("resolver_snapshots_total", "Snapshot files.", "counter", (("result", key),), number)
                for key, number in files.items()
            ),
            *(
                Reading("resolver_successors_total", "Who came to follow.", "counter", (("result", key),), number)
                for key, number in followed.items()
            ),
        ]

    def _hold(self, work: Any, what: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = logs.hold(work, what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _loading(memories: Mapping[Identity, Memory], shift_s: float) -> Loading:
    """Return what loads a snapshot into these caches, each block's into that of the same block now."""

    def resolve(before: Sequence[snapshot.Identity]) -> list[Cache | None]:
        found: dict[snapshot.Identity, Cache | None] = {}
        for identity, memory in memories.items():
            old = same_block(identity, before, memories)
            if old is not None:
                found[old] = memory.cache
        return [found.get(identity) for identity in before]

    return Loading(shift_s, resolve)


def _where_we_are() -> tuple[bytes, bytes]:
    boot_id = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))
    return boot_id, handover.node_identity(boot_id)
