# Forms of a piece, for the drain.

from libc.stdint cimport uint32_t

from sse_fast._native.log.index cimport Index

cdef bytes in_envelopes(Index index, tuple channels, bytes piece, uint32_t events)
