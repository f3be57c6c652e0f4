# What events take of a log, for C callers.

from libc.stdint cimport uint64_t

from sse_fast._native.log.layout cimport Record, largest_of

cdef enum:
    ID_ROOM = 64                    # "id: " + epoch + "-" + 20 digits + LF, with room


cdef inline int refuse_oversize(uint64_t capacity, size_t names_length, size_t body_length) except -1:
    if names_length > 0xFFFF or sizeof(Record) + names_length + body_length + ID_ROOM > largest_of(capacity):
        return refuse(capacity, names_length, body_length)
    return 0


cdef int refuse(uint64_t capacity, size_t names_length, size_t body_length) except -1
cdef uint64_t measure_batch(uint64_t capacity, size_t id_length, list batch, list into) except? 0
