# What the compiled lane knows of a Series: its counters, as C has them.
cdef class Series:
    cdef public long long uses
    cdef public long long request_bytes
    cdef public long long response_bytes
    cdef public double duration_sum_s
    cdef public list late_counts
    cdef readonly object key
