"""Which event has a publisher's id: that is what its readers saw, and resume by; the position behind it says where that is.

What it keeps: of the newest ids a hash, keyed with a secret of this process, and the position, in the order of the log.
What it drops: the oldest, where there is no room, and none because its event is gone: who comes with it can be told
exactly what it missed. Who is told: nobody. An id that was dropped is unknown, and to resume by it is a gap.

How it is laid out. The ids are a ring, numbered from 1 in their order. Those of one bucket are a list, oldest first: what
the ring drops is the first of its list. So an id that was given twice is found where it was first.
"""

import secrets

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint64_t

from sse_fast._native.base.siphash cimport KEY, number_of

cdef enum:
    LOOKED = 4096                   # ids of one bucket: those of one hash may be any number


cdef struct Given:
    uint64_t hashed
    uint64_t position
    uint64_t next                   # of its bucket, the one after it; 0: none


cdef struct Bucket:
    uint64_t first, last            # 0: it is empty


@cython.final
cdef class Ids:
    """Ids(most): room for so many, rounded up to a power of two; the memory is had with the first, 40 bytes each."""

    def __cinit__(self, uint64_t most):
        cdef bytes secret = secrets.token_bytes(KEY)
        self._secret = secret
        self._room = 1
        while self._room < most:
            self._room *= 2

    def __dealloc__(self):
        PyMem_RawFree(self._ring)
        PyMem_RawFree(self._buckets)

    cdef uint64_t hash_of(self, const char* id, size_t length) noexcept:
        return number_of(<const unsigned char*>PyBytes_AS_STRING(self._secret), id, length)

    cdef void put(self, const char* id, size_t length, uint64_t position) noexcept:
        """The event of this position has this id."""
        cdef Bucket* bucket
        cdef Given* given
        if self._ring == NULL and not self._has_memory():
            return
        if self.count == self._room:
            self._drop_oldest()
        self._newest += 1
        self.count += 1
        given = &(<Given*>self._ring)[self._newest & (self._room - 1)]
        given.hashed, given.position, given.next = self.hash_of(id, length), position, 0
        bucket = &(<Bucket*>self._buckets)[given.hashed & (self._room - 1)]
        if bucket.last:
            (<Given*>self._ring)[bucket.last & (self._room - 1)].next = self._newest
        else:
            bucket.first = self._newest
        bucket.last = self._newest

    cdef uint64_t find(self, const char* id, size_t length, uint64_t floor) noexcept:
        """Position of the first event that has this id, of those after `floor`; where there is none, of the first of all;
        0: it is unknown."""
        cdef uint64_t hashed = self.hash_of(id, length), number, gone = 0
        cdef int looked = LOOKED
        cdef Given* given
        if self._ring == NULL:
            return 0
        number = (<Bucket*>self._buckets)[hashed & (self._room - 1)].first
        while number and looked:
            looked -= 1
            given = &(<Given*>self._ring)[number & (self._room - 1)]
            if given.hashed == hashed:
                if given.position > floor:
                    return given.position
                gone = gone or given.position
            number = given.next
        return gone

    cdef void _drop_oldest(self) noexcept:
        cdef uint64_t number = self._newest + 1 - self.count
        cdef Given* given = &(<Given*>self._ring)[number & (self._room - 1)]
        cdef Bucket* bucket = &(<Bucket*>self._buckets)[given.hashed & (self._room - 1)]
        bucket.first = given.next
        if not given.next:
            bucket.last = 0
        self.count -= 1

    cdef bint _has_memory(self) noexcept:
        self._ring = PyMem_RawCalloc(self._room, sizeof(Given))
        self._buckets = PyMem_RawCalloc(self._room, sizeof(Bucket))
        if self._ring == NULL or self._buckets == NULL:
            PyMem_RawFree(self._ring)
            PyMem_RawFree(self._buckets)
            self._ring = self._buckets = NULL
            return False
        return True
