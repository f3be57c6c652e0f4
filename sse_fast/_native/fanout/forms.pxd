# Forms of a piece, for the drain.
#
# A group that wants envelopes is announced by `begin` and `end`; between them `of_piece` puts what `Index.cut` returned
# into envelopes. Whatever raises has lost nothing, and may be called again.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.index cimport Index, Piece
from sse_fast._native.log.selection cimport Selection


cdef struct Made:                   # an event in its envelope, as a group has it
    uint64_t group
    uint64_t event                  # number of its entry in the index
    uint64_t before                 # one with the same hash, made before
    PyObject* frame                 # owned, bytes


cdef class Envelopes:
    cdef:
        uint64_t made               # events that were put into an envelope
        uint64_t _begun             # groups, ever
        Py_ssize_t _groups          # now
        # those remembered are numbered from 1 as they are made; number n is in slot n % SLOTS
        uint64_t _remembered, _forgotten    # the newest, and the newest that is gone
        Made* _slots                # NULL: none was made yet
        uint64_t* _newest           # by hash
        Py_ssize_t _bytes           # of those remembered

    cdef uint64_t begin(self) noexcept
    cdef void end(self) noexcept
    cdef bytes of_piece(
        self, Index index, uint64_t group, tuple channels, Selection selection, bytes plain, Piece* piece, uint32_t limit
    )
    cdef bytes _find(self, uint64_t group, uint64_t event)
    cdef void _remember(self, uint64_t group, uint64_t event, bytes frame) noexcept
    cdef bint _has_table(self) noexcept
    cdef void _forget_oldest(self) noexcept
    cdef void _forget_all(self) noexcept
