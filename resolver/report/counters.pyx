# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""`Series` and `SeriesTable` in C: counters are numbers, and counting an answer makes one tuple and looks it up once.

`plain_counters.py` has their twins and says what the fields are.
"""

cimport cython

from resolver.report.labels import SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, TYPE_NAMES, SeriesKey

cdef enum:
    TIME_BUCKETS = 16
    SIZE_BUCKETS = 14

assert len(TIME_BUCKETS_S) == TIME_BUCKETS
assert len(SIZE_BUCKETS_BYTES) == SIZE_BUCKETS

cdef double[TIME_BUCKETS] _times_s = TIME_BUCKETS_S
cdef Py_ssize_t[SIZE_BUCKETS] _sizes_bytes = SIZE_BUCKETS_BYTES
cdef dict _names = TYPE_NAMES


cdef int _size_bucket(Py_ssize_t size_bytes) noexcept:
    """Return the number of the first bucket that is not below `size_bytes`."""
    cdef int bucket = 0
    while bucket < SIZE_BUCKETS and _sizes_bytes[bucket] < size_bytes:
        bucket += 1
    return bucket


cdef int _late(Series series, double duration_s, long long number) except -1:
    """Put `number` answers into their duration bucket."""
    cdef int bucket = 0
    if series.late_counts is None:
        series.late_counts = [0] * (TIME_BUCKETS + 1)
    while bucket < TIME_BUCKETS and _times_s[bucket] < duration_s:
        bucket += 1
    series.late_counts[bucket] += number
    series.duration_sum_s += duration_s * number
    return 0


@cython.final
cdef class Series:
    """See `plain_counters.Series`."""

    def __init__(self, key):
        self.key = key

    def late(self, double duration_s, long long number=1):
        """See `plain_counters.Series.late`."""
        _late(self, duration_s, number)


@cython.final
cdef class SeriesTable:
    """See `plain_counters.SeriesTable`."""

    cdef readonly dict by_key

    def __init__(self):
        self.by_key = {}

    def count(
        self,
        listener,
        zone,
        view,
        qtype,
        rcode,
        do,
        plugin,
        Py_ssize_t request_size,
        Py_ssize_t response_size,
        double duration_s,
        kind="",
    ):
        """See `plain_counters.SeriesTable.count`."""
        cdef tuple key = (
            listener, zone, view, qtype if qtype in _names else 0, rcode, do, plugin,
            _size_bucket(request_size), _size_bucket(response_size), kind,
        )
        cdef object found = self.by_key.get(key)
        cdef Series series
        if found is None:
            found = self.by_key[key] = Series(SeriesKey(*key))
        series = <Series> found
        series.uses += 1
        series.request_bytes += request_size
        series.response_bytes += response_size
        if duration_s > _times_s[0]:
            _late(series, duration_s, 1)
        return series
