# Histograms for C callers: `add`.

from libc.stdint cimport uint64_t


cdef enum:
    SIZE = 14                       # bounds


cdef class Histogram:
    cdef:
        uint64_t _counts[SIZE + 1]
        readonly uint64_t nanoseconds   # that all took together

    cdef void add(self, uint64_t nanoseconds, uint64_t count) noexcept
