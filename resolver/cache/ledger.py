"""One budget of bytes for everything that is kept for later: entries, failures, renderings.

Whoever keeps something charges it here; whoever drops it gives it back. Over budget, the store that holds
most bytes gives up entries until the sum fits again. A packet cache never makes a store give way: it stops
taking, because its renderings die with their entries anyway.

What is dropped as a whole (a reload, a flush, a block that is gone) is handed over to `abandon`: freeing 80,000
entries takes 50 ms, so it is done a slice at a time, by `tidy`. Until then their bytes count.
"""

from typing import Any, Protocol

TIDIED_PER_TURN = 2048
"""Entries freed in one turn of the loop: 0.35 to 0.7 us each, so 1.5 ms at most."""


class Purse(Protocol):
    """A store that can give something up."""

    size_bytes: int

    def evict_one(self) -> bool:
        """Drop one entry; false if there is none."""

    def trim(self) -> bool:
        """Give up some of what is over capacity; tell whether more is."""


class Ledger:
    """The sum, the budget and the stores that can be asked to give way."""

    __slots__ = ("_abandoned", "budget_bytes", "purses", "used_bytes")

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.purses: list[Purse] = []
        self._abandoned: list[tuple[dict[bytes, Any], bool]] = []

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether `size_bytes` more would stay inside the budget."""
        return self.used_bytes + size_bytes <= self.budget_bytes

    def shrink(self) -> None:
        """Make the largest stores give up entries until the sum fits the budget, or nothing is left."""
        while self.used_bytes > self.budget_bytes:
            if self._abandoned:
                self._bury(1)
                continue
            largest = max(self.purses, key=lambda purse: purse.size_bytes, default=None)
            if largest is None or not largest.evict_one():
                return

    def abandon(self, table: dict[bytes, Any], *, kill: bool) -> None:
        """Free everything in `table`, which nobody looks into any more: a slice now, the rest by `tidy`.

        table  Entries or renderings, still counted; each has `size_bytes`.
        kill   They are entries: renderings made of them are dead when they are freed. Else they are renderings,
               and rings of them are cut.
        """
        if table:
            self._abandoned.append((table, kill))
            self._bury(TIDIED_PER_TURN)

    def tidy(self) -> bool:
        """Do one turn's worth of what reloads and flushes have left behind; tell whether there is more."""
        self._bury(TIDIED_PER_TURN)
        over = [purse.trim() for purse in self.purses]
        return bool(self._abandoned) or any(over)

    def _bury(self, number: int) -> None:
        while number and self._abandoned:
            table, kill = self._abandoned[-1]
            _, kept = table.popitem()
            self.used_bytes -= kept.size_bytes
            if kill:
                kept.life.until_s = 0.0
            else:
                kept.follow = None
            if not table:
                self._abandoned.pop()
            number -= 1
