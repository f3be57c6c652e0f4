"""A connection of the front: one client, which sends requests and is answered, or becomes a stream; and the table of them.

What it keeps: of an open stream one `Connection`, a few dozen bytes; of bytes not yet taken by a socket the rest of one
chunk, which is shared by all who were handed it; of what a client sent ahead of its turn what one read brought. Of every
connection that is not a stream, until when it may stay.
What it drops: whatever a client sends on an open stream, or behind its last request, up to a bound; past it the connection.
Who is told: whoever has the connection (see `Connection`) of bytes, of time that is over, and of the end.

One exchange at a time: while it is under way nothing is read that is not its own. All sockets hang in one epoll
descriptor, and that one hangs in the event loop, which calls `turn`. It parses no HTTP, decides nothing, accepts nobody,
and knows neither hub nor log.
"""

import logging
import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.linux cimport (
    EAGAIN,
    EINTR,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    SHUT_WR,
    SO_LINGER,
    SOL_SOCKET,
    TCP_INFO,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    errno,
    getsockopt,
    linger,
    recv,
    setsockopt,
    shutdown,
    socklen_t,
    tcp_info,
)
from sse_fast._native.fanout.drain cimport FanOut
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport BLOCKED, WRITTEN, Batch, SocketSink, batch_of
from sse_fast._native.front.dues cimport Due, Dues
from sse_fast._native.front.places cimport Place, begin_queues, end_queues, leave_queue, queue_last
from sse_fast._native.front.posts cimport Posts
from sse_fast._native.wire.control cimport closing
from sse_fast.ends import ENDS, Close
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR
cdef frozenset RESET = frozenset(reason for reason, end in ENDS.items() if end.close is Close.RESET)
cdef frozenset COMPLETE = frozenset(reason for reason, end in ENDS.items() if end.close is Close.COMPLETE)

logger = logging.getLogger("sse_fast.listener")

cdef enum:
    EVENTS_A_TURN = 128             # a stream opened takes some 20 us: a few milliseconds
    LOOKS_A_TURN = 8
    LOOK_EVERY = 16                 # turns
    AHEAD_A_TURN = 128              # requests that are answered in a turn beside the first of each connection
    DROPPED_MOST = 65536            # bytes a client may send on an open stream
    LINGERED_MOST = 4 << 20         # bytes it may send behind its last answer: the rest of a body that nobody wanted
    WATCHED = EPOLLIN | EPOLLRDHUP

cdef int report(str what) except -1:
    """Log the error that is being handled; where memory has run out, without a word."""
    try:
        logger.exception(what)
    except MemoryError:
        pass
    return 0


cdef tuple STATES = ("gone", "reading", "waiting", "finishing", "answering", "lingering", "streaming")


cdef class Watched(SocketSink):
    """A socket that hangs in the table. `happened` is what epoll says of it; where that fails, it is to `abort`."""

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


