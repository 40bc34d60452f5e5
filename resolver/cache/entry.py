"""One stored answer, and the small object that tells all its renderings when they are dead."""

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Which store an answer belongs to."""

    SUCCESS = 0
    DENIAL = 1
    FAILURE = 2


class Life:
    """Shared by an entry and every rendering of it in the packet caches.

    until_s  A rendering may be used before this moment. 0 ends all of them at once (refresh, flush,
             eviction). For an answer that may be prefetched it is the start of the prefetch window, so
             that the next asker comes up to the pipeline; after that it is the expiry.
    uses     Times it was used; read by prefetch and by eviction, which set it back.
    used_s   When it was last used, to the second.
    gap_s    A pause longer than this between two uses starts the count anew.
    recheck_s  Stale answers go out at once before this moment: a refresh has just failed.

    No `__init__`: it is made for every miss, and a Python call there costs more than the object.
    """

    __slots__ = ("gap_s", "recheck_s", "until_s", "used_s", "uses")
    gap_s: float
    recheck_s: float
    until_s: float
    uses: int
    used_s: float


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


OVERHEAD_BYTES = 570
"""Python objects of one entry beside its packet and key bytes, with its share of the table: 540 to 600 measured as
resident memory, by how full the table is. Held near the truth by tests/test_memory.py."""
