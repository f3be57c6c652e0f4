# What is due when, for C callers.

from libc.stdint cimport uint64_t


cdef struct Due:
    double when
    uint64_t who


cdef class Dues:
    cdef:
        Due* heap                   # the first is the earliest
        readonly Py_ssize_t count
        Py_ssize_t room             # for so many

    cdef int push(self, double when, uint64_t who) except -1
    cdef bint pop(self, double now, Due* earliest) noexcept
    cdef int keep(self, Py_ssize_t count) except -1
    cdef void _sink(self, Py_ssize_t at, Due one) noexcept
    cdef int _resize(self, Py_ssize_t room) except -1
    cdef void _shrink(self) noexcept
