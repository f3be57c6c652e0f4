# The publishers of a run, on the epoll descriptor of worker 0; and, in every worker, the bookkeeping of a closed loop.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from sse_fast._native.bench.board cimport Block, Board
from sse_fast._native.bench.dial cimport Dialer, Request
from sse_fast._native.bench.framing cimport Answer, Framing

cdef enum Loop:
    QUIET
    CLOSED_LOOP                 # the next event when everybody has the one before
    OPEN_LOOP                   # events on schedule, whether the last one has arrived or not


cdef struct Publisher:
    int fd                      # -1: not connected
    int status
    bint connected
    bint busy                   # an event is on its way
    bint answered
    bint closes
    uint32_t channel
    uint32_t n
    uint64_t scheduled          # ns; in a closed loop the time just before it was sent
    uint64_t sent
    char* request
    uint32_t request_length, request_sent
    Framing framing             # of the answer


# In this worker: which event of a publisher is going round, and how many subscribers it still misses.
cdef struct Round:
    uint64_t key
    uint32_t missing


cdef class Publishing:
    cdef:
        Board board
        Block* block
        Request request
        Dialer dialer
        Answer answer           # what the last read told of one
        Publisher* publishers
        Round* rounds
        uint32_t* idle
        char* payload
        char* room
        readonly Loop loop
        int worker, epoll, bell
        uint32_t run, payload_bytes, idle_count, next_channel, active
        uint64_t wanted, issued, interval, due

    cdef void publish(self, uint32_t place, uint64_t now, uint64_t scheduled) noexcept nogil
    cdef void on_ready(self, uint32_t place, uint32_t events) noexcept nogil
    cdef void on_bell(self) noexcept nogil
    cdef void _take_back(self, uint32_t place) noexcept nogil
    cdef void publish_due(self, uint64_t now) noexcept nogil
    cdef uint64_t deadline(self) noexcept nogil
    cdef void received(self, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t now) noexcept nogil
    cdef void left(self, uint32_t channel, const uint32_t* next) noexcept nogil
    cdef void _flush(self, uint32_t place) noexcept nogil
    cdef void _read(self, uint32_t place) noexcept nogil
    cdef void _answered(self, uint32_t place, const char* answer, size_t length) noexcept nogil
    cdef void _failed(self, uint32_t place, const char* why) noexcept nogil
    cdef void _free(self, uint32_t place, bint to_go_on) noexcept nogil
    cdef void _close(self, Publisher* publisher) noexcept nogil
    cdef void _complete(self, uint32_t place, uint64_t now) noexcept nogil
    cdef void _settle(self, uint32_t place) noexcept nogil

cdef enum:
    TAG_PUBLISHER = 1           # the upper half of an epoll tag; the lower half is the place
