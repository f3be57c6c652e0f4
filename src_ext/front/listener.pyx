"""The listener: accepts the clients of one listening socket, or turns them away.

What it keeps: one descriptor in reserve, so that a client that comes when none is left can be told so.
What it drops: connections over `most`, or over what there are descriptors for.
Who is told: a client that is turned away, in the transport's words. Where not even that can be done it waits for the next
tick.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strcmp, strcpy

from sse_fast._native.base.linux cimport (
    AF_INET,
    AF_INET6,
    EAGAIN,
    ECONNABORTED,
    EINTR,
    EMFILE,
    ENFILE,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLIN,
    INET6_ADDRSTRLEN,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    accept4,
    close,
    epoll_ctl,
    epoll_event,
    errno,
    inet_ntop,
    recv,
    send,
    shutdown,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
)
from sse_fast._native.front.connection cimport LISTENING, READ_SIZE, Connection, Connections, Watched, report
from sse_fast.errors import EndReason

cdef object SHUTDOWN = EndReason.SHUTDOWN

cdef enum:
    ACCEPTS_A_TURN = 128


cdef class Listener(Connections):
    """Listener(listening, fanout, transport, *, most=…, …): the connections of one listening socket.

    `listening`: a non-blocking TCP socket in the listening state; it stays the caller's. `transport` is as that of
    `Connections`, and has `turn_away(data)`, which returns what a client that sent this is answered when there are no
    descriptors left, or `most` connections.
    """

    def __cinit__(self, listening, fanout, transport, *, int most=1 << 30, **_):
        self._most = most
        self._words = transport.turn_away
        self._listening = listening.fileno()
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._reserved = True
        self._listen(True)
        if self._paused:
            raise OSError(errno, f"the listening socket cannot be watched: {os.strerror(errno)}")

    def __dealloc__(self):
        if self._reserved:
            close(self._spare)

    def tick(self, double now):
        """Housekeeping, a few times a second: `now` is seconds on a steady clock. Closes what takes too long."""
        self.now = now
        if self._paused:
            self._listen(True)
        self.close_late(now)

    def stop_accepting(self):
        """No more connections; those that are there go on."""
        if not self._stopped:
            self._stopped = True
            self._listen(False)

    def close(self):
        """Close every connection; streams are ended as by a shutdown. Again: nothing happens."""
        cdef Watched watched
        if self.epoll < 0:
            return
        self.stop_accepting()
        for watched in self.by_descriptor:       # as many to the end: nobody is admitted any more
            if isinstance(watched, Connection):
                (<Connection>watched)._go(SHUTDOWN)
            elif watched is not None:
                watched.abort()
        close(self.epoll)
        self.epoll = -1

    # ---- accepting --------------------------------------------------------------------------------------------------

    cdef int incoming(self) except -1:
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef int fd
        cdef str client
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
                    # Clients that wait would make the loop spin; look again with the next tick.
                    self._listen(False)
                    self._paused = True
                    return 0
                continue
            if self.open >= self._most:
                self._turn_away(fd)
                continue
            try:
                client = self._address_of(&address)
            except MemoryError:
                close(fd)
                raise
            if not self.admit(fd, client):
                self._turn_away(fd)
        return 0

    cdef bint _make_room(self) except -1:
        """No descriptor is left: the spare one lets somebody in to be told so. False: not even that."""
        cdef int fd
        if not self._reserved:
            self._reserve()
        if self._reserved:
            close(self._spare)
            self._reserved = False
            fd = accept4(self._listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self._turn_away(fd)
            self._reserve()
            return fd >= 0
        return False

    cdef int _reserve(self) except -1:
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            self._reserved = True
        except OSError:
            pass                    # taken by another thread meanwhile
        return 0

    cdef int _turn_away(self, int fd) except -1:
        """Say that the server is full, going by as much of the request as has come."""
        cdef bytes answer
        cdef ssize_t got
        self.turned_away += 1
        try:
            got = recv(fd, self.buffer, READ_SIZE, MSG_DONTWAIT)
            answer = self._words(PyBytes_FromStringAndSize(self.buffer, max(got, 0)))
            if answer:
                send(fd, PyBytes_AS_STRING(answer), PyBytes_GET_SIZE(answer), MSG_DONTWAIT | MSG_NOSIGNAL)
                # Reading what has come meanwhile makes the close an end and not a reset, which could overtake the answer.
                shutdown(fd, SHUT_WR)
                recv(fd, self.buffer, READ_SIZE, MSG_DONTWAIT)
        except Exception:
            report("a client could not be turned away with words; its connection is closed")
        finally:
            close(fd)
        return 0

    cdef int _listen(self, bint listen) except -1:
        cdef epoll_event interest
        interest.events = EPOLLIN
        interest.data.u64 = <uint64_t><uint32_t>LISTENING << 32
        cdef int failed = epoll_ctl(self.epoll, EPOLL_CTL_ADD if listen else EPOLL_CTL_DEL, self._listening, &interest)
        self._paused = listen and failed < 0    # the kernel has no memory for it now: try again with the next tick
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
