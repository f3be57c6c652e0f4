# The stream listener for C callers: the shape of its connections.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.drain cimport FanOut, Subscriber
from sse_fast._native.base.linux cimport INET6_ADDRSTRLEN, sockaddr_storage
from sse_fast._native.fanout.sinks cimport SocketSink


cdef enum Life:
    GONE = 0                        # also what nobody has accepted
    READING = 1
    ANSWERING = 2
    LINGERING = 3
    STREAMING = 4


cdef class Connection(SocketSink):
    cdef:
        Listener listener
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
    cdef int _close(self, reason, bint reset) except -1


cdef class Listener:
    cdef:
        readonly FanOut fanout
        readonly double head_seconds
        int _epoll, _listening, _spare
        int _most
        object _transport, _feed, _late, _resume, _left
        list _connections           # by descriptor
        object _due                 # deque of (when, connection)
        uint32_t _serial
        double _now
        bint _stopped, _paused
        char _buffer[65536]
        char _last_text[INET6_ADDRSTRLEN]
        str _last_address
        # plain counters; others read them
        readonly uint64_t accepted, turned_away, late
        readonly int open, streams

    cdef int _accept_some(self) except -1
    cdef int _admit(self, int fd, sockaddr_storage* address) except -1
    cdef bint _make_room(self) except -1
    cdef int _reserve(self) except -1
    cdef int _turn_away(self, int fd) except -1
    cdef int _watch(self, Connection connection, uint32_t events) except -1
    cdef int _listen(self, bint listen) except -1
    cdef int _limit_time(self, Connection connection) except -1
    cdef int _forget(self, Connection connection) except -1
    cdef str _address_of(self, sockaddr_storage* address)
    cdef int progressed(self, Subscriber subscriber) except -1
