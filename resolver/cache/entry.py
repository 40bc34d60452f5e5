"""One stored answer, and the small object that tells all its renderings when they are dead.

`Life` is compiled where a C compiler was there (`life.pyx`): a hit of the compiled lane reads and writes it without
making numbers. `plain_life.py` says what its fields are.
"""

from enum import IntEnum
from typing import NamedTuple

try:
    from resolver.cache.life import Life
except ImportError:  # no C compiler when the package was installed
    from resolver.cache.plain_life import Life  # type: ignore[assignment] # the twin: the same attributes

    _LIFE_BYTES = 138
else:
    _LIFE_BYTES = 68

__all__ = ["OVERHEAD_BYTES", "Entry", "Kind", "Life"]


class Kind(IntEnum):
    """Which store an answer belongs to."""

    SUCCESS = 0
    DENIAL = 1
    FAILURE = 2


class Entry(NamedTuple):
    """A stored answer: bytes and numbers, no objects of records.

    packet       As `wire.ttls.scan` returned it, TTLs capped by the maximum.
    ttl_offsets  From the front of `packet`.
    rcode        0 to 15.
    kind         The store it is in.
    stored_s     When it came from upstream, by the process clock.
    expires_s    When it stops being fresh.
    floor_s      What a TTL shows at least: 1 while the minimum keeps it longer than upstream said.
    ttl_s        The smallest TTL that it was stored with, for stale answers.
    life         See `Life`.
    size_bytes   What it costs the ledger, with its key and its place in the store.
    """

    packet: bytes
    ttl_offsets: tuple[int, ...]
    rcode: int
    kind: Kind
    stored_s: float
    expires_s: float
    floor_s: int
    ttl_s: int
    life: Life
    size_bytes: int


OVERHEAD_BYTES = 440 + _LIFE_BYTES
"""Python objects of one entry beside its packet and key bytes, with its share of the table: 540 to 600 measured as
resident memory, by how full the table is, and 70 less where `Life` is compiled. Held near the truth by
tests/test_memory.py."""
