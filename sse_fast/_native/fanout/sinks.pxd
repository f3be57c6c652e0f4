# What the fan-out hands over, and where it goes, for C callers.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.linux cimport EAGAIN, EINTR, ENOBUFS, ENOMEM


cdef enum Delivery:
    WRITTEN = 0
    BLOCKED = 1                     # taken, but nothing more until the subscriber is unblocked


cdef inline bint passing(int number) noexcept nogil:
    """Whether a send that failed with this number may be tried again later."""
    return number == EAGAIN or number == EINTR or number == ENOBUFS or number == ENOMEM


cdef class Batch:                   # what one or many subscribers are handed
    cdef:
        readonly bytes data
        readonly uint32_t events
        uint64_t published          # when the first of them was, wall clock in ms; 0: they are not news
        object _message             # the ASGI message and the chunk, each made once for all who are sent it
        bytes _chunk

    cdef message_(self)
    cdef bytes chunk_(self)


cdef Batch batch_of(bytes data, uint32_t events)


cdef class Sink:
    cdef bint takes_chunks          # a SocketSink that waits for nothing: the fan-out may write chunks to it by itself
    cdef public uint32_t charge     # bytes of kernel memory that a blocked one which cannot look is taken to hold

    cdef int prepare(self, Batch batch) except -1
    cdef int deliver(self, Batch batch) except -1
    cdef bint moves(self) except -1
    cdef uint32_t held(self) noexcept


cdef class SteppedSink(Sink):
    cdef readonly object send


cdef class SocketSink(Sink):
    cdef:
        int fd
        bytes rest                  # what is kept of a short write, from `rest_at`
        Py_ssize_t rest_at
        int in_flight               # bytes that the client had not taken yet when somebody last looked

    cdef int send_now(self, bytes data) except -1
    cdef int keep_rest(self, bytes data, Py_ssize_t taken) except -1
    cdef int flush(self) except -1
