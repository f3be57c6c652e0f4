# The names of a record's channels, for C callers.

from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    FLAG_SEVERAL = 4                # a record has several channels
    FLAG_KEYED = 16                 # behind its names stands the hash of its conflation key
    KEY_ROOM = 8                    # bytes of that


cdef inline uint16_t name_length(const char* at) noexcept nogil:
    """Of the name that begins at `at` with its length."""
    cdef uint16_t length
    memcpy(&length, at, 2)
    return length


cdef inline size_t count_of_names(const char* at, size_t length, uint16_t flags) noexcept nogil:
    """Of a record with these `flags`, whose names are sound."""
    cdef const char* end = at + length
    cdef size_t count = 0
    if flags & FLAG_KEYED:
        end -= KEY_ROOM
    if not flags & FLAG_SEVERAL:
        return 1
    while at < end:
        at += 2 + name_length(at)
        count += 1
    return count


cdef inline uint64_t key_behind(const char* at, size_t length) noexcept nogil:
    """The hash behind names of so many bytes, it included."""
    cdef uint64_t key
    memcpy(&key, at + length - KEY_ROOM, KEY_ROOM)
    return key


cdef bytes pack_names(object channels, uint16_t* flags)
cdef tuple unpack_names(bytes packed, uint16_t flags)
cdef bint are_names(const char* at, size_t length) noexcept nogil
