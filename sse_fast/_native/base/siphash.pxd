# A keyed digest of bytes that may not be kept, for C callers.

from libc.stdint cimport uint64_t

cdef enum:
    KEY = 16
    DIGEST = 16

cdef bytes digest_of(const unsigned char* key, const char* data, size_t length)
cdef uint64_t number_of(const unsigned char* key, const char* data, size_t length) noexcept nogil
