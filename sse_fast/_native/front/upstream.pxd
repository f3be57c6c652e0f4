# A connection of the front to an app server, for C callers.

from libc.stdint cimport uint32_t

from sse_fast._native.front.connection cimport Watched


cdef class Upstream(Watched):
    cdef:
        public object context       # who has it
        readonly bint broken        # the server takes nothing any more
        bint paused
        bint over                   # the server says nothing any more
        bint shutting

    cdef int _rewatch(self) except -1
    cdef int _writable(self) except -1
    cdef int _read(self) except -1
