"""The stream listener: subscribers on sockets that this module owns, beside those of an ASGI server.

What it keeps: of an open stream one `Connection`, a few dozen bytes; of bytes not yet taken by a socket the rest of one
chunk, which is shared by all who were handed it.
What it drops: whatever a client sends on an open stream, up to a bound; past it the connection.
Who is told: the transport (see `Listener`) of every request's bytes, of heads that come too late, and of every end.

All sockets hang in one epoll descriptor, and that one hangs in the event loop, which calls `turn`. It parses no HTTP,
decides nothing, and knows neither hub nor log.
"""

import logging
import os
from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strcmp, strcpy

from sse_fast._native.fanout.drain cimport FanOut, Subscriber
from sse_fast._native.base.linux cimport (
    AF_INET,
    AF_INET6,
    EAGAIN,
    ECONNABORTED,
    EINTR,
    EMFILE,
    ENFILE,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    INET6_ADDRSTRLEN,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SHUT_WR,
    SO_LINGER,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    accept4,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    errno,
    inet_ntop,
    linger,
    recv,
    send,
    setsockopt,
    shutdown,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
)
from sse_fast._native.fanout.sinks cimport BLOCKED, WRITTEN, Batch, SocketSink
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR, SHUTDOWN = EndReason.SHUTDOWN, SLOW = EndReason.SLOW

logger = logging.getLogger("sse_fast.listener")

cdef enum:
    EVENTS_A_TURN = 128             # a stream opened takes some 20 us: a few milliseconds
    ACCEPTS_A_TURN = 128
    LISTENING = -1                  # in place of a connection's serial
    READ_SIZE = 65536
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
    """One client: reads a request, then is answered, or becomes a stream. Made by `Listener`; it has no other maker."""

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
        self.listener._limit_time(self)
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
        self.listener.streams += 1
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
        self.listener._watch(self, WATCHED | EPOLLOUT if self._state == STREAMING else EPOLLOUT)
        return 0

    def ended(self, reason, error):
        """The fan-out has let it go: the client is told by an end without a last chunk, so that it comes back."""
        self.subscriber = None
        if reason is ERROR and isinstance(error, OSError):
            reason = CLIENT
        self._close(reason, reset=reason is SLOW)

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
        self.listener._resume(self.subscriber)
        return 0

    cdef int _linger(self) except -1:
        """The answer is out. Wait for the client to close: to close while its bytes are unread would reset the
        connection, and the answer might be lost (RFC 9112, section 9.6)."""
        self._state = LINGERING
        shutdown(self.fd, SHUT_WR)
        self.listener._limit_time(self)
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
        cdef ssize_t got = recv(self.fd, self.listener._buffer, READ_SIZE, MSG_DONTWAIT)
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                self._go(CLIENT)
        elif got == 0:
            if self._state != ANSWERING:
                self._go(CLIENT)
        elif self._state == READING:
            self.listener._feed(self, PyBytes_FromStringAndSize(self.listener._buffer, got))
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
                    self.listener.progressed(self.subscriber)
                return 0
        except OSError:
            self._go(CLIENT)
            return 0
        self.listener._watch(self, WATCHED)
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
            self.listener.fanout.let_go(subscriber)
        self._close(reason, reset=reason is ERROR)
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
        self.listener._forget(self)
        if was == STREAMING:
            self.listener.streams -= 1
            try:
                self.listener._left(self.address, reason)
            except Exception:
                report("the end of a stream could not be told; the others go on")
        return 0


