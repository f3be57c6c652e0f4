# What the fan-out hands over, and where it goes, for C callers.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.wire.gzip cimport Deflater


cdef enum Delivery:
    WRITTEN = 0
    BLOCKED = 1                     # taken, but nothing more until the subscriber is unblocked


cdef class Gzipped:                 # a batch as gzip streams have it
    cdef:
        readonly bytes data
        uint32_t check, shift, size # of what it was made of: see `wire.gzip`
        object _message
        bytes _chunk

    cdef message_(self)
    cdef bytes chunk_(self)


cdef class Batch:                   # what one or many subscribers are handed
    cdef:
        readonly bytes data
        readonly uint32_t events
        uint64_t published          # when the first of them was, wall clock in ms; 0: they are not news
        object _message             # the ASGI message and the chunk, each made once for all who are sent it
        bytes _chunk
        Deflater deflater           # what its gzip form is made by; None: it is stored
        bint apart                  # its events are of several channels: none refers to another
        bint quick                  # it is for who catches up
        Gzipped _gzipped

    cdef message_(self)
    cdef bytes chunk_(self)
    cdef Gzipped gzipped_(self)
    cdef bint has_chunk(self, bint gzipped) noexcept


cdef Batch batch_of(bytes data, uint32_t events)


cdef class Sink:
    cdef unsigned char takes_chunks # a SocketSink that waits for nothing: the fan-out may write chunks to it by itself
    cdef unsigned char gzipped      # it is handed gzip
    cdef public uint32_t charge     # bytes of kernel memory that a blocked one which cannot look is taken to hold
    cdef uint32_t check, size       # of all that it was handed, if that is gzip

    cdef int prepare(self, Batch batch) except -1
    cdef int deliver(self, Batch batch) except -1
    cdef bint moves(self) except -1
    cdef uint32_t held(self) noexcept
    cdef void count_in(self, Gzipped form) noexcept


cdef class SteppedSink(Sink):
    cdef readonly object send


cdef class SocketSink(Sink):
    cdef:
        int fd
        int in_flight               # bytes that the client had not taken yet when somebody last looked
        bytes rest                  # what is kept of a short write, from `rest_at`
        Py_ssize_t rest_at

    cdef int send_now(self, bytes data) except -1
    cdef int keep_rest(self, bytes data, Py_ssize_t taken) except -1
    cdef int flush(self) except -1
