# The table of a front's sockets, for C callers.
#
# `turn` hears from epoll and tells each socket; a socket asks its table to be watched, to be given a time, and to be
# forgotten. What connections have in common is here, too.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport SocketSink
from sse_fast._native.front.dues cimport Due, Dues
from sse_fast._native.front.places cimport Queues
from sse_fast._native.front.posts cimport Posts


cdef enum:
    LISTENING = -1                  # in place of a socket's serial
    READ_SIZE = 65536


cdef class Table


cdef class Watched(SocketSink):     # a socket that hangs in the table; subclasses have `happened`, `expire` and `abort`
    cdef:
        Table table
        uint32_t serial             # tells those apart that had the same descriptor; 0: the descriptor is not its own
        uint32_t watched            # what epoll tells of it
        double due                  # when its time is over
        double queued               # when that is looked at

    cdef int happened(self, uint32_t events) except -1
    cdef int expire(self) except -1


cdef class Table:
    cdef:
        readonly FanOut fanout
        readonly double head_seconds, idle_seconds, stuck_seconds, linger_seconds
        int epoll                   # -1: closed
        list by_descriptor
        object feed, resume, left, tell_late    # the transport's
        Queues queues               # who may make room for others
        Dues _dues                  # whose time is over when, by key as epoll has it; holds no socket
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
    cdef int close_late(self, double now) except -1
    cdef bint enter(self, Watched watched, int fd, uint32_t events) except -1
    cdef int watch(self, Watched watched, uint32_t events) except -1
    cdef int limit(self, Watched watched, double seconds) except -1
    cdef int _await(self, Watched watched) except -1
    cdef Watched _whose(self, Due* due)
    cdef int _sweep(self) except -1
    cdef int forget(self, Watched watched) except -1
    cdef int progressed(self, Subscriber subscriber) except -1


cdef int report(str what) except -1
