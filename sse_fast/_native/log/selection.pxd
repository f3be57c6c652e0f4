# What a stream with patterns listens to, for C callers: as `Index.cut` and `beginnings` are for named channels alone.
#
# Whatever raises has changed nothing, and may be called again.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index, Piece, View
from sse_fast._native.log.patterns cimport Pattern


cdef enum Search:
    FOUND = 0
    UNDER_WAY = 1                   # call again
    NO_ROOM = 2                     # it cannot be found: what the patterns may remember is used up


cdef class Selection:
    cdef:
        tuple named                 # Channels
        tuple patterns              # at least one
        Py_ssize_t look             # links a call
        uint64_t left               # of so many of the newest events that were looked for last, those that were not found

    cdef bint has_name(self, bytes name) noexcept
    cdef bint lost_after(self, Index index, uint64_t position, uint64_t told) noexcept
    cdef uint64_t evicted_of(self, Index index) noexcept
    cdef bint is_evicted_after(self, Index index, uint64_t position) noexcept
    cdef uint64_t forgotten_of(self, Index index, uint64_t since) noexcept
    cdef bint _is_kept(self, Index index, uint64_t event, uint64_t until, const View* view) noexcept
    cdef bint _is_hidden(self, Index index, uint64_t event, const View* view) noexcept
    cdef bint hides_after(self, Index index, uint64_t position, const View* view) noexcept
    cdef uint64_t resume(self, Index index, uint64_t position, bint* lost) noexcept
    cdef uint64_t earliest(self, Index index) noexcept
    cdef uint64_t before_newest(
        self, Index index, uint64_t until, uint64_t count, bint looks, const View* view, Search* search
    ) except? 0
    cdef bytes cut(self, Index index, uint64_t position, uint32_t limit, Piece* piece, const View* view)
    cdef bint _has(self, Index index, uint64_t link, Channel channel) noexcept
    cdef uint64_t _known(self) noexcept
    cdef Search _cover(self, Index index, uint64_t position, Py_ssize_t look) noexcept
    cdef size_t _merge(
        self, Index index, uint64_t position, uint64_t until, uint32_t limit, Piece* piece, const View* view
    ) except? 0
    cdef size_t _walk(
        self, Index index, uint64_t position, uint64_t until, uint32_t limit, Piece* piece, const View* view
    ) noexcept
    cdef uint64_t _newest(self, Index index, uint64_t until, uint64_t after, uint64_t count, const View* view) except? 0
    cdef uint64_t _event(self, Index index, size_t source, uint64_t at) noexcept


cdef uint64_t number_after(Index index, uint64_t position) noexcept
cdef bint is_own(Index index, Channel channel) noexcept
cdef uint64_t bytes_kept_after(Index index, uint64_t position) noexcept
cdef uint64_t bytes_of_newest(Index index, uint64_t count) noexcept
cdef Selection selection_of(tuple named, tuple patterns, Py_ssize_t look)
