"""The sockets of a front: all hang in one epoll descriptor, and that one hangs in the event loop, which calls `turn`.

What it keeps: those that are open, by descriptor; and when the time of each is over, 16 bytes for each that has a time,
twice as much at most.
What it drops: what it kept of a socket's time, when the socket is closed, or has no end of time any more.
Who is told: each socket, of what epoll says of it, and of its time; see `Watched`.

It parses nothing, accepts nobody, and knows neither hub nor log.
"""

import logging
import os

from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.linux cimport (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    errno,
)
from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.front.dues cimport Due, Dues
from sse_fast._native.front.places cimport begin_queues, end_queues

logger = logging.getLogger("sse_fast.listener")

cdef enum:
    EVENTS_A_TURN = 128             # a stream opened takes some 20 us: a few milliseconds
    LOOKS_A_TURN = 8
    LOOK_EVERY = 16                 # turns

cdef int report(str what) except -1:
    """Log the error that is being handled; where memory has run out, without a word."""
    try:
        logger.exception(what)
    except MemoryError:
        pass
    return 0


cdef class Watched(SocketSink):
    """A socket that hangs in the table. `happened` is what epoll says of it, `expire` that its time is over; where either
    fails, it is to `abort`."""

    def __cinit__(self):
        self.due = self.queued = INFINITY

    def __dealloc__(self):
        if self.serial:
            close(self.fd)

    @property
    def unsent(self):
        """Bytes that it was sent and the kernel has not taken yet."""
        return len(self.rest) - self.rest_at if self.rest is not None else 0

    def abort(self):
        """Close without another word. Again: nothing happens."""
        raise NotImplementedError

    cdef int happened(self, uint32_t events) except -1:
        return 0

    cdef int expire(self) except -1:
        return 0


