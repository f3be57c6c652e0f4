# Where a stream begins, for C callers.

from libc.stdint cimport uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index, View


cdef bint lost_after(Index index, tuple channels, uint64_t position, uint64_t told) noexcept
cdef uint64_t oldest_of(Index index, tuple channels) noexcept
cdef uint64_t evicted_of(Index index, tuple channels) noexcept
cdef uint64_t resume(Index index, tuple channels, uint64_t position, bint* lost) noexcept
cdef uint64_t earliest(Index index, tuple channels) noexcept
cdef uint64_t before_newest(Index index, tuple channels, uint64_t count) except? 0
cdef uint64_t kept_after(Index index, tuple channels, uint64_t position) except? 0
cdef uint64_t bytes_after(Index index, tuple channels, uint64_t position, const View* view) noexcept
cdef uint64_t evicted_of_one(Index index, Channel channel) noexcept
cdef uint64_t forgotten_of(Index index, Channel channel) noexcept


cdef inline bint has_reserve(Index index, Channel channel) noexcept:
    """Whether a channel of the log's index has one; of a reserve's, none has another."""
    return channel.reserve != 0 and index.number == 0


cdef uint64_t behind_marks(Index index, uint64_t position) noexcept
