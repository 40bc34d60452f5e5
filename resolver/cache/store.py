"""Answers of one kind, in the order they came, bounded by count; the ledger bounds their bytes.

Eviction is FIFO with a second chance: an entry that was used since it came (or since its last chance) goes
back to the end of the queue once. Plain LRU would evict the hottest names first, because the packet cache
answers for them and the store never sees those uses; they are counted in `Life.uses`.

An OrderedDict and not a `cachetools.FIFOCache`: decision 0003 has the numbers.
"""

from collections import OrderedDict

from resolver.cache.entry import Entry
from resolver.cache.ledger import Ledger

MAX_CHANCES = 256
"""Entries that one eviction may put back; the next one goes even if it was used. 256 x 0.17 us, and a batch of 32
misses may each evict one: 1.4 ms of one loop turn."""

TRIMMED_PER_TURN = 64
"""As many evictions as a batch of misses: a capacity that a reload makes 10,000 smaller is kept after 3 s."""


class Store:
    """`entries` maps a question's key to its entry. Read it freely; change it only through methods."""

    __slots__ = ("capacity", "entries", "evictions", "ledger", "size_bytes")

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        self.capacity = capacity
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.evictions = 0
        self.ledger = ledger
        self.size_bytes = 0
        ledger.purses.append(self)

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep `entry` under `key`; renderings of the one it replaces are dead at once, unless both share a life.

        How popular the old one was goes on counting: a TTL of 5 s is no reason to forget it (CoreDNS does so, too).
        """
        entries = self.entries
        size = entry.size_bytes
        old = entries.pop(key, None)
        if old is not None:
            if old.life is not entry.life:
                old.life.until_s = 0.0
                entry.life.uses = old.life.uses
                entry.life.used_s = old.life.used_s
            size -= old.size_bytes
        entries[key] = entry
        self.size_bytes += size
        self.ledger.used_bytes += size
        if len(entries) > self.capacity:
            self.evict_one()
        if self.ledger.used_bytes > self.ledger.budget_bytes:
            self.ledger.shrink()

    def restore(self, key: bytes, entry: Entry) -> bool:
        """Keep what an earlier process knew if there is room; `key` is not here yet. Tell whether it was kept.

        What was not in use there is the first to go here, whatever came meanwhile.
        """
        if len(self.entries) >= self.capacity or not self.ledger.has_room(entry.size_bytes):
            return False
        self.entries[key] = entry
        if not entry.life.uses:
            self.entries.move_to_end(key, last=False)
        self.size_bytes += entry.size_bytes
        self.ledger.used_bytes += entry.size_bytes
        return True

    def drop(self, key: bytes) -> Entry | None:
        """Forget `key`; return what was there."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._forget(entry)
        return entry

    def evict_one(self) -> bool:
        """Give up the oldest entry that had no use since its last chance; false if the store is empty."""
        entries = self.entries
        for _ in range(MAX_CHANCES):
            if not entries:
                return False
            key, entry = entries.popitem(last=False)
            if not entry.life.uses or not entries:
                break
            entry.life.uses = 0
            entries[key] = entry
        else:
            key, entry = entries.popitem(last=False)
        self._forget(entry)
        self.evictions += 1
        return True

    def trim(self) -> bool:
        """Evict some of what is over a capacity that a reload has made smaller; tell whether more is."""
        for _ in range(min(TRIMMED_PER_TURN, len(self.entries) - self.capacity)):
            self.evict_one()
        return len(self.entries) > self.capacity

    def clear(self) -> None:
        """Forget everything.

        Up to `ledger.TIDIED_PER_TURN` renderings are dead at once, those of more entries within seconds: a flush
        that cannot wait for them clears the packet caches as well.
        """
        entries, self.entries = self.entries, OrderedDict()
        self.size_bytes = 0
        self.ledger.abandon(entries, kill=True)

    def close(self) -> None:
        """Leave the ledger, with everything that is kept; nothing stays of what a late flight may still put."""
        self.capacity = 0
        self.clear()
        self.ledger.purses.remove(self)

    def _forget(self, entry: Entry) -> None:
        entry.life.until_s = 0.0
        self.size_bytes -= entry.size_bytes
        self.ledger.used_bytes -= entry.size_bytes
