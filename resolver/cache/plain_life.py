"""`Life` in Python, for an installation without a C compiler; `life.pyx` is its twin."""


class Life:
    """Shared by an entry and every rendering of it in the packet caches.

    stored_s  What the TTLs of its renderings count down from: when the first answer was stored. One that repeats it
             moves this on, by whole seconds less if its TTLs are lower (`cache.Cache.put`).
    until_s  A rendering may be used before this moment. 0 ends all of them at once (other records, flush,
             eviction). For an answer that may be prefetched it is the start of the prefetch window, so
             that the next asker comes up to the pipeline; after that it is the expiry.
    uses     Times it was used; read by prefetch and by eviction, which set it back.
    used_s   When it was last used, to the second.
    gap_s    A pause longer than this between two uses starts the count anew.
    recheck_s  Stale answers go out at once before this moment: a refresh has just failed.

    No `__init__`: it is made for every miss, and a Python call there costs more than the object.
    """

    __slots__ = ("gap_s", "recheck_s", "stored_s", "until_s", "used_s", "uses")
    gap_s: float
    recheck_s: float
    stored_s: float
    until_s: float
    uses: int
    used_s: float
