# What the compiled lane knows of a Life: its numbers, as C has them.
cdef class Life:
    cdef public double stored_s
    cdef public double until_s
    cdef public double used_s
    cdef public double gap_s
    cdef public double recheck_s
    cdef public long long uses
