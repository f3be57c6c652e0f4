# What a subscriber is handed, for C callers.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.index cimport Index, Piece, View


cdef bytes cut(
    Index index, tuple channels, uint64_t position, uint64_t at, uint32_t limit, Piece* piece, const View* view,
    uint64_t most
)
cdef bytes copied(Index index, size_t count, Piece* piece)
