"""One budget of bytes for everything that is kept for later: entries, failures, renderings.

Whoever keeps something charges it here; whoever drops it gives it back. Over budget, the store that holds
most bytes gives up entries until the sum fits again. A packet cache never makes a store give way: it stops
taking (`has_room`), because its renderings die with their entries anyway.
"""

from typing import Protocol


class Purse(Protocol):
    """A store that can give something up."""

    size_bytes: int

    def evict_one(self) -> bool:
        """Drop one entry; false if there is none."""


class Ledger:
    """The sum, the budget and the stores that can be asked to give way."""

    __slots__ = ("budget_bytes", "purses", "used_bytes")

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.purses: list[Purse] = []

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether `size_bytes` more would stay inside the budget."""
        return self.used_bytes + size_bytes <= self.budget_bytes

    def shrink(self) -> None:
        """Make the largest stores give up entries until the sum fits the budget, or nothing is left."""
        while self.used_bytes > self.budget_bytes:
            largest = max(self.purses, key=lambda purse: purse.size_bytes, default=None)
            if largest is None or not largest.evict_one():
                return
