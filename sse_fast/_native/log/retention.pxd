# What who comes back is shown, for C callers.

from libc.stdint cimport uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index, View


cdef uint64_t time_of(Index index, uint64_t number) noexcept
cdef bint is_superseded(Index index, uint64_t number, uint64_t until) noexcept
cdef bint is_passed(Index index, uint64_t number) noexcept
cdef bint is_shown(Index index, uint64_t number, uint64_t until, const View* view) noexcept
cdef uint64_t hidden_of(Index index, Channel channel, const View* view) noexcept
cdef uint64_t hidden_of_all(Index index, tuple channels, const View* view) noexcept
cdef bint hide_after(Index index, tuple channels, uint64_t position, const View* view) noexcept
cdef uint64_t before_newest_shown(Index index, tuple channels, uint64_t count, const View* view) noexcept
