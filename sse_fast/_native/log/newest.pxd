# The newest event of each key, for C callers.

from libc.stdint cimport uint64_t


cdef class Newest:
    cdef:
        void* _places
        uint64_t _buckets           # a power of two

    cdef uint64_t replace(self, uint64_t hashed, uint64_t link) noexcept
