"""The law that the load client holds each stream to: every number of every publisher on its channel, once, in order.

A connection has a row with the number that it must see next of each publisher. The caller
counts a payload with that number by itself (`row`); any other goes through `irregular`, which counts on the board what is
lost, doubled or late. Of the last 64 numbers before the next it is known which have not come, so one that comes late is no loss.
Numbers whose acknowledgement was lost are in doubt (board.pxd): a stream may have them or not.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from sse_fast._native.bench.board cimport DUPLICATE, LOST, LOST_AT_START, OUT_OF_ORDER, Board, complain


@cython.final
cdef class Expected:
    """Expected(board, worker, capacity, listens): the rows of so many connections of a worker.

    `listens`: others publish too, so the first number that a stream brings is whatever it is.
    """

    def __cinit__(self, Board board not None, int worker, uint32_t capacity, bint listens):
        self.board, self.block = board, board.block(worker)
        self.publishers, self.capacity, self.listens = board.publishers, capacity, listens
        self.next = <uint32_t*>calloc(<size_t>capacity * self.publishers, sizeof(uint32_t))
        self.missing = <uint64_t**>calloc(capacity, sizeof(uint64_t*))
        if self.next == NULL or self.missing == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t place
        if self.missing != NULL:
            for place in range(self.capacity):
                free(self.missing[place])
        free(self.missing)
        free(self.next)

    cdef uint32_t* row(self, uint32_t place) noexcept nogil:
        return self.next + <size_t>place * self.publishers

    cdef void begin(self, uint32_t place, uint32_t channel) noexcept nogil:
        """A connection opens that has no row yet: from what is published by now on nothing may be missing."""
        cdef uint32_t publisher
        cdef uint32_t* row = self.row(place)
        for publisher in range(self.publishers):
            row[publisher] = self.board.published(channel, publisher) | UNKNOWN_START
        if self.missing[place] != NULL:
            memset(self.missing[place], 0, self.publishers * sizeof(uint64_t))

    cdef bint irregular(self, uint32_t place, const Payload* payload) noexcept nogil:
        """Not the next number: the first of a stream, or something is lost, doubled, or late. False: it was doubled."""
        cdef uint32_t* expected = self.row(place) + payload.publisher
        cdef uint64_t* missing
        cdef uint32_t gap, back, doubtful
        cdef uint64_t bits
        if expected[0] & UNKNOWN_START:
            expected[0] &= ~<uint32_t>UNKNOWN_START
            if payload.n > expected[0] and not self.listens:
                gap = payload.n - expected[0]
                gap -= self.board.doubtful(payload.channel, payload.publisher, expected[0], payload.n, NULL)
                complain(self.block, LOST_AT_START, gap, NULL, 0)
            expected[0] = payload.n + 1
            return True
        if self.missing[place] == NULL:
            self.missing[place] = <uint64_t*>calloc(self.publishers, sizeof(uint64_t))
        missing = self.missing[place] + payload.publisher if self.missing[place] != NULL else NULL
        if payload.n >= expected[0]:
            gap = payload.n - expected[0]
            bits = 0 if gap >= 63 else ((<uint64_t>1 << gap) - 1) << 1
            doubtful = self.board.doubtful(payload.channel, payload.publisher, expected[0], payload.n, &bits)
            complain(self.block, LOST, gap - doubtful, NULL, 0)
            if missing != NULL:
                missing[0] = 0 if gap >= 63 else missing[0] << (gap + 1) | bits
            expected[0] = payload.n + 1
            return True
        back = expected[0] - 1 - payload.n
        if missing != NULL and back < 64 and missing[0] >> back & 1:
            missing[0] &= ~(<uint64_t>1 << back)
            complain(self.block, LOST, -1, NULL, 0)     # it was not lost, only late
            complain(self.block, OUT_OF_ORDER, 1, NULL, 0)
            return True
        complain(self.block, DUPLICATE, 1, NULL, 0)
        return False

    cdef bint complete(self, uint32_t place, uint32_t channel) noexcept nogil:
        """Whether it has all that `Board.aim` made the target."""
        cdef uint32_t publisher
        cdef uint32_t* row = self.row(place)
        for publisher in range(self.publishers):
            if row[publisher] & ~<uint32_t>UNKNOWN_START < self.board.target(channel, publisher):
                return False
        return True

    cdef uint64_t missed_by(self, uint32_t place, uint32_t channel, bint began) noexcept nogil:
        """How many numbers have been published that it should have and has not; none before it `began`."""
        cdef uint32_t publisher, number, published
        cdef uint32_t* row = self.row(place)
        cdef uint64_t missed = 0
        for publisher in range(self.publishers):
            number = row[publisher] & ~<uint32_t>UNKNOWN_START
            published = self.board.published(channel, publisher)
            if began and number < published:
                missed += published - number
                missed -= self.board.doubtful(channel, publisher, number, published, NULL)
        return missed
