# What events take of a log, for C callers.

from libc.stdint cimport uint16_t, uint64_t

from sse_fast._native.log.layout cimport Record, aligned, largest_of
from sse_fast._native.log.names cimport count_of_names

cdef enum:
    ID_ROOM = 64                    # "id: " + epoch + "-" + 20 digits + LF, with room
    MOST_NAMES = 100_000            # channels of a batch: what an append takes rises with them
    CHANNEL_ROOM = 64               # at least, for each of several: what an event of one takes, and so the index is bounded


cdef inline uint64_t record_length(
    const char* names, size_t names_length, uint16_t flags, uint64_t frame_length
) noexcept nogil:
    cdef uint64_t length = aligned(sizeof(Record) + names_length + frame_length)
    cdef size_t count = count_of_names(names, names_length, flags)
    return max(length, CHANNEL_ROOM * count) if count > 1 else length


cdef inline int refuse_oversize(
    uint64_t capacity, const char* names, size_t names_length, uint16_t flags, size_t body_length
) except -1:
    cdef uint64_t most = largest_of(capacity)
    if (
        names_length > 0xFFFF or sizeof(Record) + names_length + body_length + ID_ROOM > most
        or flags and record_length(names, names_length, flags, 0) > most
    ):
        return refuse(capacity, names_length, body_length)
    return 0


cdef int refuse(uint64_t capacity, size_t names_length, size_t body_length) except -1
cdef uint64_t measure_batch(uint64_t capacity, uint64_t smallest, size_t id_length, list batch, list into) except? 0