cdef class Table:
    """Table(listening, fanout, transport, *, head_seconds=10, idle_seconds=60, stuck_seconds=30, linger_seconds=2): the
    sockets that are open, by descriptor, and what has happened to them.

    Made as a `Listener`, which knows the `listening` socket. `transport` has, for connections that nobody else has (see
    `Connection`), `feed(connection, data)`: the beginning of a request; `late(connection)`: it said nothing within
    `head_seconds`. Also `resume(subscriber)`: it may be written to; `left(counted, reason)`: a stream has ended.
    `idle_seconds`: between two exchanges. `stuck_seconds`: for the client to take anything of what is sent.
    `linger_seconds`: after a last answer.
    """

    def __cinit__(
        self,
        listening,
        FanOut fanout not None,
        transport,
        *,
        double head_seconds=10.0,
        double idle_seconds=60.0,
        double stuck_seconds=30.0,
        double linger_seconds=2.0,
        **_,
    ):
        self.epoll = -1
        begin_queues(&self.queues)
        self.fanout = fanout
        self.head_seconds, self.idle_seconds = head_seconds, idle_seconds
        self.stuck_seconds, self.linger_seconds = stuck_seconds, linger_seconds
        self.feed, self.tell_late, self.resume, self.left = transport.feed, transport.late, transport.resume, transport.left
        self.by_descriptor = []
        self._dues = Dues()
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.queues.unsaid.after == NULL:    # its arguments were wrong: `epoll` says nothing, and 0 is somebody's
            return
        end_queues(&self.queues)
        if self.epoll >= 0:
            close(self.epoll)

    def fileno(self):
        """The epoll descriptor: when it is readable, call `turn`."""
        return self.epoll

    def turn(self):
        """Handle what has happened, up to a bound; the rest stays for the next call."""
        cdef int looks = 0, left = EVENTS_A_TURN, count
        self.ahead = 0
        while self.epoll >= 0:
            count = self._look(left)
            if looks:
                self.lively = count > 0
            looks += 1
            left -= count
            if count == 0 or left == 0 or looks == LOOKS_A_TURN:
                break
            # Clients that were answered may have sent something again: to look is far less than a turn of the loop.
            # Where that was for nothing it is tried now and then.
            self.turns += 1
            if not self.lively and self.turns % LOOK_EVERY:
                break
        if self.posts is not None and self.posts.news:
            self.posts.hand_out()

    cdef int _look(self, int most) except -1:
        """Handle so many of what has happened; how many."""
        cdef epoll_event events[EVENTS_A_TURN]
        cdef int count, i
        cdef uint64_t key
        cdef Watched watched
        with nogil:
            count = epoll_wait(self.epoll, events, most, 0)
        for i in range(count):
            key = events[i].data.u64
            if key >> 32 == <uint32_t>LISTENING:
                self.incoming()
                continue
            # The descriptor may have been closed, and given to another connection, since epoll looked.
            watched = self.by_descriptor[key & 0xFFFFFFFF]
            if watched is not None and watched.serial == key >> 32:
                try:
                    watched.happened(events[i].events)
                except Exception:
                    watched.abort()
                    report("a connection failed and is closed; the others go on")
        return max(count, 0)

    cdef int incoming(self) except -1:
        """Somebody is at the listening socket, which is watched under the serial LISTENING."""
        return 0

    cdef int close_late(self, double now) except -1:
        """Tell, or close, what takes too long."""
        cdef Watched watched
        cdef Due earliest
        while self._dues.pop(now, &earliest):
            watched = self._whose(&earliest)
            if watched is None:
                continue
            watched.queued = INFINITY
            if watched.due > now:
                self._await(watched)
                continue
            watched.due = INFINITY
            try:
                watched.expire()
            except Exception:
                watched.abort()
                report("a late connection could not be answered; it is closed")
        return 0

    # ---- for the sockets --------------------------------------------------------------------------------------------

    cdef bint enter(self, Watched watched, int fd, uint32_t events) except -1:
        """Watch a socket, and own it. False: the kernel has no room for another watch; then, and when MemoryError is
        raised, `fd` stays the caller's."""
        cdef epoll_event interest
        while len(self.by_descriptor) <= fd:
            self.by_descriptor.append(None)
        self._serial = self._serial % 0x7FFFFFFF + 1
        interest.events = events
        interest.data.u64 = (<uint64_t>self._serial << 32) | <uint32_t>fd
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &interest) < 0:
            return False
        watched.fd = fd
        watched.table = self
        watched.serial = self._serial   # from here on it closes the descriptor when it dies
        watched.watched = events
        self.by_descriptor[fd] = watched
        return True

    cdef int watch(self, Watched watched, uint32_t events) except -1:
        cdef epoll_event interest
        if events != watched.watched:
            watched.watched = events
            interest.events = events
            interest.data.u64 = (<uint64_t>watched.serial << 32) | <uint32_t>watched.fd
            epoll_ctl(self.epoll, EPOLL_CTL_MOD, watched.fd, &interest)
        return 0

    cdef int limit(self, Watched watched, double seconds) except -1:
        """It has so long from now."""
        watched.due = self.now + seconds
        if watched.due < watched.queued:
            self._await(watched)
        return 0

    cdef int _await(self, Watched watched) except -1:
        """Look at it when it is due. A later time is seen to then: most requests come long before."""
        if watched.due != INFINITY:
            if self._dues.count == self._dues.room:
                self._sweep()
            self._dues.push(watched.due, (<uint64_t>watched.serial << 32) | <uint32_t>watched.fd)
            watched.queued = watched.due
        return 0

    cdef Watched _whose(self, Due* due):
        """None: it has gone before, or was given less time since, or as much as it likes."""
        cdef Watched watched = self.by_descriptor[due.who & 0xFFFFFFFF]
        if watched is None or watched.serial != due.who >> 32 or watched.queued != due.when:
            return None
        return watched

    cdef int _sweep(self) except -1:
        """Instead of growing, drop what is nobody's. What is left is half of the room at most, so that this costs little
        however often it comes."""
        cdef Py_ssize_t at, left = 0
        for at in range(self._dues.count):
            if self._whose(&self._dues.heap[at]) is not None:
                self._dues.heap[left] = self._dues.heap[at]
                left += 1
        self._dues.keep(left)
        return 0

    cdef int forget(self, Watched watched) except -1:
        self.by_descriptor[watched.fd] = None
        close(watched.fd)
        watched.serial = 0
        watched.fd = -1             # the number will be somebody else's
        return 0

    cdef int progressed(self, Subscriber subscriber) except -1:
        """It takes bytes, if only a few: not one that makes no progress."""
        subscriber.touched = max(subscriber.touched, self.now)
        return 0

    @property
    def awaited(self):
        """How many times are waited for, those included that have become nobody's and were not dropped yet."""
        return self._dues.count
