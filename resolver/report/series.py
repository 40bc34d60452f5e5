"""Exact counts of questions and answers, cheap enough for each one.

A *series* is everything that is equal for a set of answers: who listened, the zone, the type, the rcode,
the DO bit, and the buckets that its sizes fall into. Counting an answer is three additions on one object;
the scrape (`status.exposition`) folds series into CoreDNS's metrics. The number of series is bounded by the
product of small label sets (types and rcodes outside CoreDNS's lists are counted as one), never by names
or clients.

Durations: the first bucket ends at 250 us. Whoever answers inside a batch that took less does nothing; the
scrape puts `uses` minus all slower counts into the first bucket. `duration_sum_s` therefore leaves out answers
faster than that.

Compiled where a C compiler was there (`counters.pyx`): a hit adds numbers of C, and to count a miss takes 0.17 us
instead of 0.42 (a loop of 200,000 calls of `count`). `plain_counters.py` says what its fields are.
"""

from resolver.report.labels import (
    RCODE_NAMES,
    SIZE_BUCKETS_BYTES,
    TIME_BUCKETS_S,
    TYPE_NAMES,
    ListenerLabels,
    SeriesKey,
)

try:
    from resolver.report.counters import Series, SeriesTable
except ImportError:  # no C compiler when the package was installed
    from resolver.report.plain_counters import Series, SeriesTable  # type: ignore[assignment] # twins: the same attributes

__all__ = [
    "RCODE_NAMES",
    "SIZE_BUCKETS_BYTES",
    "TIME_BUCKETS_S",
    "TYPE_NAMES",
    "ListenerLabels",
    "Series",
    "SeriesKey",
    "SeriesTable",
]
