"""A connection of the front: one client, which sends a request and is answered, or becomes a stream; and the table of them.

What it keeps: of an open stream one `Connection`, a few dozen bytes; of bytes not yet taken by a socket the rest of one
chunk, which is shared by all who were handed it. Of every connection that is not a stream, until when it may stay.
What it drops: whatever a client sends on an open stream, up to a bound; past it the connection.
Who is told: the transport (see `Connections`) of every request's bytes, of heads that come too late, and of every end.

All sockets hang in one epoll descriptor, and that one hangs in the event loop, which calls `turn`. It parses no HTTP,
decides nothing, accepts nobody, and knows neither hub nor log.
"""

import logging
import os
from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.linux cimport (
    EAGAIN,
    EINTR,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    MSG_DONTWAIT,
    SHUT_WR,
    SO_LINGER,
    SOL_SOCKET,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    errno,
    linger,
    recv,
    setsockopt,
    shutdown,
)
from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport BLOCKED, WRITTEN, Batch, SocketSink, batch_of
from sse_fast._native.wire.control cimport closing
from sse_fast.ends import ENDS, Close
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR
cdef frozenset RESET = frozenset(reason for reason, end in ENDS.items() if end.close is Close.RESET)
cdef frozenset COMPLETE = frozenset(reason for reason, end in ENDS.items() if end.close is Close.COMPLETE)

logger = logging.getLogger("sse_fast.listener")

cdef enum:
    EVENTS_A_TURN = 128             # a stream opened takes some 20 us: a few milliseconds
    DROPPED_MOST = 65536            # bytes a client may send on an open stream, or after its request
    WATCHED = EPOLLIN | EPOLLRDHUP

cdef int report(str what) except -1:
    """Log the error that is being handled; where memory has run out, without a word."""
    try:
        logger.exception(what)
    except MemoryError:
        pass
    return 0


cdef tuple STATES = ("gone", "reading", "answering", "lingering", "streaming")

