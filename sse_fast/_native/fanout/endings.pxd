# Whose stream ends when, for C callers.
#
# `add` puts in a subscriber that has an end, `remove` takes it out wherever it is. `due` is the one whose moment has come:
# to be told that its end is near, after which `warned` puts it back, or to be ended.

from sse_fast._native.fanout.groups cimport Subscriber


cdef class Endings:
    cdef:
        list _heap

    cdef int add(self, Subscriber subscriber) except -1
    cdef void remove(self, Subscriber subscriber) noexcept
    cdef Subscriber due(self, double wall)
    cdef void warned(self, Subscriber subscriber) noexcept
    cdef void put_off(self, Subscriber subscriber, double until) noexcept
    cdef void _put(self, Py_ssize_t at, Subscriber subscriber) noexcept
    cdef void _settle(self, Py_ssize_t at, Subscriber subscriber) noexcept
