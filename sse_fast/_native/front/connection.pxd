# A connection of the front, for C callers.

from libc.stdint cimport uint32_t

from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.front.places cimport Link, Place
from sse_fast._native.front.table cimport Watched


cdef enum Life:
    GONE = 0                        # also what nobody has accepted
    READING = 1
    WAITING = 2
    FINISHING = 3
    ANSWERING = 4
    LINGERING = 5
    STREAMING = 6


cdef class Connection(Watched):
    cdef:
        Subscriber subscriber
        readonly object address     # the client's IP address; of a stream, what it was counted in by
        public object context       # who has it, until the exchange is over; of a stream, who is told of its end
        bytes kept                  # bytes that came ahead of their exchange
        uint32_t dropped            # bytes the client sent that nobody wanted
        # Flags: a bint has four bytes, and each of them is there as often as there are streams.
        unsigned char _state
        unsigned char chunked
        unsigned char idle          # nothing of a request has come
        unsigned char served        # an exchange was here
        unsigned char feeding
        unsigned char parked        # a stream that waits for `start`
        unsigned char quiet         # the stream's client is told nothing but events
        unsigned char tunnelling, half_closed, shutting
        unsigned char heading       # part of a request's head has come
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
    cdef bint has_unread(self) noexcept
    cdef int _ignore(self) except -1
    cdef int _read(self) except -1
    cdef int _feed(self, bytes data) except -1
    cdef bint _publish_known(self, bytes data) except -1
    cdef int _wait_for(self, bytes data, Py_ssize_t taken) except -1
    cdef int _writable(self) except -1
    cdef int _go(self, reason) except -1
    cdef int _say_last(self, reason) except -1
    cdef bytes _gzip_end(self, bytes words)
    cdef int _close(self, reason, bint reset) except -1
