# What a log keeps of the channels of some patterns beyond the rest, for C callers: who writes has `keep` look at each record
# that is given up; `reserve_of` says which reserve a channel has.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.atomics cimport fence_release, store_relaxed
from sse_fast._native.log.layout cimport FLAG_PAD, LogHeader, Record


cdef struct Reserve:
    const char* pattern             # borrowed
    size_t length
    LogHeader* header               # NULL: nothing is reserved for its channels
    char* data


cdef class Reserves:                # of a log
    cdef:
        tuple _given                # of (pattern, size), in their order
        Reserve* all                # of each of them
        int given
        int count                   # of those that reserve

    cdef int open(self, int which, LogHeader* header, char* data, uint64_t missing) except -1
    cdef uint64_t whose(self, int which) except? 0
    cdef uint32_t of(self, bytes name) noexcept
    cdef bint cover(self, bytes pattern) noexcept
    cdef bint meets(self, uint32_t number, bytes pattern) noexcept


cdef void keep(Reserve* reserves, int given, const Record* record) noexcept nogil


cdef inline uint64_t make_way(
    LogHeader* header, char* data, uint64_t head, uint32_t length, Reserve* reserves, int given
) noexcept nogil:
    """Under the lock: where a record of this length goes, at `head` or behind a pad there. What it overwrites is given up
    before: to the reserves of a log, or by a reserve, which has none, for good."""
    cdef uint64_t mask = header.capacity - 1, tail = header.tail, start = head
    cdef uint64_t room_to_end = header.capacity - (head & mask)
    cdef Record* record
    if room_to_end < length:
        start = head + room_to_end
    # First give up what will be overwritten, then overwrite it: readers look in the opposite order.
    if start + length - tail > header.capacity:
        while start + length - tail > header.capacity:
            record = <Record*>(data + (tail & mask))
            if not record.flags & FLAG_PAD:
                if given:
                    keep(reserves, given, record)
                elif header.whose:
                    header.evicted = record.position
            tail += record.length
        fence_release()
        store_relaxed(&header.tail, tail)
        fence_release()
    if start != head:
        # What lies behind a pad may be the rest of a batch whose writer died before its commit: without its
        # beginning it must not look like what was appended.
        (<Record*>data).length = 0
        fence_release()
        record = <Record*>(data + (head & mask))
        record.length = <uint32_t>room_to_end
        record.flags = FLAG_PAD
        record.names_length = 0
        record.position = 0             # which no event has: neither becomes the other by a change of its flags
    return start
