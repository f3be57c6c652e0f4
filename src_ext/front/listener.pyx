"""The listener: accepts the clients of one listening socket, or turns them away.

What it keeps: one descriptor in reserve, so that a client that comes when none is left can be told so. Of each address
that has connections which are no streams, how many.
What it drops: connections over `most`, over an address' part of the places, or over what there are descriptors for. Before
somebody is turned away those make room who have not said what they want, the oldest first, and then those that are kept
for a next request, the longest idle first, unless that request has come. Streams and exchanges under way never do.
Who is told: a client that is turned away, in the transport's words. Where not even that can be done it waits for the next
tick. Who makes room is closed.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY
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
    EPOLLRDHUP,
    INET6_ADDRSTRLEN,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    TCP_INFO,
    accept4,
    close,
    epoll_ctl,
    epoll_event,
    errno,
    getsockopt,
    inet_ntop,
    recv,
    send,
    shutdown,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
    tcp_info,
)
from sse_fast._native.front.connection cimport READING, STREAMING, Connection
from sse_fast._native.front.places cimport Link, Place, Queues, leave_queue, place_key
from sse_fast._native.front.table cimport LISTENING, READ_SIZE, Table, Watched, report
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, SHUTDOWN = EndReason.SHUTDOWN

cdef enum:
    ACCEPTS_A_TURN = 128
    LOOKS = 16                      # at who might make room, for one that comes
    UNREAD_A_TURN = 1024            # descriptors
    # Connections an address may have beside its streams, and as many again as it may have streams, since each begins as
    # such a connection: a few browsers' worth of publishing and fetching.
    BESIDE_STREAMS = 32


cdef class Listener(Table):
    """Listener(listening, fanout, transport, *, most=…, …): the connections of one listening socket.

    `listening`: a non-blocking TCP socket in the listening state; it stays the caller's. `transport` is as that of
    `Table`, and has `turn_away(data, crowded)`, which returns what a client that sent this is answered when there
    are no descriptors left, or `most` connections, or its address, `crowded`, has too many; and `trusts(address)`: it is a
    proxy's, and the address of many. Others have at most half of the places that are not streams', and `streams_each` and
    a few: how many streams an address may have. IPv6 counts by /64.
    """

    def __cinit__(self, listening, fanout, transport, *, int most=1 << 30, streams_each=None, **_):
        self._most = most
        self._each = <int>min(streams_each + BESIDE_STREAMS, 1 << 30) if streams_each is not None else 1 << 30
        self._places = {}
        self._words = transport.turn_away
        self._trusts = transport.trusts
        self._listening = listening.fileno()
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._reserved = True
        self._listen(True)
        if self._paused:
            raise OSError(errno, f"the listening socket cannot be watched: {os.strerror(errno)}")

    def __dealloc__(self):
        if self._reserved:
            close(self._spare)

    @property
    def addresses(self):
        """How many addresses have connections that are no streams."""
        return len(self._places)

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
        cdef bytes key
        cdef bint crowded
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
            try:
                client = self._address_of(&address)
                key = self._key_of(&address)
                crowded = key is not None and not self._has_place(client, key)
            except BaseException:
                close(fd)
                raise
            if crowded:
                self._turn_away(fd, client)
            elif self.open >= self._most and not self._evict(&self.queues) or not self.admit(fd, client):
                self._turn_away(fd, None)
            elif key is not None:
                self._enter_place(fd, key)
        return 0

    cdef bint admit(self, int fd, str address) except -1:
        """Take in a client that was accepted. False: the kernel has no room for another watch; `fd` stays the caller's."""
        cdef Connection connection
        try:
            connection = Connection.__new__(Connection)
            connection.address = address
            if not self.enter(connection, fd, EPOLLIN | EPOLLRDHUP):
                return False
        except MemoryError:
            close(fd)
            raise
        connection._state = READING
        connection.idle = True
        self.open += 1
        self.accepted += 1
        # Its request is there already where accepting is deferred until it is, and under load.
        try:
            connection._read()
            if connection._state == READING and connection.due == INFINITY:
                self.limit(connection, self.head_seconds)
                connection._queue_unsaid()
        except Exception:
            connection.abort()
            report("a connection failed and is closed; the others go on")
        return True

    cdef bint _has_place(self, str client, bytes key) except -1:
        """Whether another connection of this address is taken, if need be for one that makes room."""
        cdef Place place = self._places.get(key)
        if place is None or place.unbounded or place.others < min(self._each, max((self._most - self.streams) // 2, 1)):
            return True
        place.unbounded = self._trusts(client)
        return place.unbounded or self._evict(&place.queues)

    cdef int _enter_place(self, int fd, bytes key) except -1:
        """Count a connection that was admitted, if it is no stream already."""
        cdef Watched watched = self.by_descriptor[fd]
        cdef Connection connection
        cdef Place place
        if not isinstance(watched, Connection) or (<Connection>watched)._state == STREAMING:
            return 0
        connection = <Connection>watched
        place = self._places.get(key)
        if place is None:
            place = Place(self._places, key)
        place.others += 1
        connection.place = place
        if connection.in_all.after != NULL:     # it waits already
            if connection._can_make_room() and not connection.served:
                connection._queue_unsaid()
            else:
                connection._queue_idle()
        return 0

    cdef bint _evict(self, Queues* queues) except -1:
        """Have somebody in these queues make room. False: nobody can. Each that is looked at leaves the queue, so on the
        average this costs as much as to enter it; but for those whose next request has come and was not read yet."""
        cdef Link* link
        cdef Connection connection
        cdef int looks = 0
        while looks < LOOKS:
            link = queues.unsaid.after
            if link == &queues.unsaid:
                link = queues.idle.after
                if link == &queues.idle:
                    return False
            connection = <Connection>link.owner
            leave_queue(&connection.in_all)
            leave_queue(&connection.in_place)
            if not connection._can_make_room():
                continue
            if connection.has_unread():
                looks += 1
                connection._queue_idle()
                continue
            self.evicted += 1
            connection._go(CLIENT)
            return True
        return False

    cdef bint _make_room(self) except -1:
        """No descriptor is left: somebody makes room, or the spare one lets a client in to be told so. False: not even
        that."""
        cdef int fd
        if self._evict(&self.queues):
            return True
        if not self._reserved:
            self._reserve()
        if self._reserved:
            close(self._spare)
            self._reserved = False
            fd = accept4(self._listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self._turn_away(fd, None)
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

    cdef int _turn_away(self, int fd, str crowded) except -1:
        """Say that the server is full, or this address', going by as much of the request as has come."""
        cdef bytes answer
        cdef ssize_t got
        self.turned_away += 1
        try:
            got = recv(fd, self.buffer, READ_SIZE, MSG_DONTWAIT)
            answer = self._words(PyBytes_FromStringAndSize(self.buffer, max(got, 0)), crowded)
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

    cdef bytes _key_of(self, sockaddr_storage* address):
        """Of its place; None: a Unix socket's clients have no address."""
        if address.ss_family == AF_INET:
            return place_key(&(<sockaddr_in*>address).sin_addr, False)
        if address.ss_family == AF_INET6:
            return place_key(&(<sockaddr_in6*>address).sin6_addr, True)
        return None

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

    @property
    def answering(self):
        """Clients that were sent what is not all out, streams and tunnels aside: they are looked through for it."""
        cdef Watched watched
        cdef Connection connection
        cdef Py_ssize_t found = 0
        for watched in self.by_descriptor:
            if isinstance(watched, Connection):
                connection = <Connection>watched
                found += connection.rest is not None and connection._state != STREAMING and not connection.tunnelling
        return found

    # ---- what waits in the kernel -----------------------------------------------------------------------------------

    def unread(self, uint32_t still, int start=0):
        """Bytes of kernel memory that wait for clients that have no stream; and (IP address, number, bytes) of each to which
        nothing could be sent for `still` milliseconds; of so many descriptors from `start` on. And where to go on; 0: those
        were all."""
        cdef Watched watched
        cdef Connection connection
        cdef uint64_t held = 0
        cdef uint32_t its
        cdef tcp_info told
        cdef socklen_t length
        cdef list stuck = []
        cdef int fd, end = min(start + UNREAD_A_TURN, len(self.by_descriptor))
        for fd in range(start, end):
            watched = self.by_descriptor[fd]
            if not isinstance(watched, Connection):
                continue
            connection = <Connection>watched
            if connection._state == STREAMING or (its := connection.held()) == 0:
                continue
            held += its
            length = sizeof(told)
            if getsockopt(connection.fd, IPPROTO_TCP, TCP_INFO, &told, &length) == 0 and told.tcpi_last_data_sent >= still:
                stuck.append((connection.address, <uint64_t>connection.serial << 32 | <uint32_t>fd, its))
        return held, stuck, end if end < len(self.by_descriptor) else 0

    def reset(self, uint64_t number):
        """Abort a connection that `unread` has named, if it is still there."""
        cdef Watched watched = self.by_descriptor[number & 0xFFFFFFFF]
        if watched is not None and watched.serial == number >> 32:
            watched.abort()
