# A connection of the front, and the table of them, for C callers.
#
# `admit` takes in who was accepted; `turn` hears from epoll and tells each; a connection asks its table to be watched, to
# be given a time, and to be forgotten.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport SocketSink


cdef enum:
    LISTENING = -1                  # in place of a connection's serial
    READ_SIZE = 65536


cdef enum Life:
    GONE = 0                        # also what nobody has accepted
    READING = 1
    ANSWERING = 2
    LINGERING = 3
    STREAMING = 4


cdef class Connection(SocketSink):
    cdef:
        Connections table
        Subscriber subscriber
        readonly str address        # the client's IP address
        public object context       # the transport's, until the request is answered
        double due                  # when it is closed if it has not moved on; a stream has no such time
        uint32_t serial             # tells connections apart that had the same descriptor
        uint32_t dropped            # bytes the client sent that nobody wanted
        unsigned char _state
        bint chunked

    cdef int _send_or_go(self, bytes data) except -1
    cdef int _resume(self) except -1
    cdef int _linger(self) except -1
    cdef int happened(self, uint32_t events) except -1
    cdef int _read(self) except -1
    cdef int _writable(self) except -1
    cdef int _go(self, reason) except -1
    cdef int _complete(self, reason) except -1
    cdef int _close(self, reason, bint reset) except -1


cdef class Connections:
    cdef:
        readonly FanOut fanout
        readonly double head_seconds
        int epoll                   # -1: closed
        list by_descriptor
        object feed, resume, left   # the transport's
        object _late
        object _due                 # deque of (when, connection)
        uint32_t _serial
        double now
        char buffer[READ_SIZE]
        # plain counters; others read them
        readonly uint64_t accepted, late
        readonly int open, streams

    cdef int incoming(self) except -1
    cdef bint admit(self, int fd, str address) except -1
    cdef int close_late(self, double now) except -1
    cdef int watch(self, Connection connection, uint32_t events) except -1
    cdef int limit_time(self, Connection connection) except -1
    cdef int forget(self, Connection connection) except -1
    cdef int progressed(self, Subscriber subscriber) except -1


cdef int report(str what) except -1
