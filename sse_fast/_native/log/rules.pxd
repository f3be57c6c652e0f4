# What holds for the channels of a pattern, for C callers.

from sse_fast._native.log.channels cimport Rule


cdef class Rules:
    cdef:
        tuple _rules
        Py_ssize_t count
        bint hide                   # whether one shows less than is kept
        bint conflate               # whether one conflates

    cdef Rule of(self, bytes name)
    cdef bint conflates_of(self, bytes pattern) noexcept
