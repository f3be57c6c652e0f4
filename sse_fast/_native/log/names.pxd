# The names of a record's channels, for C callers.

from libc.stdint cimport uint16_t
from libc.string cimport memcpy


cdef enum:
    FLAG_SEVERAL = 4                # a record has several channels


cdef inline uint16_t name_length(const char* at) noexcept nogil:
    """Of the name that begins at `at` with its length."""
    cdef uint16_t length
    memcpy(&length, at, 2)
    return length


cdef inline size_t count_of_names(const char* at, size_t length, uint16_t flags) noexcept nogil:
    """Of a record with these `flags`, whose names are sound."""
    cdef const char* end = at + length
    cdef size_t count = 0
    if not flags & FLAG_SEVERAL:
        return 1
    while at < end:
        at += 2 + name_length(at)
        count += 1
    return count


cdef bytes pack_names(tuple channels, uint16_t* flags)
cdef tuple unpack_names(bytes packed, uint16_t flags)
cdef bint are_names(const char* at, size_t length) noexcept nogil
