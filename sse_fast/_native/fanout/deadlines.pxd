# Whose time is up, for C callers.
#
# `park` and `unpark` keep who is blocked, `weigh` what each holds of the kernel's memory. `silent`, `overdue` and `owing`
# say who is to get a heartbeat, has taken too long, and is to give back memory; the drain does it.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.groups cimport Groups, Subscriber


cdef class Deadlines:
    cdef:
        Groups _groups
        list _blocked               # room for every subscriber; those who are come first
        Py_ssize_t blocked
        Py_ssize_t _next            # who was looked at last for a heartbeat
        uint64_t held               # bytes of kernel memory that wait for the clients of sockets, when last looked at

    cdef int reserve(self) except -1
    cdef void park(self, Subscriber subscriber) noexcept
    cdef void unpark(self, Subscriber subscriber) noexcept
    cdef void weigh(self, Subscriber subscriber, uint32_t held) noexcept
    cdef Subscriber silent(self, Py_ssize_t* looks, double now, double idle)
    cdef Subscriber overdue(self, Py_ssize_t* at, Subscriber last, double now, double timeout)
    cdef list longest(self, Py_ssize_t count, Py_ssize_t looks)
    cdef list owing(self, Py_ssize_t count, double now, double since)
