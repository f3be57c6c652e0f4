"""The publishers of a run, and the bookkeeping of a closed loop.

Each publisher has one connection and at most one event on its way, so its events are ordered. In a *closed loop* the
next goes out when the answer is there and every subscriber of every worker has the event. In an *open loop* events are
due on schedule; one that finds no free publisher waits, its latency counts from when it was due, and it is counted as
late. The number of an event that the server refused, or that was never sent, is used again. One whose answer never
came may have been published or not: its number is not used again, and no stream is held to it.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free, malloc
from libc.stdio cimport snprintf
from libc.string cimport memchr, strlen

from sse_fast._native.bench.board cimport (
    ANSWER, ANSWERED, LAST, LATE, LATENESS, NO_FAULT, PUBLISH_FAILED, PUBLISH_REFUSED, PUBLISH_UNSENT, PUBLISHED,
    SETTLED, Board, complain, count, record,
)
from sse_fast._native.bench.dial cimport REQUEST_OVERHEAD, Dialer, Request, watch
from sse_fast._native.bench.expected cimport UNKNOWN_START
from sse_fast._native.bench.framing cimport PLAIN, begin_response, forget_response, skip_body
from sse_fast._native.base.clock cimport monotonic_ns
from sse_fast._native.base.linux cimport (
    EAGAIN, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_NOSIGNAL, close, errno, read, recv, send,
    strerror, write,
)
from sse_fast._native.bench.payload cimport write_payload
from sse_fast._native.bench.stream_parser cimport READ_BYTES

cdef enum:
    LATE_NS = 1_000_000


@cython.final
cdef class Publishing:
    """Publishing(board, worker, dialer, request, epoll, bell, run, payload_bytes); `request` None: it only keeps book."""

    def __cinit__(
        self, Board board not None, int worker, Dialer dialer not None, Request request, int epoll, int bell,
        uint32_t run, uint32_t payload_bytes,
    ):
        cdef uint32_t place
        self.board, self.worker, self.dialer, self.request = board, worker, dialer, request
        self.block = board.block(worker)
        self.epoll, self.bell, self.run, self.payload_bytes = epoll, bell, run, payload_bytes
        self.publishers = <Publisher*>calloc(board.publishers, sizeof(Publisher))
        self.rounds = <Round*>calloc(board.publishers, sizeof(Round))
        self.idle = <uint32_t*>calloc(board.publishers, sizeof(uint32_t))
        self.payload = <char*>malloc(payload_bytes)
        self.room = <char*>malloc(READ_BYTES)
        if self.publishers != NULL:
            for place in range(board.publishers):
                self.publishers[place].fd = -1
        if not (self.publishers and self.rounds and self.idle and self.payload and self.room):
            raise MemoryError
        for place in range(board.publishers):
            if request is not None:
                self.publishers[place].request = <char*>malloc(REQUEST_OVERHEAD + payload_bytes)
                if self.publishers[place].request == NULL:
                    raise MemoryError

    def __dealloc__(self):
        cdef uint32_t place
        if self.publishers != NULL:
            for place in range(self.board.publishers):
                self._close(&self.publishers[place])
                forget_response(&self.publishers[place].framing)
                free(self.publishers[place].request)
        free(self.publishers)
        free(self.rounds)
        free(self.idle)
        free(self.payload)
        free(self.room)

    def closed(self, uint32_t in_flight, uint64_t events):
        """Publish in a closed loop, `in_flight` events at a time, so many in all (0: until `quiet`)."""
        cdef uint32_t place
        self._begin(CLOSED_LOOP, events)
        self.active = min(in_flight, self.board.publishers)
        self.board.set_closed_loop(True)
        for place in range(self.active):
            if not self.publishers[place].busy and (events == 0 or self.issued < events):
                self.publish(place, monotonic_ns(), 0)

    def open(self, double rate, uint64_t events):
        """Publish in an open loop, `rate` events a second, so many in all (0: until `quiet`). Raises ValueError."""
        cdef uint32_t place
        if not 1e-9 <= rate <= 1e9:
            raise ValueError(f"an open loop publishes from 1e-9 to 1e9 events a second, not {rate:g}")
        self._begin(OPEN_LOOP, events)
        self.interval = <uint64_t>(1e9 / rate)
        self.due = monotonic_ns()
        self.idle_count = 0
        for place in range(self.board.publishers):
            if not self.publishers[place].busy:
                self.idle[self.idle_count] = place
                self.idle_count += 1

    def quiet(self):
        """Publish no more; what is on its way goes on."""
        self.loop = QUIET

    @property
    def busy(self):
        """Publishers that have an event on its way."""
        return sum(self.publishers[place].busy for place in range(self.board.publishers))

    def _begin(self, Loop loop, uint64_t events):
        if self.request is None:
            raise ValueError("this run has no way to publish")
        self.board.set_closed_loop(False)
        self.loop = loop
        self.wanted = events
        self.issued = 0

    # ---- an event goes out ------------------------------------------------------------------------------------------

    cdef void publish(self, uint32_t place, uint64_t now, uint64_t scheduled) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        cdef uint32_t channel = self.next_channel
        self.next_channel = (channel + 1) % self.board.channels
        publisher.channel = channel
        publisher.n = self.board.published(channel, place)
        publisher.scheduled = scheduled if scheduled else now
        publisher.sent = now
        publisher.busy = True
        publisher.answered = False
        publisher.status = 0
        write_payload(
            self.payload, self.payload_bytes, self.run, channel, place, publisher.n, publisher.scheduled
        )
        publisher.request_sent = 0
        publisher.request_length = self.request.write(
            publisher.request, channel, self.payload, self.payload_bytes, NULL, 0
        )
        begin_response(&publisher.framing)
        self.issued += 1
        count(self.block, PUBLISHED, 1)
        # Before it is sent: streams that are open must get it, streams that open from now on need not.
        self.board.set_published(channel, place, publisher.n + 1)
        if publisher.fd >= 0:
            self._flush(place)
            return
        publisher.fd = self.dialer.dial(0)
        publisher.connected = False
        if publisher.fd < 0:
            self._failed(place, strerror(-publisher.fd))
            return
        watch(
            self.epoll, publisher.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, <uint64_t>TAG_PUBLISHER << 32 | place
        )

    cdef void _flush(self, uint32_t place) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        cdef ssize_t sent = send(
            publisher.fd, publisher.request + publisher.request_sent,
            publisher.request_length - publisher.request_sent, MSG_NOSIGNAL,
        )
        if sent >= 0:
            publisher.request_sent += <uint32_t>sent
        elif errno != EAGAIN:
            self._failed(place, strerror(errno))

    cdef void on_ready(self, uint32_t place, uint32_t events) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        if publisher.fd < 0:
            return
        if events & EPOLLOUT and not events & (EPOLLERR | EPOLLHUP):
            publisher.connected = True
            if publisher.busy and publisher.request_sent < publisher.request_length:
                self._flush(place)
        if publisher.fd >= 0 and events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self._read(place)

    cdef void _read(self, uint32_t place) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        cdef ssize_t got
        while publisher.fd >= 0:
            got = recv(publisher.fd, self.room, READ_BYTES, 0)
            if got < 0 and errno == EAGAIN:
                return
            if got <= 0:
                if not publisher.busy or publisher.answered:
                    self._close(publisher)      # an idle connection that the server ended: the next event opens another
                elif got == 0 and publisher.status and publisher.framing.body == PLAIN:
                    publisher.closes = True
                    self._answered(place, NULL, 0)
                elif got < 0:
                    self._failed(place, strerror(errno))
                else:
                    self._failed(place, b"the connection ended without an answer")
                return
            if not publisher.busy or publisher.answered:
                continue                        # an answer without a request
            if skip_body(&publisher.framing, &self.answer, self.room, <size_t>got):
                publisher.status = self.answer.status or publisher.status
                publisher.closes = self.answer.closes
                self._answered(place, self.room, <size_t>got)
            elif self.answer.fault != NO_FAULT:
                self._failed(place, b"the answer is no HTTP response")
            elif self.answer.status:
                publisher.status = self.answer.status

    cdef void _answered(self, uint32_t place, const char* answer, size_t length) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        cdef const char* eol
        cdef char text[64]
        publisher.answered = True
        if publisher.closes:
            self._close(publisher)
        if not 200 <= publisher.status < 300:
            eol = <const char*>memchr(answer, b"\r", length) if length > 5 else NULL
            if eol != NULL:
                complain(self.block, PUBLISH_REFUSED, 1, answer, eol - answer)
            else:
                snprintf(text, sizeof(text), b"HTTP status %d", publisher.status)
                complain(self.block, PUBLISH_REFUSED, 1, text, strlen(text))
            self._take_back(place)
            self._free(place, False)
            return
        count(self.block, ANSWERED, 1)
        record(self.block, ANSWER, (monotonic_ns() - publisher.sent) // 1000)
        if self.board.in_closed_loop():
            self._settle(place)
        else:
            self._free(place, True)

    cdef void _failed(self, uint32_t place, const char* why) noexcept nogil:
        """The event may have been published or not, unless not one byte was sent, as when the server is down. It is not
        sent again, and each subscriber may have it or not."""
        cdef Publisher* publisher = &self.publishers[place]
        if publisher.request_sent:
            self.board.doubt(publisher.channel, place, publisher.n)
            complain(self.block, PUBLISH_FAILED, 1, why, strlen(why))
        else:
            complain(self.block, PUBLISH_UNSENT, 1, why, strlen(why))
            self._take_back(place)
        self._close(publisher)
        self._free(place, False)

    cdef void _take_back(self, uint32_t place) noexcept nogil:
        cdef Publisher* publisher = &self.publishers[place]
        self.board.set_published(publisher.channel, place, publisher.n)

    cdef void _free(self, uint32_t place, bint to_go_on) noexcept nogil:
        """The publisher's event is through. In a closed loop one that met a refusal does not `go_on`."""
        self.publishers[place].busy = False
        if self.loop == OPEN_LOOP:
            self.idle[self.idle_count] = place
            self.idle_count += 1
        elif self.loop == CLOSED_LOOP:
            if not to_go_on:
                self.active -= 1
            elif self.wanted == 0 or self.issued < self.wanted:
                self.publish(place, monotonic_ns(), 0)

    cdef void _close(self, Publisher* publisher) noexcept nogil:
        if publisher.fd >= 0:
            close(publisher.fd)
        publisher.fd = -1

    # ---- open loop --------------------------------------------------------------------------------------------------

    cdef void publish_due(self, uint64_t now) noexcept nogil:
        cdef uint64_t due
        while self.loop == OPEN_LOOP and self.due <= now and self.idle_count:
            if self.wanted and self.issued >= self.wanted:
                self.loop = QUIET
                return
            due = self.due
            self.due += self.interval
            self.idle_count -= 1
            record(self.block, LATENESS, (now - due) // 1000)
            count(self.block, LATE, now - due > LATE_NS)
            self.publish(self.idle[self.idle_count], now, due)

    cdef uint64_t deadline(self) noexcept nogil:
        return self.due if self.loop == OPEN_LOOP and self.idle_count else UINT64_MAX

    # ---- closed loop ------------------------------------------------------------------------------------------------

    cdef void received(self, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t now) noexcept nogil:
        """A subscriber of this worker has the event."""
        cdef Round* round = &self.rounds[publisher]
        cdef uint64_t key = (<uint64_t>channel << 32 | n) + 1
        if round.key != key:
            round.key = key
            round.missing = self.board.streaming(self.worker, channel)
        if round.missing:
            round.missing -= 1
            if round.missing == 0:
                self._complete(publisher, now)

    cdef void left(self, uint32_t channel, const uint32_t* next) noexcept nogil:
        """A subscriber is gone: no event waits for it any more."""
        cdef uint32_t place
        cdef Round* round
        cdef uint64_t first = (<uint64_t>channel << 32) + 1, one = 1
        if not self.board.in_closed_loop():
            return
        for place in range(self.board.publishers):
            round = &self.rounds[place]
            if round.missing and round.key - first < UNKNOWN_START and (
                next[place] & UNKNOWN_START or next[place] <= round.key - first
            ):
                round.missing -= 1
                if round.missing == 0:
                    self._complete(place, monotonic_ns())
        if self.worker:
            write(self.bell, &one, sizeof(one))
        else:
            self.on_bell()

    cdef void _complete(self, uint32_t place, uint64_t now) noexcept nogil:
        cdef uint64_t one = 1
        self.board.set_done(self.worker, place, self.rounds[place].key, now)
        if self.worker == 0:
            self._settle(place)
        else:
            write(self.bell, &one, sizeof(one))

    cdef void on_bell(self) noexcept nogil:
        """Another worker has news."""
        cdef uint32_t place
        cdef uint64_t count
        if self.bell >= 0:
            read(self.bell, &count, sizeof(count))
        for place in range(self.board.publishers):
            if self.publishers[place].busy:
                self._settle(place)

    cdef void _settle(self, uint32_t place) noexcept nogil:
        """Go on if the event is answered and everybody has it."""
        cdef Publisher* publisher = &self.publishers[place]
        cdef uint64_t key = (<uint64_t>publisher.channel << 32 | publisher.n) + 1, at = 0, last = 0
        cdef int worker
        if not (publisher.busy and publisher.answered):
            return
        for worker in range(self.board.workers):
            if self.board.streaming(worker, publisher.channel):
                if not self.board.done(worker, place, key, &at):
                    return
                last = max(last, at)
        if last > publisher.scheduled:
            record(self.block, LAST, (last - publisher.scheduled) // 1000)
        count(self.block, SETTLED, 1)
        self._free(place, True)
