"""A connection of the front: one client, which sends requests and is answered, or becomes a stream.

What it keeps: of an open stream one `Connection`, a few dozen bytes; of bytes not yet taken by a socket the rest of one
chunk, which is shared by all who were handed it; of what a client sent ahead of its turn what one read brought. Of every
connection that is not a stream, until when it may stay.
What it drops: whatever a client sends on an open stream, or behind its last request, up to a bound; past it the connection.
Who is told: whoever has the connection (see `Connection`) of bytes, of time that is over, and of the end.

One exchange at a time: while it is under way nothing is read that is not its own. It hangs in a table (front/table). It
parses no HTTP, decides nothing, accepts nobody, and knows neither hub nor log.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t

from sse_fast._native.base.linux cimport (
    EAGAIN,
    EINTR,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    MSG_DONTWAIT,
    MSG_PEEK,
    SHUT_WR,
    SO_LINGER,
    SOL_SOCKET,
    errno,
    linger,
    recv,
    setsockopt,
    shutdown,
)
from sse_fast._native.fanout.groups cimport Subscriber
from sse_fast._native.fanout.sinks cimport BLOCKED, WRITTEN, Batch, Gzipped, SocketSink, batch_of
from sse_fast._native.front.places cimport Place, leave_queue, queue_last
from sse_fast._native.front.posts cimport Posts
from sse_fast._native.front.table cimport READ_SIZE, Watched, report
from sse_fast._native.wire.control cimport closing
from sse_fast._native.wire.control import HEARTBEAT
from sse_fast.ends import ENDS, Close
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR
cdef frozenset RESET = frozenset(reason for reason, end in ENDS.items() if end.close is Close.RESET)
# The last bytes of a stream that ends for a reason, as they are and chunked, and the same of a gzip stream that is not
# complete: made before, when there is memory.
cdef dict LAST_WORDS = {}
cdef bytes LAST_CHUNK = b"0\r\n\r\n"
cdef frozenset COMPLETE = frozenset(reason for reason, end in ENDS.items() if end.close is Close.COMPLETE)


cdef int make_last_words() except -1:
    cdef Batch said
    for reason, end in ENDS.items():
        if end.told:
            said = batch_of(closing(end.told, end.retry), 0)
            LAST_WORDS[reason] = (
                said.data,
                said.chunk_() + LAST_CHUNK if reason in COMPLETE else said.chunk_(),
                said.gzipped_().data,
                said.gzipped_().chunk_(),
            )
    return 0


make_last_words()

cdef enum:
    AHEAD_A_TURN = 128              # requests that are answered in a turn beside the first of each connection
    A_REQUEST = 3                   # bytes: more than an empty line
    DROPPED_MOST = 65536            # bytes a client may send on an open stream
    LINGERED_MOST = 4 << 20         # bytes it may send behind its last answer: the rest of a body that nobody wanted
    WATCHED = EPOLLIN | EPOLLRDHUP

cdef tuple STATES = ("gone", "reading", "waiting", "finishing", "answering", "lingering", "streaming")


@cython.final
cdef class Connection(Watched):
    """One client. Made by a `Listener`; it has no other maker.

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

    @property
    def pipelined(self):
        """Whether something of a next request has come; an empty line is none (RFC 9112, section 2.2)."""
        cdef char few[A_REQUEST]
        cdef Py_ssize_t kept = 0 if self.kept is None else PyBytes_GET_SIZE(self.kept)
        if self._state == GONE:
            return False
        return kept >= A_REQUEST or kept + recv(self.fd, few, A_REQUEST, MSG_DONTWAIT | MSG_PEEK) >= A_REQUEST

    def wait(self):
        """Read nothing more, until `read` or the end of the exchange. From here on a client that shuts its side is gone;
        the end of one that has `pipelined` more than the kernel takes cannot be seen."""
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
        self.subscriber, self.quiet = subscriber, subscriber.quiet
        self.address = counted
        self._state = STREAMING
        self.due = self.queued = INFINITY
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
        cdef Gzipped form
        if self.gzipped:
            form = batch.gzipped_()
            if self.chunked:
                form.chunk_()
        elif self.chunked:
            batch.chunk_()
        return 0

    cdef int deliver(self, Batch batch) except -1:
        cdef Gzipped form
        if self.gzipped:
            form = batch.gzipped_()
            self.count_in(form)
            return self.send_now(form.chunk_() if self.chunked else form.data)
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
        cdef bint told = self.subscriber is not None and self.subscriber.finished_
        self.subscriber = None
        if reason is ERROR and isinstance(error, OSError):
            reason = CLIENT
        if self.rest is None and (not told or reason in COMPLETE):
            self._say_last(reason)
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

    cdef bint has_unread(self) noexcept:
        """It is kept, and its next request has come."""
        cdef char one
        if self._state != READING or not self.idle or not self.served:
            return False
        return recv(self.fd, &one, 1, MSG_DONTWAIT | MSG_PEEK) > 0

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

    cdef int expire(self) except -1:
        if self._state == GONE or self._state == STREAMING:
            return 0
        if self.rest is not None:
            if self.moves():
                self.table.limit(self, self.table.stuck_seconds)
            else:
                self._go(ERROR)     # what waits in the kernel for it is to go with it
        elif self._state == LINGERING or self.idle and self.served:
            self._go(CLIENT)
        else:
            if self._state == READING:
                self.table.late += 1
            if self.context is None:
                self.table.tell_late(self)
            else:
                self.context.late(self)
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
        cdef Py_ssize_t taken = posts.take(
            PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &ahead, self.address, self
        )
        if taken == 0:
            return False
        self.table.ahead = AHEAD_A_TURN - ahead
        if posts.waits is not None:
            self._wait_for(data, taken)
            return True
        self._send_or_go(PyBytes_FromStringAndSize(posts.room, posts.filled))
        if self._state != GONE:
            if taken < PyBytes_GET_SIZE(data):
                self.kept = data[taken:]
            self._over(False)
        return True

    cdef int _wait_for(self, bytes data, Py_ssize_t taken) except -1:
        """So much was taken, whose answer comes when its event is published; what was known before it is out."""
        cdef Posts posts = self.table.posts
        self.context = posts.waits
        posts.waits = None
        self._state = WAITING
        self.table.limit(self, INFINITY)
        if taken < PyBytes_GET_SIZE(data):
            self.kept = data[taken:]
        return 0

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

    cdef int _say_last(self, reason) except -1:
        """The last frame, and the end of the response where it is to be complete. Who does not take it at once is cut."""
        cdef tuple said = LAST_WORDS.get(reason)
        if said is None or self.quiet and reason not in COMPLETE:
            return 0
        try:
            if self.gzipped and reason in COMPLETE:
                self.send_now(self._gzip_end(HEARTBEAT if self.quiet else said[0]))
            elif self.quiet:
                if self.chunked:
                    self.send_now(LAST_CHUNK)
            else:
                self.send_now(said[2 * self.gzipped + self.chunked])
        except (OSError, MemoryError):
            pass                    # it has gone by itself; or is cut
        return 0

    cdef bytes _gzip_end(self, bytes words):
        cdef bytes last = self.gzip_end(words)
        return batch_of(last, 0).chunk_() + LAST_CHUNK if self.chunked else last

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
