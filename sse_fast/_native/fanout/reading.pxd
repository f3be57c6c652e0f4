# What the log has for a subscriber, for C callers.
#
# `begin` has a stream stand where it begins. `lost` says whether something after a cursor is gone, `cut` has the next piece
# after one. Whatever raises has changed nothing, and may be called again.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.fanout.forms cimport Envelopes
from sse_fast._native.fanout.groups cimport Group, Subscriber
from sse_fast._native.log.index cimport Index, Piece, View
from sse_fast._native.log.selection cimport Search, Selection


cdef enum:                          # where a stream begins, beside a position
    FROM_EARLIEST = -1
    FROM_UNKNOWN = -2


cdef class Reading:
    cdef:
        Index index
        Envelopes _envelopes
        uint32_t _piece
        uint64_t _unknown

    cdef int begin(self, Subscriber subscriber, Group group, after, long long begin, uint64_t newest, uint64_t history) except -1
    cdef uint64_t gone_of(self, Group group) noexcept
    cdef uint64_t gone_until(self, Subscriber subscriber) noexcept
    cdef uint64_t bytes_from(self, names, patterns, after, uint64_t history) except? 0
    cdef uint64_t history_of(self, Subscriber subscriber, Search* search) except? 0
    cdef uint64_t before_last(self, Group group) except? 0
    cdef View view_of(self, Group group, Subscriber subscriber) noexcept
    cdef bytes cut(self, Group group, Subscriber subscriber, Piece* piece, const View* view)
    cdef bint lost(self, Group group, Subscriber subscriber) noexcept
    cdef bint is_forgotten(self, Group group, uint64_t position) noexcept
    cdef uint64_t gone(self, Group group, uint64_t since) noexcept
    cdef int _begin_named(
        self, Subscriber subscriber, Group group, after, long long begin, uint64_t newest, uint64_t history
    ) except -1
    cdef int _begin_selected(
        self, Subscriber subscriber, Group group, Selection selection, after, long long begin, uint64_t newest,
        uint64_t history
    ) except -1
    cdef uint64_t _resume(self, Group group, uint64_t position, bint* lost) except? 0
    cdef uint64_t _hidden_of(self, Group group, const View* view) except? 0
    cdef uint64_t _newest_selected(
        self, Group group, uint64_t until, uint64_t count, const View* view, Search* search
    ) except? 0
    cdef View _view_at_start(self, Subscriber subscriber) noexcept
    cdef uint64_t _before_newest(self, Group group, uint64_t count, const View* view) except? 0
