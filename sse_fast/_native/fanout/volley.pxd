# Handing over, for C callers: `prepare` does all that may fail, then the cursor is moved, then `hand_over` writes, or
# gathers for `fire`. `leave` lets go of one and tells it; `remove` lets go of one that knows.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from sse_fast._native.base.histogram cimport Histogram
from sse_fast._native.base.queue cimport Queue
from sse_fast._native.fanout.deadlines cimport Deadlines
from sse_fast._native.fanout.endings cimport Endings
from sse_fast._native.fanout.groups cimport Groups, Subscriber
from sse_fast._native.fanout.sinks cimport Batch, Sink


cdef enum:
    VOLLEY = 64                     # sockets written in one loop without the GIL


cdef class Volley:
    cdef:
        Groups _groups
        Deadlines _deadlines
        Endings _endings
        Queue _again                # of subscribers that could not be told of their end
        # the sockets that are to be written this batch
        Batch _batch
        int _size
        PyObject* _subscribers[VOLLEY]
        int _fds[VOLLEY]
        unsigned char _gzipped[VOLLEY]
        uint64_t writes, deliveries, delivered_bytes
        uint64_t compressed_bytes, uncompressed_bytes   # of gzip streams: as they were delivered, and what that is of
        Histogram latency           # from the publish of news to its write
        int64_t now                 # wall clock in ms, as it was last read

    cdef bint prepare(self, Subscriber subscriber, Batch batch) except -1
    cdef int hand_over(self, Subscriber subscriber, Batch batch, double now) except -1
    cdef int fire(self) except -1
    cdef int leave(self, Subscriber subscriber, reason, error) except -1
    cdef void remove(self, Subscriber subscriber) noexcept
    cdef int tell_again(self, Subscriber subscriber) except -1
    cdef int _tell_end(self, Subscriber subscriber, Sink sink, reason, error) except -1
    cdef int _let_go(self, PyObject** subscribers, const Py_ssize_t* results, int size) except -1
    cdef void _count(self, Batch batch, bint gzipped, uint64_t writes) noexcept
