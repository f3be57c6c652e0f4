"""The load client: tens of thousands of SSE connections on one epoll thread.

What it keeps each stream to: every payload whole, once, in the order of its publisher, and none that was acknowledged
missing: not after the response head, not over a reconnect with `Last-Event-ID`. What is wrong is counted by kind on the
board, with an example; nothing is passed over. A stream costs a `Connection` and a row of the next numbers it expects.

The loop runs without the GIL and allocates nothing per event. Python only gives orders between two calls of `loop`.
What is due when, and the timer that says so, is `schedule`'s; sockets are made and closed by `dial`.
Everything is read into one buffer; sockets are edge-triggered, so a short read means that a socket is empty.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport strlen

from sse_fast._native.bench.board cimport (
    AT_LIMIT, BACK, BYTES, CAME_BACK, CAUGHT_UP, CHECKSUM, CLOSED_BY_US, COMPLETE, CONNECT, CONNECTS, CUT, DELIVERIES,
    ENDED, EVENTS, FIRST_BYTE, FOREIGN, IDS_FELL, LATENCY, LET_GO, LOST, NO_FAULT, NO_ID, OPENED,
    READS, REFUSED, RESET, SLOW_CUT, SLOW_STREAMS, STREAMING, TIMED_OUT, TORN, TRIED_AGAIN, UNFINISHED,
    UNREACHABLE, WRONG_CHANNEL, Board, Fault, complain, count, record,
)
from sse_fast._native.bench.dial cimport Dialer, Request, failure_of, hang_up, watch
from sse_fast._native.bench.expected cimport Expected
from sse_fast._native.bench.framing cimport HEAD, OVER, PLAIN, Answer
from sse_fast._native.base.clock cimport monotonic_ns
from sse_fast._native.base.linux cimport (
    EAGAIN, ECONNREFUSED, EPOLL_CLOEXEC, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_NOSIGNAL,
    close, epoll_create1, epoll_event, epoll_wait, errno, memmem, recv, send, strerror,
)
from sse_fast._native.bench.payload cimport Payload
from sse_fast._native.bench.publisher cimport TAG_PUBLISHER, Publishing
from sse_fast._native.bench.schedule cimport NOBODY, SECOND, Schedule
from sse_fast._native.bench.stream_parser cimport (
    BAD_CHECKSUM, BAD_FOREIGN, BAD_IDS, BAD_TORN, READ_BYTES, Harvest, begin, feed, forget, set_up,
)

cdef enum:
    TAG_TIMER = 2
    TAG_BELL = 3
    TAG_CONTROL = 4
    READY_AT_ONCE = 256
    SLOW_HEAD_BYTES = 512
    SLOW_RECEIVE_BUFFER = 4096


@cython.final
cdef class Swarm:
    """The connections of one worker; see swarm.pyi for what it is made of. Seconds everywhere."""

    def __cinit__(
        self, Board board not None, int worker, Dialer dialer not None, Request subscribe not None, Request publish, *,
        Dialer publish_to=None, uint32_t run, uint32_t payload_bytes, uint32_t capacity, uint32_t at_once=256,
        double patience=30.0, double reconnect=-1.0, bint listens=False, int bell=-1, int control=-1,
    ):
        cdef uint32_t place
        self.epoll = -1
        self.board, self.worker, self.dialer, self.request = board, worker, dialer, subscribe
        self.block = board.block(worker)
        self.publishers = board.publishers
        self.capacity, self.at_once = capacity, at_once
        self.patience = <uint64_t>(patience * SECOND)
        self.reconnect = <uint64_t>(reconnect * SECOND) if reconnect >= 0 else UINT64_MAX
        self.bell, self.control = bell, control
        self.harvest = <Harvest*>calloc(1, sizeof(Harvest))
        self.connections = <Connection*>calloc(capacity, sizeof(Connection))
        self.unused = <uint32_t*>calloc(capacity, sizeof(uint32_t))
        self.room = <char*>malloc(READ_BYTES)
        if self.connections != NULL:
            for place in range(capacity):
                self.connections[place].fd = -1
        if not (self.harvest and self.connections and self.unused and self.room):
            raise MemoryError
        set_up(self.harvest, run, payload_bytes)
        self.expected = Expected(board, worker, capacity, listens)
        for place in range(capacity):
            self.unused[place] = capacity - 1 - place
        self.unused_count = capacity
        self.schedule = Schedule(capacity)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "cannot make an epoll descriptor")
        for fd, tag in ((self.schedule.timer, TAG_TIMER), (bell, TAG_BELL), (control, TAG_CONTROL)):
            if fd >= 0 and watch(self.epoll, fd, EPOLLIN, <uint64_t>tag << 32):
                raise OSError(errno, "cannot watch a descriptor")
        self.publishing = Publishing(board, worker, publish_to or dialer, publish, self.epoll, bell, run, payload_bytes)

    def __dealloc__(self):
        if self.harvest != NULL:    # else its arguments were wrong, and `epoll` says nothing: 0 is somebody's
            self.close()
        if self.connections != NULL:
            for place in range(self.capacity):
                forget(&self.connections[place].stream)
        free(self.harvest)
        free(self.connections)
        free(self.unused)
        free(self.room)

    def close(self):
        """Close every connection. The swarm is not used again."""
        cdef uint32_t place
        if self.connections != NULL:
            for place in range(self.capacity):
                if self.connections[place].fd >= 0:
                    self._close(place, True)
        if self.epoll >= 0:
            close(self.epoll)
        self.epoll = -1
        if self.schedule is not None:
            self.schedule.close()

    # ---- orders -----------------------------------------------------------------------------------------------------

    def open(self, uint32_t count, *, uint32_t first=0, double rate=0.0, bint slow=False, bint stopped=False):
        """Open so many streams, on the channels from number `first` on in turn, at most `rate` a second (0: at once).
        `slow`: see `slow_down`; `stopped`: they read their response head and then nothing."""
        cdef uint32_t i, place
        if count > self.unused_count:
            raise ValueError(f"{count} more connections are over the capacity of {self.capacity}")
        self.schedule.pace(rate)
        if slow and count:
            self.slow_first = self.unused[self.unused_count - 1]
            self.slow_end = self.slow_first + count
        for i in range(count):
            self.unused_count -= 1
            place = self.unused[self.unused_count]
            self.connections[place].flags = SLOW if slow or stopped else 0
            self.connections[place].channel = (first + i) % self.board.channels
            self._enqueue(place, 0)

    def slow_down(self, *, double every, uint32_t most):
        """The slow ones read `most` bytes every so many seconds; 0: they never read."""
        self.drip_bytes = most
        self.schedule.drip(every if most else -1)

    def wake_up(self):
        """The slow and the stopped read like everybody else from now on; those that the server cut meanwhile come back
        with their Last-Event-ID. Like those of `come_back`, they are complete when they have what was aimed at."""
        cdef uint32_t place
        cdef Connection* connection
        self.schedule.pace(0)
        self.slow_first = self.slow_end = 0
        self.schedule.drip(-1)
        self.storm_began = monotonic_ns()
        for place in range(self.capacity):
            connection = &self.connections[place]
            if not connection.flags & SLOW:
                continue
            connection.flags = connection.flags & ~<uint8_t>SLOW | RETURNING | WOKEN
            if connection.phase == STREAMING_NOW:
                count(self.block, SLOW_STREAMS, -1)
                count(self.block, STREAMING, 1)
                self.board.count_streaming(self.worker, connection.channel, 1)
                self._look_if_complete(place, self.storm_began)
                self._read(place, 0, READ_BYTES)
            elif connection.phase == GONE and connection.stream.id_length:
                connection.flags |= KNOWS
                self._enqueue(place, 0)
            elif connection.phase == GONE:
                complain(self.block, NO_ID, 1, NULL, 0)

    def churn(self, double rate, double life):
        """From now on `rate` streams a second come, and each leaves after `life` seconds. 0: no more come."""
        self.schedule.churn(rate, life)

    def cut(self):
        """Cut all streams abruptly, with a reset. They are away until `come_back`."""
        cdef uint32_t place
        cdef Connection* connection
        for place in range(self.capacity):
            connection = &self.connections[place]
            if connection.phase == STREAMING_NOW and not connection.flags & (SLOW | PASSING):
                self._close(place, True)
                connection.phase = AWAY
                connection.flags |= RETURNING
                count(self.block, UNFINISHED, 1)
                if connection.stream.id_length:
                    connection.flags |= KNOWS
                else:
                    complain(self.block, NO_ID, 1, NULL, 0)

    def come_back(self, double rate=0.0):
        """All that were cut come back with their Last-Event-ID, at most `rate` a second."""
        cdef uint32_t place
        self.schedule.pace(rate)
        self.storm_began = monotonic_ns()
        for place in range(self.capacity):
            if self.connections[place].phase == AWAY:
                count(self.block, UNFINISHED, -1)
                self._enqueue(place, 0)

    def audit(self):
        """(streams that do not have everything yet, events they miss), over all that should have it."""
        cdef uint32_t place
        cdef Connection* connection
        cdef uint64_t missed
        behind, missing = 0, 0
        for place in range(self.capacity):
            connection = &self.connections[place]
            if connection.flags & SLOW or connection.phase not in (AWAY, QUEUED, CONNECTING, ASKED, STREAMING_NOW):
                continue
            missed = self.expected.missed_by(
                place, connection.channel, connection.phase == STREAMING_NOW or connection.flags & KNOWS
            )
            missing += missed
            behind += missed > 0 or connection.phase != STREAMING_NOW
        return behind, missing

    def give_up(self):
        """What is missing now is lost."""
        complain(self.block, LOST, self.audit()[1], b"never came", 10)

    def loop(self, double seconds=-1.0):
        """Work for so long (negative: for ever), or until the control descriptor is readable: True then."""
        cdef uint64_t until = UINT64_MAX if seconds < 0 else monotonic_ns() + <uint64_t>(seconds * SECOND)
        cdef uint64_t now
        self.called = False
        with nogil:
            while not self.called:
                now = monotonic_ns()
                if now >= until:
                    break
                self._keep_appointments(now)
                self.schedule.wake(now, min(until, self.publishing.deadline()), self.dialling < self.at_once)
                self._turn()
        return self.called

    # ---- the loop ---------------------------------------------------------------------------------------------------

    cdef void _turn(self) noexcept nogil:
        cdef epoll_event ready[READY_AT_ONCE]
        cdef uint32_t place
        cdef int i, count = epoll_wait(self.epoll, ready, READY_AT_ONCE, 1000)
        for i in range(count):
            place = <uint32_t>ready[i].data.u64
            kind = ready[i].data.u64 >> 32
            if kind == 0:
                self._on_ready(place, ready[i].events)
            elif kind == TAG_PUBLISHER:
                self.publishing.on_ready(place, ready[i].events)
            elif kind == TAG_TIMER:
                self.schedule.rang()
            elif kind == TAG_BELL:
                if self.worker == 0:
                    self.publishing.on_bell()
            else:
                self.called = True

    cdef void _keep_appointments(self, uint64_t now) noexcept nogil:
        """Do what is due: events, connections, those who pass, slow reads, looking for those who wait too long."""
        cdef int64_t place
        self.publishing.publish_due(now)
        while self.dialling < self.at_once and (place := self.schedule.who_connects(now)) != NOBODY:
            self._start(<uint32_t>place, now)
        self._pass(now)
        if self.schedule.is_time_to_drip(now):
            self._drip()
        if self.schedule.is_time_to_sweep(now):
            self._sweep(now)

    cdef void _enqueue(self, uint32_t place, uint64_t at) noexcept nogil:
        self.connections[place].phase = QUEUED
        count(self.block, UNFINISHED, 1)
        self.schedule.connects(place, at)

    # ---- a connection's life ----------------------------------------------------------------------------------------

    cdef void _start(self, uint32_t place, uint64_t now) noexcept nogil:
        cdef Connection* connection = &self.connections[place]
        cdef const char* why
        cdef int fd = self.dialer.dial(SLOW_RECEIVE_BUFFER if connection.flags & SLOW else 0)
        count(self.block, CONNECTS, 1)
        self.dialling += 1
        connection.phase = CONNECTING
        connection.began = now
        if fd < 0:
            why = strerror(-fd)
            self._gone(place, REFUSED if fd == -ECONNREFUSED else UNREACHABLE, why, strlen(why))
            return
        connection.fd = fd
        begin(&connection.stream, (connection.flags & KNOWS) != 0)
        watch(self.epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, place)

    cdef void _on_ready(self, uint32_t place, uint32_t events) noexcept nogil:
        cdef Connection* connection = &self.connections[place]
        if connection.phase == CONNECTING and not self._ask(place):
            return
        if not events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            return
        if not connection.flags & SLOW:
            self._read(place, events, READ_BYTES)
        elif connection.phase == ASKED:
            self._read(place, events, SLOW_HEAD_BYTES)
        elif connection.phase == STREAMING_NOW and events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self._gone(place, CUT, NULL, 0)

    cdef bint _ask(self, uint32_t place) noexcept nogil:
        """The connection is there, or failed: send the request."""
        cdef Connection* connection = &self.connections[place]
        cdef int failure = failure_of(connection.fd)
        cdef ssize_t length
        cdef const char* why
        if failure == 0:
            record(self.block, CONNECT, (monotonic_ns() - connection.began) // 1000)
            length = self.request.write(
                self.room, connection.channel, NULL, 0, connection.stream.id, connection.stream.id_length
            )
            if send(connection.fd, self.room, <size_t>length, MSG_NOSIGNAL) == length:
                connection.phase = ASKED
                return True
            failure = errno
        why = strerror(failure)
        self._gone(place, REFUSED if failure == ECONNREFUSED else UNREACHABLE, why, strlen(why))
        return False

    cdef void _read(self, uint32_t place, uint32_t events, size_t most) noexcept nogil:
        """Read until the socket is empty, or once for a slow one."""
        cdef Connection* connection = &self.connections[place]
        cdef Harvest* harvest = self.harvest
        cdef Answer* answer = &harvest.answer
        cdef ssize_t got
        cdef uint64_t now
        cdef const char* why
        cdef bint ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0
        while connection.fd >= 0:
            got = recv(connection.fd, self.room, most, 0)
            if got < 0:
                if errno != EAGAIN:
                    why = strerror(errno)
                    self._gone(place, RESET, why, strlen(why))
                return
            if got == 0:
                if connection.phase == ASKED:
                    self._gone(place, CUT, b"before the response head", 24)
                elif connection.stream.framing.body == PLAIN:
                    self._gone(place, ENDED, b"the connection was closed", 25)
                else:
                    self._gone(place, CUT, b"in the middle of the body", 25)
                return
            now = monotonic_ns()
            feed(&connection.stream, harvest, self.room, <size_t>got)
            count(self.block, BYTES, <uint64_t>got)
            count(self.block, READS, 1)
            if connection.phase == ASKED and connection.stream.framing.body != HEAD and answer.fault == NO_FAULT:
                self._opened(place, now)
            if harvest.count or answer.example_length or harvest.bad[<int>BAD_FOREIGN]:
                self._take(place, now)
            count(self.block, EVENTS, harvest.events)
            if answer.fault != NO_FAULT:
                self._gone(place, answer.fault, answer.example, answer.example_length)
            elif connection.stream.framing.body == OVER:
                self._gone(place, ENDED, b"the last chunk or byte came", 27)
            elif (<size_t>got < most and not ended) or most < READ_BYTES:
                return

    cdef void _opened(self, uint32_t place, uint64_t now) noexcept nogil:
        """The response head is there: from here on nothing may be missing."""
        cdef Connection* connection = &self.connections[place]
        connection.phase = STREAMING_NOW
        connection.flags |= HAS_BEEN
        self.dialling -= 1
        count(self.block, UNFINISHED, -<int64_t>(not connection.flags & PASSING))
        count(self.block, OPENED, 1)
        record(self.block, FIRST_BYTE, (now - connection.began) // 1000)
        if connection.flags & SLOW:
            count(self.block, SLOW_STREAMS, 1)
        else:
            count(self.block, STREAMING, 1)
            self.board.count_streaming(self.worker, connection.channel, 1)
        if not connection.flags & KNOWS:
            self.expected.begin(place, connection.channel)
        if connection.flags & RETURNING:
            count(self.block, CAME_BACK, 1)
            record(self.block, BACK, (now - self.storm_began) // 1000)
            self._look_if_complete(place, now)

    cdef void _take(self, uint32_t place, uint64_t now) noexcept nogil:
        """Hold what was read against what must come."""
        cdef Connection* connection = &self.connections[place]
        cdef Harvest* harvest = self.harvest
        cdef Answer* answer = &harvest.answer
        cdef Payload* payload
        cdef uint32_t i
        cdef uint32_t* row = self.expected.row(place)
        cdef bint closed_loop = self.board.in_closed_loop() and not connection.flags & SLOW
        cdef bint new, timed = not connection.flags & (SLOW | RETURNING)
        for i in range(harvest.count):
            payload = &harvest.payloads[i]
            if payload.publisher >= self.publishers or payload.channel != connection.channel:
                complain(self.block, WRONG_CHANNEL, 1, NULL, 0)
                continue
            new = True
            if row[payload.publisher] == payload.n:
                row[payload.publisher] = payload.n + 1
            else:
                new = self.expected.irregular(place, payload)
            count(self.block, DELIVERIES, 1)
            if timed:
                record(self.block, LATENCY, (now - payload.sent) // 1000)
            if closed_loop and new:
                self.publishing.received(payload.channel, payload.publisher, payload.n, now)
        if connection.flags & RETURNING:
            self._look_if_complete(place, now)
        count(self.block, FOREIGN, harvest.bad[<int>BAD_FOREIGN])
        if answer.example_length:
            if harvest.bad[<int>BAD_TORN]:
                complain(self.block, TORN, harvest.bad[<int>BAD_TORN], answer.example, answer.example_length)
            if harvest.bad[<int>BAD_CHECKSUM]:
                complain(self.block, CHECKSUM, harvest.bad[<int>BAD_CHECKSUM], answer.example, answer.example_length)
            if harvest.bad[<int>BAD_IDS]:
                complain(self.block, IDS_FELL, harvest.bad[<int>BAD_IDS], answer.example, answer.example_length)

    cdef void _look_if_complete(self, uint32_t place, uint64_t now) noexcept nogil:
        """Does one that came back have all that was published until then?"""
        cdef Connection* connection = &self.connections[place]
        if not self.expected.complete(place, connection.channel):
            return
        connection.flags &= ~RETURNING
        count(self.block, CAUGHT_UP, 1)
        record(self.block, COMPLETE, (now - self.storm_began) // 1000)

    cdef void _gone(self, uint32_t place, Fault fault, const char* why, size_t length) noexcept nogil:
        """The stream ended, or never began, and not because we wanted it."""
        cdef Connection* connection = &self.connections[place]
        cdef bint had_been_open = connection.phase == STREAMING_NOW
        self._close(place, False)
        connection.phase = GONE
        if had_been_open and connection.flags & SLOW:
            count(self.block, SLOW_CUT, 1)
        elif self.reconnect != UINT64_MAX and connection.flags & HAS_BEEN and not connection.flags & (PASSING | SLOW):
            count(self.block, TRIED_AGAIN, not had_been_open)
            if connection.stream.id_length:
                connection.flags |= KNOWS
            self._enqueue(place, monotonic_ns() + self.reconnect)
        elif connection.flags & WOKEN and had_been_open and connection.stream.id_length:
            connection.flags |= KNOWS
            self._enqueue(place, 0)
        elif connection.stream.closing_length:
            why, length = connection.stream.closing_data, connection.stream.closing_length
            complain(self.block, LET_GO if memmem(why, length, b"overloaded", 10) == NULL else AT_LIMIT, 1, why, length)
        else:
            complain(self.block, fault, 1, why, length)

    cdef void _close(self, uint32_t place, bint abruptly) noexcept nogil:
        """Close the socket and count the stream out."""
        cdef Connection* connection = &self.connections[place]
        if connection.phase == STREAMING_NOW and not connection.flags & SLOW:
            count(self.block, STREAMING, -1)
            self.board.count_streaming(self.worker, connection.channel, -1)
            self.publishing.left(connection.channel, self.expected.row(place))
        elif connection.phase == STREAMING_NOW:
            count(self.block, SLOW_STREAMS, -1)
        elif connection.phase == CONNECTING or connection.phase == ASKED:
            self.dialling -= 1
            count(self.block, UNFINISHED, -<int64_t>(not connection.flags & PASSING))
        if connection.fd < 0:
            return
        hang_up(connection.fd, abruptly)
        connection.fd = -1

    # ---- those who pass, the slow, the late -------------------------------------------------------------------------

    cdef void _pass(self, uint64_t now) noexcept nogil:
        """Let those whose time is up go, and new ones come."""
        cdef Connection* connection
        cdef int64_t leaves
        cdef uint32_t place
        while (leaves := self.schedule.who_leaves(now)) != NOBODY:
            connection = &self.connections[leaves]
            if connection.phase != GONE:
                self._close(<uint32_t>leaves, False)
                count(self.block, CLOSED_BY_US, 1)
            connection.phase = FREE
            self.unused[self.unused_count] = <uint32_t>leaves
            self.unused_count += 1
        while self.unused_count and self.dialling < self.at_once and self.schedule.one_comes(now):
            self.unused_count -= 1
            place = self.unused[self.unused_count]
            connection = &self.connections[place]
            connection.flags = PASSING
            connection.channel = self.next_channel
            self.next_channel = (self.next_channel + 1) % self.board.channels
            self.schedule.stays(place, now)
            self._start(place, now)

    cdef void _drip(self) noexcept nogil:
        cdef uint32_t place
        for place in range(self.slow_first, self.slow_end):
            if self.connections[place].phase == STREAMING_NOW:
                self._read(place, 0, self.drip_bytes)

    cdef void _sweep(self, uint64_t now) noexcept nogil:
        """Give up connections that have waited too long for their response head."""
        cdef uint32_t place
        cdef Connection* connection
        for place in range(self.capacity):
            connection = &self.connections[place]
            if (connection.phase == CONNECTING or connection.phase == ASKED) and now > connection.began + self.patience:
                self._gone(place, TIMED_OUT, b"no response head came", 21)
