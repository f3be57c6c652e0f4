# A connection of the front, and the table of them, for C callers.
#
# `admit` takes in who was accepted; `turn` hears from epoll and tells each; a connection asks its table to be watched, to
# be given a time, and to be forgotten. Other sockets of the front hang in the same table, as `Watched`.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport SocketSink
from sse_fast._native.front.dues cimport Dues
from sse_fast._native.front.places cimport Link, Place, Queues
from sse_fast._native.front.posts cimport Posts


cdef enum:
    LISTENING = -1                  # in place of a connection's serial
    READ_SIZE = 65536


cdef enum Life:
    GONE = 0                        # also what nobody has accepted
    READING = 1
    WAITING = 2
    FINISHING = 3
    ANSWERING = 4
    LINGERING = 5
    STREAMING = 6


cdef class Connections


cdef class Watched(SocketSink):     # a socket that hangs in the table; subclasses have `happened` and `abort`
    cdef:
        Connections table
        uint32_t serial             # tells those apart that had the same descriptor; 0: the descriptor is not its own
        uint32_t watched            # what epoll tells of it

    cdef int happened(self, uint32_t events) except -1


cdef class Connection(Watched):
    cdef:
        Subscriber subscriber
        readonly object address     # the client's IP address; of a stream, what it was counted in by
        public object context       # who has it, until the exchange is over; of a stream, who is told of its end
        bytes kept                  # bytes that came ahead of their exchange
        double due                  # when its time is over
        double queued               # when that is looked at
        uint32_t dropped            # bytes the client sent that nobody wanted
        unsigned char _state
        bint chunked
        bint idle                   # nothing of a request has come
        bint served                 # an exchange was here
        bint feeding
        bint parked                 # a stream that waits for `start`
        bint tunnelling, half_closed, shutting
        bint heading       # part of a request's head has come
        Place place                 # its address', while it is no stream
        Link in_all, in_place       # where it waits to make room

    cdef int _under_way(self, str what) except -1
    cdef uint32_t _interest(self) noexcept
    cdef int _rewatch(self) except -1
    cdef int _send_or_go(self, bytes data) except -1
    cdef int _resume(self) except -1
    cdef int _over(self, bint last) except -1
    cdef int _begin(self) except -1
    cdef int _linger(self) except -1
    cdef int _queue_unsaid(self) except -1
    cdef int _queue_idle(self) except -1
    cdef bint _can_make_room(self) noexcept
    cdef int _leave_place(self) except -1
    cdef int _ignore(self) except -1
    cdef int _read(self) except -1
    cdef int _feed(self, bytes data) except -1
    cdef bint _publish_known(self, bytes data) except -1
    cdef int _writable(self) except -1
    cdef int _go(self, reason) except -1
    cdef int _complete(self, reason) except -1
    cdef int _close(self, reason, bint reset) except -1


cdef class Connections:
    cdef:
        readonly FanOut fanout
        readonly double head_seconds, idle_seconds, stuck_seconds, linger_seconds
        int epoll                   # -1: closed
        list by_descriptor
        object feed, resume, left   # the transport's
        object _late
        Queues queues               # who may make room for others
        Dues _due                   # whose time is over when, by key as epoll has it; holds no connection
        public Posts posts          # those that are known by their header block; None: none are
        bint lively                 # the last second look of a turn found something
        uint32_t turns
        int ahead                   # requests that were fed in this turn behind others of their connection
        uint32_t _serial
        double now
        char buffer[READ_SIZE]
        # plain counters; others read them
        readonly uint64_t accepted, late
        readonly int open, streams

    cdef int _look(self, int most) except -1
    cdef int incoming(self) except -1
    cdef bint admit(self, int fd, str address) except -1
    cdef int close_late(self, double now) except -1
    cdef int _expire(self, Connection connection) except -1
    cdef bint enter(self, Watched watched, int fd, uint32_t events) except -1
    cdef int watch(self, Watched watched, uint32_t events) except -1
    cdef int limit(self, Connection connection, double seconds) except -1
    cdef int _await(self, Connection connection) except -1
    cdef int forget(self, Watched watched) except -1
    cdef int progressed(self, Subscriber subscriber) except -1


cdef int report(str what) except -1
