# The fan-out for C callers.
#
# `subscribe` makes a parked Subscriber; `unblock` lets it run. `drain` takes in what is new in the log, sweeps the groups
# that have news, and hands each subscriber a Batch through its Sink (sink.pxd). Whatever raises may be called again:
# nobody was passed over, and nothing was handed to anybody twice.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.index cimport Channel, Index, Piece
from sse_fast._native.base.queue cimport Linked, Queue
from sse_fast._native.fanout.sinks cimport Batch, Sink


cdef enum:
    VOLLEY = 64                     # sockets written in one loop without the GIL


cdef enum State:
    READY = 0
    PARKED = 1                      # before its start, or blocked: sweeps pass over it, its cursor stays
    CLOSED = 2


cdef class Group(Linked):           # the subscribers who listen to the same set of channels; queued: they have news
    cdef:
        tuple channels
        uint32_t* places            # where it is among the groups that listen to each of them; NULL: it is a solo group
        object key                  # what finds it again; None: it is its channel's solo group
        list subscribers
        Py_ssize_t next             # the sweep: who is visited next, and how many are left to visit
        Py_ssize_t remaining
        uint64_t last_position


cdef class Subscriber(Linked):      # queued: it is behind, or was not told of its end yet
    cdef:
        readonly Sink sink
        readonly uint64_t position  # the cursor: everything of its channels up to here was handed over
        readonly bint lost          # whether it began behind events that are gone
        Group group
        uint64_t at                 # the index's entry that was handed over last, to go on from
        Py_ssize_t place_in_group, place
        Py_ssize_t place_blocked    # -1: it is not blocked
        State state
        bint in_volley              # gathered, but not written to yet
        bint must_tell              # it was skipped ahead, from `told_after`, and has not been told
        uint32_t catches_up         # bytes that it may catch up by before it has a long way to go
        bint finished               # it was handed the last words: nothing more is written to it
        uint64_t told_after
        unsigned char timeouts      # in a row, in which it took nothing
        uint32_t held               # what `FanOut.held` has of it
        double touched              # when it was last written to; of a blocked one, when it blocked
        object untold               # of one that left: why, until its sink has been told


cdef class FanOut:
    cdef:
        readonly Index index
        dict _groups
        list _everyone
        Channel _heard              # whose groups are being told of it, from the last to the first
        Py_ssize_t _groups_left
        Queue _news                 # of groups
        Queue _behind               # of subscribers
        Queue _deep                 # of those who have a long way to go
        uint32_t _deep_after, _live_after
        uint64_t _unknown
        long long _rest_until       # monotonic_ns; they rest
        list _blocked               # room for every subscriber; those who are come first
        Py_ssize_t _blocked_count
        Py_ssize_t _heartbeat_next
        bint _skip, _draining
        uint32_t _piece
        Py_ssize_t _take_in, _tell
        # one remembered piece: subscribers of a group that stand at the same place share it
        Batch _shared
        Group _shared_group
        uint64_t _shared_from, _shared_newest
        Piece _shared_piece
        Batch _last_words           # what everybody is told before the end; None: there are events still
        # the sockets that are to be written this batch
        Batch _volley_batch
        int _volley_size
        PyObject* _volley[VOLLEY]
        int _volley_fds[VOLLEY]
        readonly Py_ssize_t listened    # channels that are listened to; one of several sets of channels counts in each
        # plain counters; others read them
        readonly uint64_t held      # bytes of kernel memory that wait for the clients of sockets, when last looked at
        readonly uint64_t deliveries, delivered_bytes, writes, heartbeats, gaps, slow
        readonly uint64_t told      # groups that were told of news of a channel they share

    cdef void let_go(self, Subscriber subscriber) noexcept
    cdef Group _open_group(self, tuple names)
    cdef int _enter(self, Subscriber subscriber, Group group, Sink sink, after, long long begin, uint64_t newest, uint64_t history) except -1
    cdef void _close_group(self, Group group) noexcept
    cdef bint _is_busy(self) noexcept
    cdef bint _untold(self) noexcept
    cdef void _spread_news(self) noexcept
    cdef uint64_t _newest_of(self, Group group) noexcept
    cdef void _queue(self, Group group, uint64_t position) noexcept
    cdef int _hand_out(self, double now, long long sweeps_end, long long deadline, long long budget_ns) except -1
    cdef void _catch_up_later(self, Subscriber subscriber) noexcept
    cdef bint _sweep(self, Group group, double now, long long deadline) except -1
    cdef int _visit(self, Subscriber subscriber, double now) except -1
    cdef int _finish(self, Subscriber subscriber, double now) except -1
    cdef bint _prepare(self, Subscriber subscriber, Batch batch) except -1
    cdef int _hand_over(self, Subscriber subscriber, Batch batch, double now) except -1
    cdef void _count_write(self, Batch batch) noexcept
    cdef void _park(self, Subscriber subscriber) noexcept
    cdef void _unpark(self, Subscriber subscriber) noexcept
    cdef void _weigh(self, Subscriber subscriber, uint32_t held) noexcept
    cdef int _time_out(self, Subscriber subscriber) except -1
    cdef void _load(self, Subscriber subscriber, int fd, Batch batch, double now) noexcept
    cdef int _fire(self) except -1
    cdef int _let_go(self, PyObject** subscribers, const ssize_t* results, int size) except -1
    cdef int _skip_ahead(self, Subscriber subscriber) except -1
    cdef Batch _gap(self, Subscriber subscriber)
    cdef int _leave(self, Subscriber subscriber, reason, error) except -1
    cdef int _tell_end(self, Subscriber subscriber, Sink sink, reason, error) except -1
    cdef void _remove(self, Subscriber subscriber) noexcept
