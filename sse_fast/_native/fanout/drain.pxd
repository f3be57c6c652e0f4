# The fan-out for C callers.
#
# `subscribe` makes a parked Subscriber; `unblock` lets it run. `drain` takes in what is new in the log, sweeps the groups
# that have news, and hands each subscriber a Batch through its Sink (sink.pxd). Whatever raises may be called again:
# nobody was passed over, and nothing was handed to anybody twice.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.histogram cimport Histogram
from sse_fast._native.base.queue cimport Queue
from sse_fast._native.fanout.deadlines cimport Deadlines
from sse_fast._native.fanout.endings cimport Endings
from sse_fast._native.fanout.groups cimport Group, Groups, Subscriber
from sse_fast._native.fanout.reading cimport Reading
from sse_fast._native.fanout.sinks cimport Batch
from sse_fast._native.fanout.volley cimport Volley
from sse_fast._native.log.index cimport Index, Piece, View
from sse_fast._native.wire.gzip cimport Deflater


cdef class FanOut:
    cdef:
        readonly Index index
        Groups _groups
        Deadlines _deadlines
        Endings _endings
        Volley _volley
        Deflater _deflater
        Reading _reading
        Queue _behind               # of subscribers
        Queue _deep                 # of those who have a long way to go
        uint32_t _deep_after, _live_after
        long long _rest_until       # monotonic_ns; they rest
        bint _skip, _draining
        bint _sweeping              # who is visited has had everything up to what is new
        Py_ssize_t _take_in
        # one remembered piece: subscribers of a group that stand at the same place share it
        Batch _shared
        Group _shared_group
        uint64_t _shared_from, _shared_newest
        Piece _shared_piece
        View _shared_view           # of a group in a namespace
        Batch _last_words           # what everybody is told before the end; None: there are events still
        Batch _notice               # of ends that come in so many seconds
        long long _notice_seconds
        double _wall                # seconds since 1970, when ends were last looked at
        uint64_t _number            # of the subscriber that came last
        # plain counters; others read them
        readonly uint64_t heartbeats, gaps, slow
        readonly Histogram drains   # how long each call of `drain` took
        Histogram lasts             # from the publish of news to its write to the last of a group
        bint _fresh                 # the remembered piece is news, and its group is being swept

    cdef void let_go(self, Subscriber subscriber) noexcept
    cdef void _moved(self, Subscriber subscriber, const Piece* piece) noexcept
    cdef int _seek(self, Subscriber subscriber) except -1
    cdef void _owe_gap(self, Subscriber subscriber) noexcept
    cdef bint _is_busy(self) noexcept
    cdef int _hand_out(self, double now, long long sweeps_end, long long deadline, long long budget_ns) except -1
    cdef void _catch_up_later(self, Subscriber subscriber) noexcept
    cdef bint _sweep(self, Group group, double now, long long deadline) except -1
    cdef int _visit(self, Subscriber subscriber, double now) except -1
    cdef int _finish(self, Subscriber subscriber, double now) except -1
    cdef int _time_out(self, Subscriber subscriber) except -1
    cdef int _leave_slow(self, Subscriber subscriber) except -1
    cdef int _skip_ahead(self, Subscriber subscriber) except -1
    cdef void _go_on_at(self, Subscriber subscriber, uint64_t position) noexcept
    cdef Batch _gap(self, Subscriber subscriber)
    cdef Batch _notice_of(self, Subscriber subscriber)
    cdef int _warn(self, Subscriber subscriber, double now) except -1
    cdef int _conclude(self, Subscriber subscriber, double now) except -1
