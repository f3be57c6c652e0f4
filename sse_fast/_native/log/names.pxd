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


cdef bytes pack_names(tuple channels, uint16_t* flags)
cdef tuple unpack_names(bytes packed, uint16_t flags)
cdef bint are_names(const char* at, size_t length) noexcept nogil
