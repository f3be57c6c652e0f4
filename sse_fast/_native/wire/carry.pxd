# Bytes that one read leaves to the next: an unfinished line, an unfinished head. The room doubles as it grows, so that
# what comes in reads of any size is copied a constant number of times.

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef enum:
    CARRY_LEAST = 256
    CARRY_KEPT = 65536          # more room than this is given back as soon as it is empty

cdef struct Carry:
    char* bytes                 # NULL until a read first leaves something
    size_t length
    size_t room


cdef inline bint keep(Carry* carry, const char* data, size_t length) noexcept nogil:
    """Add bytes. False: there is no memory for them."""
    cdef size_t needed = carry.length + length
    cdef char* larger
    if needed > carry.room:
        larger = <char*>realloc(carry.bytes, max(2 * needed, <size_t>CARRY_LEAST))
        if larger == NULL:
            return False
        carry.bytes = larger
        carry.room = max(2 * needed, <size_t>CARRY_LEAST)
    if length:
        memcpy(carry.bytes + carry.length, data, length)
        carry.length = needed
    return True


cdef inline void drop(Carry* carry) noexcept nogil:
    free(carry.bytes)
    carry.bytes = NULL
    carry.length = carry.room = 0


cdef inline void tidy(Carry* carry) noexcept nogil:
    """Give back an empty carry that has grown large. What was in it must not be looked at any more."""
    if carry.length == 0 and carry.room > CARRY_KEPT:
        drop(carry)