@cython.final
cdef class Connection(SocketSink):
    """One client: reads a request, then is answered, or becomes a stream. Made by `Connections`; it has no other maker."""

    def __dealloc__(self):
        if self._state != GONE:
            close(self.fd)

    @property
    def state(self):
        """"reading", "answering", "lingering" (the answer is out), "streaming" or "gone"."""
        return STATES[self._state]

    def answer(self, bytes data not None):
        """Send this, the whole answer, and close."""
        if self._state != READING:
            raise RuntimeError(f"a {self.state} connection cannot be answered")
        self._state = ANSWERING
        self.context = None
        self.table.limit_time(self)
        if self._send_or_go(data) == WRITTEN:
            self._linger()

    def stream(self, bytes opening not None, Subscriber subscriber not None, str address not None, bint chunked):
        """Become a stream: `opening` (head and first bytes) is sent, and then what the fan-out has for the subscriber,
        in chunks (RFC 9112, section 7.1) or as it is. At its end, which may be now, the transport's `left` is told this
        `address`. Raises RuntimeError: it is no stream, and nobody is told."""
        if self._state != READING:
            raise RuntimeError(f"a {self.state} connection cannot become a stream")
        self.context = None
        self.subscriber = subscriber
        self.address = address
        self._state = STREAMING
        self.chunked = chunked
        self.table.streams += 1
        try:
            if self._send_or_go(opening) == WRITTEN:
                self._resume()
        except Exception:           # from here on `left` is owed, and nobody else may tell it
            self._go(ERROR)
            report("a stream could not begin; the others go on")

    def abort(self):
        """Close without another word."""
        if self._state != GONE:
            self._go(ERROR)

    # ---- as the fan-out's sink --------------------------------------------------------------------------------------

    cdef int prepare(self, Batch batch) except -1:
        if self.chunked:
            batch.chunk_()
        return 0

    cdef int deliver(self, Batch batch) except -1:
        return self.send_now(batch.chunk_() if self.chunked else batch.data)

    cdef int keep_rest(self, bytes data, Py_ssize_t taken) except -1:
        SocketSink.keep_rest(self, data, taken)
        self.takes_chunks = False
        # Of one that is answered nothing else matters any more, and it may have closed its own side.
        self.table.watch(self, WATCHED | EPOLLOUT if self._state == STREAMING else EPOLLOUT)
        return 0

    def ended(self, reason, error):
        """The fan-out has let it go."""
        self.subscriber = None
        if reason is ERROR and isinstance(error, OSError):
            reason = CLIENT
        if reason in COMPLETE and self.rest is None:
            self._complete(reason)
        self._close(reason, reset=reason in RESET)

    # ---- its life ---------------------------------------------------------------------------------------------------

    cdef int _send_or_go(self, bytes data) except -1:
        try:
            return self.send_now(data)
        except OSError:
            self._go(CLIENT)
            return BLOCKED

    cdef int _resume(self) except -1:
        """All is sent: the fan-out may write."""
        self.takes_chunks = self.chunked
        self.table.resume(self.subscriber)
        return 0

    cdef int _linger(self) except -1:
        """The answer is out. Wait for the client to close: to close while its bytes are unread would reset the
        connection, and the answer might be lost (RFC 9112, section 9.6)."""
        self._state = LINGERING
        shutdown(self.fd, SHUT_WR)
        self.table.limit_time(self)
        return 0

    cdef int happened(self, uint32_t events) except -1:
        """What epoll says about it."""
        if events & EPOLLIN and not events & (EPOLLERR | EPOLLHUP):
            self._read()
        if self._state == GONE:
            return 0
        if events & (EPOLLERR | EPOLLHUP) or (events & EPOLLRDHUP and self._state != ANSWERING):
            self._go(CLIENT)
        elif events & EPOLLOUT:
            self._writable()
        return 0

    cdef int _read(self) except -1:
        cdef ssize_t got = recv(self.fd, self.table.buffer, READ_SIZE, MSG_DONTWAIT)
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                self._go(CLIENT)
        elif got == 0:
            if self._state != ANSWERING:
                self._go(CLIENT)
        elif self._state == READING:
            self.table.feed(self, PyBytes_FromStringAndSize(self.table.buffer, got))
        else:
            self.dropped += got
            if self.dropped > DROPPED_MOST:
                self._go(CLIENT)
        return 0

    cdef int _writable(self) except -1:
        cdef bytes was = self.rest
        cdef Py_ssize_t at = self.rest_at
        try:
            if self.flush() == BLOCKED:
                if self.subscriber is not None and self.rest_at > at:
                    self.table.progressed(self.subscriber)
                return 0
        except OSError:
            self._go(CLIENT)
            return 0
        self.table.watch(self, WATCHED)
        if self._state == STREAMING:
            self._resume()
        elif self._state == ANSWERING and was is not None:
            self._linger()
        return 0

    cdef int _go(self, reason) except -1:
        """The client is gone, or has to go: leave the fan-out, then close."""
        cdef Subscriber subscriber = self.subscriber
        self.subscriber = None
        if subscriber is not None:
            self.table.fanout.let_go(subscriber)
        self._close(reason, reset=reason in RESET or self._state != STREAMING and reason is ERROR)
        return 0

    cdef int _complete(self, reason) except -1:
        """The last frame, and the end of the response. Who does not take it at once is cut."""
        cdef Batch last = batch_of(closing(ENDS[reason].told), 0)
        try:
            self.send_now(last.chunk_() + b"0\r\n\r\n" if self.chunked else last.data)
        except OSError:
            pass                    # it has gone by itself
        return 0

    cdef int _close(self, reason, bint reset) except -1:
        cdef linger at_once
        cdef int was = self._state
        if was == GONE:
            return 0
        self._state = GONE
        self.takes_chunks = False
        self.rest = None
        self.context = None
        if reset:                   # what waits in the kernel for a client that does not read goes with it
            at_once.l_onoff = 1
            at_once.l_linger = 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
        self.table.forget(self)
        if was == STREAMING:
            self.table.streams -= 1
            try:
                self.table.left(self.address, reason)
            except Exception:
                report("the end of a stream could not be told; the others go on")
        return 0