@cython.final
cdef class Connection(Watched):
    """One client. Made by `Connections`; it has no other maker.

    While `context` is None, what it sends is the transport's: the beginning of a request. Whoever answers that, if not at
    once, has the connection as its context: `feed(connection, data)`, bytes that came; `writable(connection)`, a send
    that was blocked is out; `late(connection)`, the time it was given is over; `gone(connection)`, it is closed. The end
    of the exchange, `answer`, `finish` or `stream`, makes the context None.
    """

    def __dealloc__(self):
        leave_queue(&self.in_all)
        leave_queue(&self.in_place)

    @property
    def state(self):
        """"reading"; "waiting": nothing is read; "finishing": the exchange is over, its answer is not all out;
        "answering": the same, and it is the last one; "lingering": that is out; "streaming" or "gone"."""
        return STATES[self._state]

    def wait(self):
        """Read nothing more, until `read` or the end of the exchange. From here on a client that shuts its side is gone."""
        self._under_way("wait")
        self._state = WAITING
        self._rewatch()

    def read(self):
        """Go on reading, not from within this call."""
        self._under_way("read on")
        self._state = READING
        self._rewatch()

    def keep(self, bytes data not None):
        """These bytes are not of this exchange: they are fed again when the next one may begin, and nothing is read
        before."""
        if data and self._state != GONE:
            self.kept = data if self.kept is None else data + self.kept
            self._rewatch()

    def send(self, bytes data not None):
        """A piece of the answer. False: not all of it is out; the context's `writable` is called when it is, so send
        nothing before. Who takes no byte of it for `stuck_seconds` is closed."""
        self._under_way("be sent to")
        return self._send_or_go(data) == WRITTEN

    def finish(self, bint last):
        """The exchange is over, all of its answer was sent. `last`: the connection closes."""
        self._under_way("be finished")
        self._over(last)

    def answer(self, bytes data not None, bint last=True):
        """Send this, the whole answer, or the rest of it, and finish."""
        self._under_way("be answered")
        self.context = None
        self._send_or_go(data)
        if self._state != GONE:
            self._over(last)

    def head_begun(self):
        """Part of a request's head has come: until `head_whole` it is closed first when places are short."""
        self._under_way("read a head")
        self.heading = True
        self._queue_unsaid()

    def head_whole(self):
        """An exchange is under way: nothing closes it for others."""
        self.heading = False

    def give(self, seconds):
        """So long from now, until the context's `late` is called; None: as long as it takes. A send that is blocked has
        a time of its own, which takes this one's place; behind it there is none."""
        self._under_way("be given time")
        if self.rest is None:
            self.table.limit(self, INFINITY if seconds is None else seconds)

    def tunnel(self):
        """From here on its bytes are the context's as they come, `b""` for the end of them; only both sides' end, or an
        error, is the connection's."""
        self._under_way("become a tunnel")
        self.tunnelling = True
        self._rewatch()

    def shut(self):
        """Nothing more is sent; what was, still is."""
        self._under_way("be shut")
        self.shutting = True
        if self.rest is None:
            shutdown(self.fd, SHUT_WR)

    def stream(self, bytes opening not None, Subscriber subscriber not None, counted not None, bint chunked, held=None):
        """Become a stream: `opening` (head and first bytes) is sent, and then what the fan-out has for the subscriber,
        in chunks (RFC 9112, section 7.1) or as it is. At its end, which may be now, the transport's `left` is given
        `counted`. Raises RuntimeError: it is no stream, and nobody is told. `held`: nothing follows the opening until
        `start`, and its `left(reason)` is called too."""
        self._under_way("become a stream")
        self.context = held
        self.parked = held is not None
        self.kept = None
        self.subscriber = subscriber
        self.address = counted
        self._state = STREAMING
        self.due = INFINITY
        self.chunked = chunked
        self.table.streams += 1
        self._leave_place()
        try:
            if self._send_or_go(opening) == WRITTEN:
                self._resume()
            if self._state != GONE:
                self._rewatch()
        except Exception:           # from here on `left` is owed, and nobody else may tell it
            self._go(ERROR)
            report("a stream could not begin; the others go on")

    def start(self):
        """What the fan-out has may follow. Again, or when it is over: nothing happens."""
        if self._state == STREAMING and self.parked:
            self.parked = False
            if self.rest is None:
                self._resume()

    def end(self, reason):
        """End a stream as this reason has it. When it is over: nothing happens."""
        if self._state == STREAMING:
            if self.subscriber is not None:
                self.table.fanout.let_go(self.subscriber)
            self.ended(reason, None)

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
        if self._state != STREAMING:            # of a stream the fan-out sees to it
            self.table.limit(self, self.table.stuck_seconds)
        self._rewatch()
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

    cdef int _under_way(self, str what) except -1:
        if self._state != READING and self._state != WAITING:
            raise RuntimeError(f"a {self.state} connection cannot {what}")
        return 0

    cdef uint32_t _interest(self) noexcept:
        """What epoll is to tell of it."""
        cdef uint32_t wanted = EPOLLOUT if self.rest is not None else 0
        if self._state == READING:
            # What is kept goes first, at the next turn; to be writable is as good as any reason to be called.
            wanted |= EPOLLOUT if self.kept is not None else 0 if self.half_closed else WATCHED
        elif self._state == STREAMING or self._state == LINGERING:
            wanted |= WATCHED
        elif self._state == WAITING:    # few clients send now: asked not to tell of it is who does, when it does
            wanted |= EPOLLRDHUP | self.watched & EPOLLIN
        if self.tunnelling:         # that both sides have ended is told whatever is asked for: once is enough
            wanted &= ~<uint32_t>EPOLLRDHUP
            if wanted == 0:
                wanted = EPOLLET
        return wanted

    cdef int _rewatch(self) except -1:
        if not self.feeding and self._state != GONE:
            self.table.watch(self, self._interest())
        return 0

    cdef int _send_or_go(self, bytes data) except -1:
        if self.rest is not None:
            self.rest = self.rest[self.rest_at:] + data
            self.rest_at = 0
            return BLOCKED
        try:
            return self.send_now(data)
        except OSError:
            self._go(CLIENT)
            return BLOCKED

    cdef int _resume(self) except -1:
        """All is sent: the fan-out may write."""
        if self.parked:
            return 0
        self.takes_chunks = self.chunked
        self.table.resume(self.subscriber)
        return 0

    cdef int _over(self, bint last) except -1:
        """The exchange is. What is not out yet goes first: a client that does not read gets no second answer."""
        self.context = None
        self.tunnelling = False
        if self.rest is not None:
            self._state = ANSWERING if last else FINISHING
        elif last:
            self._linger()
        else:
            self._begin()
        self._rewatch()
        return 0

    cdef int _begin(self) except -1:
        """The next exchange may."""
        self._state = READING
        self.idle = self.served = True
        self.table.limit(self, self.table.idle_seconds)
        self._queue_idle()
        return 0

    cdef int _linger(self) except -1:
        """The answer is out. Wait for the client to close: to close while its bytes are unread would reset the
        connection, and the answer might be lost (RFC 9112, section 9.6)."""
        self._state = LINGERING
        self.kept = None
        shutdown(self.fd, SHUT_WR)
        self.table.limit(self, self.table.linger_seconds)
        self._queue_idle()
        return 0

    # Whoever is queued may not wait for room any more when its turn comes: that is looked at then.

    cdef int _queue_unsaid(self) except -1:
        queue_last(&self.table.queues.unsaid, &self.in_all, <void*>self)
        if self.place is not None:
            queue_last(&self.place.queues.unsaid, &self.in_place, <void*>self)
        return 0

    cdef int _queue_idle(self) except -1:
        queue_last(&self.table.queues.idle, &self.in_all, <void*>self)
        if self.place is not None:
            queue_last(&self.place.queues.idle, &self.in_place, <void*>self)
        return 0

    cdef bint _can_make_room(self) noexcept:
        """It is answered, or has no whole request here."""
        if self._state == READING:
            return self.kept is None and (self.idle or self.heading)
        return self._state == LINGERING

    cdef int _leave_place(self) except -1:
        """It is closed, or a stream."""
        cdef Place place = self.place
        leave_queue(&self.in_all)
        leave_queue(&self.in_place)
        self.place = None
        if place is not None:
            place.leave()
        return 0

    cdef int happened(self, uint32_t events) except -1:
        if events & EPOLLIN and (self.tunnelling or not events & (EPOLLERR | EPOLLHUP)):
            if self._state == WAITING or self._state == FINISHING or self._state == ANSWERING:
                self._ignore()
            else:
                self._read()
        if self._state == GONE:
            return 0
        if events & EPOLLERR or events & EPOLLHUP and not self.tunnelling:
            self._go(CLIENT)
        elif events & EPOLLRDHUP and not self.tunnelling and (self._state == STREAMING or self._state == WAITING):
            self._go(CLIENT)        # others are read to the end, and may have closed their own side
        elif events & EPOLLOUT:
            self._writable()
        return 0

    cdef int _ignore(self) except -1:
        """What it sends stays in the kernel, and is not told again."""
        cdef uint32_t others = self.watched & ~<uint32_t>EPOLLIN
        return self.table.watch(self, others if others else <uint32_t>EPOLLET)

    cdef int _read(self) except -1:
        cdef ssize_t got = recv(self.fd, self.table.buffer, READ_SIZE, MSG_DONTWAIT)
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                self._go(CLIENT)
        elif got == 0 and self.tunnelling:
            self.half_closed = True
            self._feed(b"")
        elif got == 0:
            self._go(CLIENT)
        elif self._state == READING:
            self._feed(PyBytes_FromStringAndSize(self.table.buffer, got))
        else:
            self.dropped += got
            if self.dropped > <uint32_t>(LINGERED_MOST if self._state == LINGERING else DROPPED_MOST):
                self._go(CLIENT)
        return 0

    cdef int _feed(self, bytes data) except -1:
        """Hand on what came, and then, while there is time, what that left for the next exchange."""
        self.feeding = True
        try:
            while True:
                self.idle = False
                if self.context is None:
                    if self.table.posts is None or not self._publish_known(data):
                        self.table.feed(self, data)
                else:
                    self.context.feed(self, data)
                if self._state != READING or self.kept is None or self.table.ahead == AHEAD_A_TURN:
                    break
                self.table.ahead += 1
                data = self.kept
                self.kept = None
        finally:
            self.feeding = False
        self._rewatch()
        return 0

    cdef bint _publish_known(self, bytes data) except -1:
        """Publish, and answer, what is known at its beginning; the rest is kept. False: nothing is."""
        cdef Posts posts = self.table.posts
        cdef int ahead = 1 + AHEAD_A_TURN - self.table.ahead
        cdef Py_ssize_t taken = posts.take(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &ahead, self.address)
        if taken == 0:
            return False
        self.table.ahead = AHEAD_A_TURN - ahead
        self._send_or_go(PyBytes_FromStringAndSize(posts.room, posts.filled))
        if self._state != GONE:
            if taken < PyBytes_GET_SIZE(data):
                self.kept = data[taken:]
            self._over(False)
        return True

    cdef int _writable(self) except -1:
        cdef bint was = self.rest is not None
        cdef Py_ssize_t at = self.rest_at
        cdef bytes kept
        try:
            if self.flush() == BLOCKED:
                if self.subscriber is not None and self.rest_at > at:
                    self.table.progressed(self.subscriber)
                return 0
        except OSError:
            self._go(CLIENT)
            return 0
        if self._state == STREAMING:
            self._rewatch()
            self._resume()
            return 0
        if self._state == ANSWERING:
            self._linger()
        elif self._state == FINISHING:
            self._begin()
        elif was:
            self.due = INFINITY
            if self.shutting:
                shutdown(self.fd, SHUT_WR)
            if self.context is not None:
                self.context.writable(self)
        if self._state == READING and self.kept is not None:
            kept = self.kept
            self.kept = None
            return self._feed(kept)
        self._rewatch()
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
        cdef object context = self.context
        if was == GONE:
            return 0
        self._state = GONE
        self.takes_chunks = False
        self.rest = self.kept = None
        self.context = None
        if reset:                   # what waits in the kernel for a client that does not read goes with it
            at_once.l_onoff = 1
            at_once.l_linger = 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
        self.table.open -= 1
        self._leave_place()
        self.table.forget(self)
        if was == STREAMING:
            self.table.streams -= 1
            try:
                self.table.left(self.address, reason)
                if context is not None:
                    context.left(reason)
            except Exception:
                report("the end of a stream could not be told; the others go on")
        elif context is not None:
            try:
                context.gone(self)
            except Exception:
                report("the end of a connection could not be told; the others go on")
        return 0


