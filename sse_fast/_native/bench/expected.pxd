# What each connection of the load client must see next, by publisher.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.bench.board cimport Block, Board
from sse_fast._native.bench.payload cimport Payload

cdef enum:
    UNKNOWN_START = 0x80000000  # in a row of expected numbers: none came yet, this or a lower one must be the first


cdef class Expected:
    cdef:
        Board board
        Block* block
        uint32_t* next          # [connection][publisher]: the number it must see next
        uint64_t** missing      # [connection][publisher]: bit i: next-1-i has not come; NULL until something is missing
        uint32_t publishers, capacity
        bint listens            # others publish: the first number of a stream is whatever it is

    cdef uint32_t* row(self, uint32_t place) noexcept nogil
    cdef void begin(self, uint32_t place, uint32_t channel) noexcept nogil
    cdef bint irregular(self, uint32_t place, const Payload* payload) noexcept nogil
    cdef bint complete(self, uint32_t place, uint32_t channel) noexcept nogil
    cdef uint64_t missed_by(self, uint32_t place, uint32_t channel, bint began) noexcept nogil