cdef class Connections:
    """Connections(listening, fanout, transport, *, head_seconds=10): those that are open, by descriptor, and what has happened to them.

    Made as a `Listener`, which knows the `listening` socket. `transport` has `feed(connection, data)`: bytes of a request; `late(connection)`: its head did not come within
    `head_seconds`; `resume(subscriber)`: it may be written to; `left(address, reason)`: a stream has ended.
    """

    def __cinit__(self, listening, FanOut fanout not None, transport, *, double head_seconds=10.0, **_):
        self.epoll = -1
        self.fanout = fanout
        self.head_seconds = head_seconds
        self.feed, self._late, self.resume, self.left = transport.feed, transport.late, transport.resume, transport.left
        self.by_descriptor = []
        self._due = deque()
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.epoll >= 0:
            close(self.epoll)

    def fileno(self):
        """The epoll descriptor: when it is readable, call `turn`."""
        return self.epoll

    def turn(self):
        """Handle what has happened, up to a bound; the rest stays for the next call."""
        cdef epoll_event events[EVENTS_A_TURN]
        cdef int count, i
        cdef uint64_t key
        cdef Connection connection
        if self.epoll < 0:
            return
        with nogil:
            count = epoll_wait(self.epoll, events, EVENTS_A_TURN, 0)
        for i in range(count):
            key = events[i].data.u64
            if key >> 32 == <uint32_t>LISTENING:
                self.incoming()
                continue
            # The descriptor may have been closed, and given to another connection, since epoll looked.
            connection = self.by_descriptor[key & 0xFFFFFFFF]
            if connection is not None and connection.serial == key >> 32:
                try:
                    connection.happened(events[i].events)
                except Exception:
                    connection.abort()
                    report("a connection failed and is closed; the others go on")

    cdef int incoming(self) except -1:
        """Somebody is at the listening socket, which is watched under the serial LISTENING."""
        return 0

    cdef int close_late(self, double now) except -1:
        """Close what takes too long."""
        cdef Connection connection
        while self._due and self._due[0][0] <= now:
            due, connection = self._due.popleft()
            if connection._state == GONE or connection._state == STREAMING or connection.due > due:
                continue
            if connection._state == READING:
                self.late += 1
                try:
                    self._late(connection)
                except Exception:
                    connection.abort()
                    report("a late connection could not be answered; it is closed")
            else:
                connection._go(CLIENT)
        return 0

    cdef bint admit(self, int fd, str address) except -1:
        """Take in a client that was accepted. False: the kernel has no room for another watch; `fd` stays the caller's."""
        cdef Connection connection
        cdef epoll_event interest
        try:
            connection = Connection.__new__(Connection)
        except MemoryError:
            close(fd)
            raise
        self._serial = (self._serial + 1) & 0x7FFFFFFF
        connection.fd = fd
        connection._state = READING     # from here on it closes the descriptor when it dies
        connection.serial = self._serial
        connection.table = self
        connection.address = address
        while len(self.by_descriptor) <= fd:
            self.by_descriptor.append(None)
        interest.events = WATCHED
        interest.data.u64 = (<uint64_t>connection.serial << 32) | <uint32_t>fd
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &interest) < 0:
            connection._state = GONE
            return False
        self.by_descriptor[fd] = connection
        self.open += 1
        self.accepted += 1
        # Its request is there already where accepting is deferred until it is, and under load.
        try:
            connection._read()
            if connection._state == READING:
                self.limit_time(connection)
        except Exception:
            connection.abort()
            report("a connection failed and is closed; the others go on")
        return True

    # ---- for connections --------------------------------------------------------------------------------------------

    cdef int watch(self, Connection connection, uint32_t events) except -1:
        cdef epoll_event interest
        interest.events = events
        interest.data.u64 = (<uint64_t>connection.serial << 32) | <uint32_t>connection.fd
        epoll_ctl(self.epoll, EPOLL_CTL_MOD, connection.fd, &interest)
        return 0

    cdef int limit_time(self, Connection connection) except -1:
        connection.due = self.now + self.head_seconds
        self._due.append((connection.due, connection))
        return 0

    cdef int forget(self, Connection connection) except -1:
        self.by_descriptor[connection.fd] = None
        self.open -= 1
        close(connection.fd)
        connection.fd = -1          # the number will be somebody else's
        return 0

    cdef int progressed(self, Subscriber subscriber) except -1:
        """It takes bytes, if only a few: not one that makes no progress."""
        subscriber.touched = max(subscriber.touched, self.now)
        return 0
