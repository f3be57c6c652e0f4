"""The newest event of each key of a conflated channel: so it is known which one a newer one supersedes.

What it keeps: of a key's hash the number of a link, in a table of fixed size: buckets of WAYS places. What it drops: the
oldest of a bucket that is full. Who is told: nobody. A key that was dropped supersedes nothing when it comes again: then
who lags gets both events, and loses none. So the table needs no more room, however many keys there are, and no turn.
"""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint64_t

cdef enum:
    WAYS = 8                        # 128 bytes: two lines of the cache


cdef struct Place:
    uint64_t hashed
    uint64_t link                   # 0: it is free


@cython.final
cdef class Newest:
    """Newest(keys): room for so many, rounded up to a power of two; the memory is had with the first."""

    def __cinit__(self, uint64_t keys):
        self._buckets = 1
        while self._buckets * WAYS < keys:
            self._buckets *= 2

    def __dealloc__(self):
        PyMem_RawFree(self._places)

    cdef uint64_t replace(self, uint64_t hashed, uint64_t link) noexcept:
        """This link is the newest of a key. Returns the one that was, or 0."""
        cdef Place* place
        cdef Place* oldest
        cdef uint64_t before
        cdef int i
        if self._places == NULL:
            self._places = PyMem_RawCalloc(self._buckets * WAYS, sizeof(Place))
            if self._places == NULL:
                return 0
        # The low bits tell the keys of a bucket apart.
        place = oldest = &(<Place*>self._places)[((hashed >> 32) & (self._buckets - 1)) * WAYS]
        for i in range(WAYS):
            if place.link and place.hashed == hashed:
                before = place.link
                place.link = link
                return before
            if place.link < oldest.link:
                oldest = place
            place += 1
        oldest.hashed, oldest.link = hashed, link
        return 0