cdef class Listener:
    """Listener(listening, fanout, transport, *, head_seconds=10, most=…): the connections of one listening socket.

    `listening`: a non-blocking TCP socket in the listening state; it stays the caller's. `transport` has
    `feed(connection, data)`: bytes of a request; `late(connection)`: its head did not come within `head_seconds`;
    `resume(subscriber)`: it may be written to; `left(address, reason)`: a stream has ended; and `turn_away(data)`, which
    returns what a client that sent this is answered when there are no descriptors left, or `most` connections.
    """

    def __cinit__(self, listening, FanOut fanout not None, transport, *, double head_seconds=10.0, int most=1 << 30):
        self._epoll = self._spare = -1
        self.fanout = fanout
        self.head_seconds = head_seconds
        self._most = most
        self._transport = transport
        self._feed, self._late, self._resume, self._left = transport.feed, transport.late, transport.resume, transport.left
        self._connections = []
        self._due = deque()
        self._listening = listening.fileno()
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, os.strerror(errno))
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._listen(True)
        if self._paused:
            raise OSError(errno, f"the listening socket cannot be watched: {os.strerror(errno)}")

    def __dealloc__(self):
        if self._spare >= 0:
            close(self._spare)
        if self._epoll >= 0:
            close(self._epoll)

    def fileno(self):
        """The epoll descriptor: when it is readable, call `turn`."""
        return self._epoll

    def turn(self):
        """Handle what has happened, up to a bound; the rest stays for the next call."""
        cdef epoll_event events[EVENTS_A_TURN]
        cdef int count, i
        cdef uint64_t key
        cdef Connection connection
        if self._epoll < 0:
            return
        with nogil:
            count = epoll_wait(self._epoll, events, EVENTS_A_TURN, 0)
        for i in range(count):
            key = events[i].data.u64
            if key >> 32 == <uint32_t>LISTENING:
                self._accept_some()
                continue
            # The descriptor may have been closed, and given to another connection, since epoll looked.
            connection = self._connections[key & 0xFFFFFFFF]
            if connection is not None and connection.serial == key >> 32:
                try:
                    connection.happened(events[i].events)
                except Exception:
                    connection.abort()
                    report("a connection failed and is closed; the others go on")

    def tick(self, double now):
        """Housekeeping, a few times a second: `now` is seconds on a steady clock. Closes what takes too long."""
        cdef Connection connection
        self._now = now
        if self._paused:
            self._listen(True)
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

    def stop_accepting(self):
        """No more connections; those that are there go on."""
        if not self._stopped:
            self._stopped = True
            self._listen(False)

    def close(self):
        """Close every connection; streams are ended as by a shutdown. Again: nothing happens."""
        cdef Connection connection
        if self._epoll < 0:
            return
        self.stop_accepting()
        for connection in self._connections:    # as many to the end: nobody is admitted any more
            if connection is not None:
                connection._go(SHUTDOWN)
        close(self._epoll)
        self._epoll = -1

    # ---- accepting --------------------------------------------------------------------------------------------------

    cdef int _accept_some(self) except -1:
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef int fd
        for _ in range(ACCEPTS_A_TURN):
            if self._stopped:
                return 0
            length = sizeof(address)
            fd = accept4(self._listening, <sockaddr*>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if errno == EAGAIN:
                    return 0
                if errno == ECONNABORTED or errno == EINTR:
                    continue        # that client has gone already
                if errno != EMFILE and errno != ENFILE or not self._make_room():
                    # Whoever waits would make the loop spin; look again with the next tick.
                    self._listen(False)
                    self._paused = True
                    return 0
                continue
            if self.open >= self._most:
                self._turn_away(fd)
                continue
            self._admit(fd, &address)
        return 0

    cdef int _admit(self, int fd, sockaddr_storage* address) except -1:
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
        connection.listener = self
        connection.address = self._address_of(address)
        while len(self._connections) <= fd:
            self._connections.append(None)
        interest.events = WATCHED
        interest.data.u64 = (<uint64_t>connection.serial << 32) | <uint32_t>fd
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &interest) < 0:
            connection._state = GONE
            self._turn_away(fd)     # the kernel has no room for another watch
            return 0
        self._connections[fd] = connection
        self.open += 1
        self.accepted += 1
        # Its request is there already where accepting is deferred until it is, and under load.
        try:
            connection._read()
            if connection._state == READING:
                self._limit_time(connection)
        except Exception:
            connection.abort()
            report("a connection failed and is closed; the others go on")
        return 0

    cdef bint _make_room(self) except -1:
        """No descriptor is left: the spare one lets somebody in to be told so. False: not even that."""
        cdef int fd
        if self._spare < 0:
            self._reserve()
        if self._spare >= 0:
            close(self._spare)
            self._spare = -1
            fd = accept4(self._listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self._turn_away(fd)
            self._reserve()
            return fd >= 0
        return False

    cdef int _reserve(self) except -1:
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = -1        # taken by another thread meanwhile
        return 0

    cdef int _turn_away(self, int fd) except -1:
        """Say that the server is full, going by as much of the request as has come."""
        cdef bytes answer
        cdef ssize_t got
        self.turned_away += 1
        try:
            got = recv(fd, self._buffer, READ_SIZE, MSG_DONTWAIT)
            answer = self._transport.turn_away(PyBytes_FromStringAndSize(self._buffer, max(got, 0)))
            if answer:
                send(fd, PyBytes_AS_STRING(answer), PyBytes_GET_SIZE(answer), MSG_DONTWAIT | MSG_NOSIGNAL)
                # Reading what has come meanwhile makes the close an end and not a reset, which could overtake the answer.
                shutdown(fd, SHUT_WR)
                recv(fd, self._buffer, READ_SIZE, MSG_DONTWAIT)
        except Exception:
            report("a client could not be turned away with words; its connection is closed")
        finally:
            close(fd)
        return 0

    # ---- for connections --------------------------------------------------------------------------------------------

    cdef int _watch(self, Connection connection, uint32_t events) except -1:
        cdef epoll_event interest
        interest.events = events
        interest.data.u64 = (<uint64_t>connection.serial << 32) | <uint32_t>connection.fd
        epoll_ctl(self._epoll, EPOLL_CTL_MOD, connection.fd, &interest)
        return 0

    cdef int _listen(self, bint listen) except -1:
        cdef epoll_event interest
        interest.events = EPOLLIN
        interest.data.u64 = <uint64_t><uint32_t>LISTENING << 32
        cdef int failed = epoll_ctl(self._epoll, EPOLL_CTL_ADD if listen else EPOLL_CTL_DEL, self._listening, &interest)
        self._paused = listen and failed < 0    # the kernel has no memory for it now: try again with the next tick
        return 0

    cdef int _limit_time(self, Connection connection) except -1:
        connection.due = self._now + self.head_seconds
        self._due.append((connection.due, connection))
        return 0

    cdef int _forget(self, Connection connection) except -1:
        self._connections[connection.fd] = None
        self.open -= 1
        close(connection.fd)
        connection.fd = -1          # the number will be somebody else's
        return 0

    cdef int progressed(self, Subscriber subscriber) except -1:
        """It takes bytes, if only a few: not one that makes no progress."""
        subscriber.touched = max(subscriber.touched, self._now)
        return 0

    cdef str _address_of(self, sockaddr_storage* address):
        """The client's IP address; of one that is IPv4 within IPv6, the IPv4 address."""
        cdef char text[INET6_ADDRSTRLEN]
        if address.ss_family == AF_INET:
            inet_ntop(AF_INET, &(<sockaddr_in*>address).sin_addr, text, sizeof(text))
        elif address.ss_family == AF_INET6:
            inet_ntop(AF_INET6, &(<sockaddr_in6*>address).sin6_addr, text, sizeof(text))
        else:
            return "local"
        if strcmp(text, self._last_text) != 0:  # behind a proxy all have one address, and share one string
            found = text.decode("ascii")
            self._last_address = found.removeprefix("::ffff:") if "." in found else found
            strcpy(self._last_text, text)
        return self._last_address
