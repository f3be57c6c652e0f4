# What a log's reserves have for a stream, for C callers: the same questions as to `pieces`, `beginnings`, `retention` and a
# `Selection`.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.index cimport Index, Piece, View
from sse_fast._native.log.selection cimport Selection


cdef bytes cut_reserved(
    Index index, tuple channels, Selection selection, uint64_t position, uint32_t limit, Piece* piece, const View* view
)
cdef uint64_t earliest_reserved(Index index, tuple channels) noexcept
cdef uint64_t before_newest_reserved(Index index, tuple channels, uint64_t count, const View* view) except? 0
cdef bint hide_reserved(Index index, tuple channels, uint64_t position, const View* view) noexcept
cdef uint64_t hidden_reserved(Index index, tuple channels, const View* view) except? 0
cdef uint64_t bytes_reserved(Index index, tuple channels, uint64_t position, const View* view) except? 0
cdef uint64_t earliest_selected(Index index) noexcept
cdef uint64_t before_newest_selected(Index index, Selection selection, uint64_t until, const View* view) except? 0
cdef bint hide_selected(Index index, Selection selection, uint64_t position, const View* view) noexcept
