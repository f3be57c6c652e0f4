# The load client of one process: its connections, and the loop over all of them.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from sse_fast._native.bench.board cimport Block, Board, Fault
from sse_fast._native.bench.dial cimport Dialer, Request
from sse_fast._native.bench.expected cimport Expected
from sse_fast._native.bench.publisher cimport Publishing
from sse_fast._native.bench.schedule cimport Schedule
from sse_fast._native.bench.stream_parser cimport Harvest, Stream

cdef enum Phase:
    FREE
    QUEUED                      # will connect
    CONNECTING
    ASKED                       # the request is out
    STREAMING_NOW
    AWAY                        # cut, to come back
    GONE                        # ended, not by us

cdef enum:
    SLOW = 1                    # reads a byte now and then, or nothing; expected to be cut
    PASSING = 2                 # comes and goes
    RETURNING = 4               # was cut, is not complete yet
    KNOWS = 8                   # has been here before: its row of expected numbers holds
    HAS_BEEN = 16               # the stream was open once
    WOKEN = 32                  # was slow: the server may have ended it before it read on, so it comes back by itself


cdef struct Connection:
    Stream stream
    uint64_t began              # ns: connect(2) was called
    uint32_t channel
    int fd
    uint8_t phase
    uint8_t flags


cdef class Swarm:
    cdef:
        readonly Board board
        readonly Publishing publishing
        Block* block
        Dialer dialer
        Request request
        Schedule schedule       # who connects and who leaves next, and the timer for it
        Expected expected       # what each connection must see next
        Harvest* harvest
        Connection* connections
        uint32_t* unused        # places of connections that are free
        char* room
        uint32_t capacity, publishers, unused_count, at_once, dialling, next_channel
        uint32_t slow_first, slow_end
        uint64_t patience, reconnect, storm_began
        uint32_t drip_bytes
        int worker, epoll, bell, control
        bint called

    cdef void _turn(self) noexcept nogil
    cdef void _keep_appointments(self, uint64_t now) noexcept nogil
    cdef void _enqueue(self, uint32_t place, uint64_t at) noexcept nogil
    cdef void _start(self, uint32_t place, uint64_t now) noexcept nogil
    cdef void _on_ready(self, uint32_t place, uint32_t events) noexcept nogil
    cdef bint _ask(self, uint32_t place) noexcept nogil
    cdef void _read(self, uint32_t place, uint32_t events, size_t most) noexcept nogil
    cdef void _opened(self, uint32_t place, uint64_t now) noexcept nogil
    cdef void _take(self, uint32_t place, uint64_t now) noexcept nogil
    cdef void _look_if_complete(self, uint32_t place, uint64_t now) noexcept nogil
    cdef void _gone(self, uint32_t place, Fault fault, const char* why, size_t length) noexcept nogil
    cdef void _close(self, uint32_t place, bint abruptly) noexcept nogil
    cdef void _pass(self, uint64_t now) noexcept nogil
    cdef void _drip(self) noexcept nogil
    cdef void _sweep(self, uint64_t now) noexcept nogil
