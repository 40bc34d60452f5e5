"""The packet cache: query bytes in, answer bytes out, for questions that were answered a moment ago.

The key is a query's bytes after its ID, so everything that an answer depends on (letter case, type, RD, AD, CD,
EDNS size, DO) is in it. A rendering is the answer's bytes after the ID. Its TTLs count down in place, at most
once a second; nothing is flushed by a timer. When the entry behind it is flushed, evicted or replaced by other
records, the `life` that both share says so; and when the same records were fetched anew, from when they count.

Only questions that were asked a second time get a rendering: a flood of names that are asked once fills
nothing here. One client may add `CLIENT_SHARE` between two sweeps. A full table takes nothing new; a sweep
drops the dead.

Where `loadbalance` orders an answer's records in several ways, its renderings are a ring: each names the one
that answers next (`follow`), and after a hit the lane puts that one into the table. A ring lives and goes as one.
It is a cycle of objects, and the collector is off: who drops one cuts it (`follow = None`).

What renderings are made of and kept in is the table's: a dict of Python objects (`DictTable`), or the compiled
lane's `Table`, where a rendering is one piece of memory.
"""

from collections.abc import Callable, Sequence
from math import floor
from typing import Any, Protocol

from resolver.report.series import Series
from resolver.wire.ttls import age_in_place

OVERHEAD_BYTES = 350
"""Python objects of one rendering beside its key and body, with its share of the dict: 320 to 380 measured."""

CAPACITY = 1_000_000
"""Renderings of one listener; the byte budget ends growth long before: 64 MiB hold about 100,000."""

SWEEP_EVERY_S = 1.0
"""Together with the question to ourselves: an idle process wakes once for both."""

SWEEP_SLOTS = 2560
"""Renderings looked at in one sweep: 2,560 a second, so 64,000 renderings are seen once in their 30 s."""

KEPT_MAX_BYTES = 4096
"""Longer answers come by TCP only, and seldom; one client's share of them is 4 MiB between two sweeps."""

CLIENT_SHARE = 1000
"""New renderings of one client between two sweeps, each of a ring counted: alone it needs most of two minutes to
fill 64 MiB."""


Turn = tuple[bytes, tuple[int, ...]]
"""An answer and where its TTLs stand."""


class Ledger(Protocol):
    """Where bytes are charged; see `cache.ledger`."""

    budget_bytes: int
    used_bytes: int

    def abandon(self, table: dict[bytes, Any], *, kill: bool) -> None:
        """Free what is in `table`, little by little."""


class Life(Protocol):
    """Shared with the stored entry; see `cache.entry`."""

    stored_s: float
    until_s: float
    uses: int
    used_s: float
    gap_s: float


class Rendering:
    """One answer as bytes after the ID. No `__init__`: filled by `DictTable.render`.

    follow      Of a ring: the one that answers next. None for a rendering that stays where it is.
    stored_s    What its TTLs count down from. Its life says another moment once the answer was fetched anew.
    size_bytes  What it costs the ledger; of a ring, each says what all of them cost.
    """

    __slots__ = (
        "aged_s",
        "body",
        "floor_s",
        "follow",
        "life",
        "next_s",
        "series",
        "size_bytes",
        "stored_s",
        "ttl_offsets",
    )
    body: bytearray
    ttl_offsets: tuple[int, ...]
    stored_s: float
    aged_s: int
    next_s: float
    floor_s: int
    follow: "Rendering | None"
    life: Life
    series: Series
    size_bytes: int


class DictTable(dict[bytes, Rendering]):
    """Renderings by query bytes, in Python; what a `PacketCache` asks of a table."""

    overhead_bytes = OVERHEAD_BYTES
    """What one rendering costs beside key and body."""

    def __init__(self) -> None:
        super().__init__()
        self._walk: list[bytes] = []

    def render(
        self,
        key: bytes,
        answer: bytes,
        ttl_offsets: tuple[int, ...],
        aged_s: int,
        floor_s: int,
        life: Life,
        series: Series,
        size_bytes: int,
    ) -> Rendering:
        """Return a rendering for this table, not yet in it; the arguments are those of `PacketCache.keep`."""
        del key  # the dict has it
        rendering = Rendering()
        rendering.body = bytearray(memoryview(answer)[2:])
        rendering.ttl_offsets = ttl_offsets
        rendering.stored_s = life.stored_s
        rendering.aged_s = aged_s
        rendering.next_s = life.stored_s + aged_s + 1
        rendering.floor_s = floor_s
        rendering.follow = None
        rendering.life = life
        rendering.series = series
        rendering.size_bytes = size_bytes
        return rendering

    def dead(self, now_s: float, number: int) -> list[bytes]:
        """Return keys of the dead among the next `number` renderings; each call goes on where the last ended."""
        if len(self._walk) < number:
            self._walk = list(self) + self._walk
        some = {self._walk.pop() for _ in range(min(number, len(self._walk)))}
        return [key for key in some if (kept := self.get(key)) is not None and kept.life.until_s <= now_s]


