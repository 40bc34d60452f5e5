# cython: language_level=3
"""`Life` in C: 64 bytes of numbers, instead of an object with an object for each number. `plain_life.Life` is its twin.

A field that was never set is 0, where the twin raises AttributeError; whoever makes a Life sets them all.
"""

cimport cython


@cython.final
cdef class Life:
    """See `plain_life.Life`."""
