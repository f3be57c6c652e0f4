# Publishers' ids, for C callers.

from libc.stdint cimport uint64_t


cdef class Ids:
    cdef:
        bytes _secret
        void* _ring
        void* _buckets
        uint64_t _room              # a power of two
        uint64_t _newest            # number of the one that came last
        readonly uint64_t count

    cdef uint64_t hash_of(self, const char* id, size_t length) noexcept
    cdef void put(self, const char* id, size_t length, uint64_t position) noexcept
    cdef uint64_t find(self, const char* id, size_t length, uint64_t floor) noexcept
    cdef void _drop_oldest(self) noexcept
    cdef bint _has_memory(self) noexcept