class PacketCache:
    """The renderings of one listener."""

    __slots__ = ("_added", "_new_table", "ledger", "table")

    def __init__(self, ledger: Ledger, new_table: Callable[[], Any] = DictTable) -> None:
        """Keep nothing yet. `new_table` makes what renderings are kept in: a `DictTable`, or what a lane has."""
        self.ledger = ledger
        self._new_table = new_table
        self.table: DictTable = new_table()
        self._added: dict[object, int] = {}

    def keep(
        self,
        key: bytes,
        answer: bytes,
        client_host: object,
        ttl_offsets: tuple[int, ...],
        aged_s: int,
        floor_s: int,
        life: Life,
        series: Series,
        others: Sequence[Turn] = (),
    ) -> None:
        """Keep `answer` (whole) for the next query with the same bytes, if there is room.

        answer       Not truncated: every one of its TTLs is in it.
        ttl_offsets  From the front of `answer`.
        aged_s       Whole seconds that its TTLs have counted down since `life.stored_s`; negative if it is later.
        others       The same answer in other orders, as long as `answer` and as old: they take turns with it, and
                     the first of them is next, because `answer` is on its way.
        """
        if len(answer) > KEPT_MAX_BYTES:
            return
        table = self.table
        rounds = 1 + len(others)
        size = rounds * (len(key) + len(answer) + 2 * len(ttl_offsets) + table.overhead_bytes)
        has_room = self.ledger.used_bytes + size <= self.ledger.budget_bytes  # no call: the table's `render` is one
        old = table.get(key)
        if old is None:
            added = self._added.get(client_host, 0)
            if added >= CLIENT_SHARE or len(table) >= CAPACITY or not has_room:
                return
            self._added[client_host] = added + rounds
        else:
            self.ledger.used_bytes -= old.size_bytes
            old.follow = None
            if size > old.size_bytes and self.ledger.used_bytes + size > self.ledger.budget_bytes:
                del table[key]
                return
        # The first of a ring's others answers next, so `answer` is its last.
        last = table.render(key, answer, ttl_offsets, aged_s, floor_s, life, series, size)
        following = last
        for other, its_offsets in reversed(others):
            rendering = table.render(key, other, its_offsets, aged_s, floor_s, life, series, size)
            rendering.follow = following
            following = rendering
        if others:
            last.follow = following
        table[key] = following
        self.ledger.used_bytes += size

    def age(self, rendering: Rendering, now_s: float) -> None:
        """Bring the TTLs of `rendering` to `now_s`.

        Called when `now_s` has reached its `next_s`, or its answer was fetched anew: then they go up.
        """
        life = rendering.life
        elapsed_s = floor(now_s - life.stored_s)
        offsets = [offset - 2 for offset in rendering.ttl_offsets]
        age_in_place(rendering.body, offsets, elapsed_s - rendering.aged_s, rendering.floor_s)
        rendering.aged_s = elapsed_s
        rendering.stored_s = life.stored_s
        rendering.next_s = life.stored_s + elapsed_s + 1
        if now_s - life.used_s > life.gap_s:
            life.uses = 0
        life.used_s = now_s

    def sweep(self, now_s: float) -> None:
        """Drop the dead among the next SWEEP_SLOTS renderings; let each client add anew."""
        self._added.clear()
        for key in self.table.dead(now_s, SWEEP_SLOTS):
            rendering = self.table[key]
            del self.table[key]
            self.ledger.used_bytes -= rendering.size_bytes
            rendering.follow = None

    def clear(self) -> None:
        """Drop everything, as a reload does: labels and options are new."""
        table, self.table = self.table, self._new_table()
        self.ledger.abandon(table, kill=False)