cdef class Connections:
    """Connections(listening, fanout, transport, *, head_seconds=10, idle_seconds=60, stuck_seconds=30, linger_seconds=2): those
    that are open, by descriptor, and what has happened to them.

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
        self.feed, self._late, self.resume, self.left = transport.feed, transport.late, transport.resume, transport.left
        self.by_descriptor = []
        self._due = Dues()
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
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
        cdef Connection connection
        cdef Due earliest
        while self._due.pop(now, &earliest):
            watched = self.by_descriptor[earliest.who & 0xFFFFFFFF]
            if watched is None or watched.serial != earliest.who >> 32:
                continue            # it has gone before
            connection = <Connection>watched
            if connection.queued != earliest.when:
                continue            # it was given less time since
            connection.queued = INFINITY
            if connection.due > now:
                self._await(connection)
                continue
            try:
                self._expire(connection)
            except Exception:
                connection.abort()
                report("a late connection could not be answered; it is closed")
        return 0

    cdef int _expire(self, Connection connection) except -1:
        connection.due = INFINITY
        if connection._state == GONE or connection._state == STREAMING:
            return 0
        if connection.rest is not None:
            if connection.moves():
                self.limit(connection, self.stuck_seconds)
            else:
                connection._go(ERROR)   # what waits in the kernel for it is to go with it
        elif connection._state == LINGERING or connection.idle and connection.served:
            connection._go(CLIENT)
        else:
            if connection._state == READING:
                self.late += 1
            if connection.context is None:
                self._late(connection)
            else:
                connection.context.late(connection)
        return 0

    cdef bint admit(self, int fd, str address) except -1:
        """Take in a client that was accepted. False: the kernel has no room for another watch; `fd` stays the caller's."""
        cdef Connection connection
        try:
            connection = Connection.__new__(Connection)
            connection.address = address
            connection.due = connection.queued = INFINITY
            if not self.enter(connection, fd, WATCHED):
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

    # ---- for connections --------------------------------------------------------------------------------------------

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

    cdef int limit(self, Connection connection, double seconds) except -1:
        """It has so long from now."""
        connection.due = self.now + seconds
        if connection.due < connection.queued:
            self._await(connection)
        return 0

    cdef int _await(self, Connection connection) except -1:
        """Look at it when it is due. A later time is seen to then: most requests come long before."""
        if connection.due != INFINITY:
            self._due.push(connection.due, (<uint64_t>connection.serial << 32) | <uint32_t>connection.fd)
            connection.queued = connection.due
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

    def unread(self, uint32_t still):
        """Bytes of kernel memory that wait for clients that have no stream; and (IP address, descriptor, bytes) of each
        to which nothing could be sent for `still` milliseconds."""
        cdef Watched watched
        cdef Connection connection
        cdef uint64_t held = 0
        cdef uint32_t its
        cdef tcp_info told
        cdef socklen_t length
        cdef list stuck = []
        for watched in self.by_descriptor:
            if not isinstance(watched, Connection):
                continue
            connection = <Connection>watched
            if connection._state == STREAMING or (its := connection.held()) == 0:
                continue
            held += its
            length = sizeof(told)
            if getsockopt(connection.fd, IPPROTO_TCP, TCP_INFO, &told, &length) == 0 and told.tcpi_last_data_sent >= still:
                stuck.append((connection.address, connection.fd, its))
        return held, stuck

    def reset(self, int descriptor):
        """Abort a connection that `unread` has just named."""
        self.by_descriptor[descriptor].abort()
