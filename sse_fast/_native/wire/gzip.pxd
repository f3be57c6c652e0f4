# Pieces of a gzip stream, for C callers.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.siphash cimport KEY

cpdef bytes stored(bytes data)
cpdef bytes ending(uint32_t check, uint32_t size)
cpdef uint32_t check_of(bytes data) except? 0
cpdef uint32_t shift_of(uint64_t length) noexcept
cpdef uint32_t joined(uint32_t before, uint32_t shift, uint32_t check) noexcept


cdef class Deflater:
    cdef:
        readonly Py_ssize_t least
        readonly uint64_t pieces    # that were deflated; again, if one was forgotten meanwhile
        list _streams               # the thorough one and the quick one; None: there is none, or it failed
        dict _made                  # the oldest first
        Py_ssize_t _bytes           # of those
        unsigned char _key[KEY]

    cpdef bytes deflated(self, bytes data, bint apart=*, bint quick=*)
    cdef bytes _each(self, bytes data, bint quick)
    cdef bytes _one(self, bytes data, bint quick)
    cdef int _remember(self, bytes digest, bytes made) except -1
