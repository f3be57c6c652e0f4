# Who listens, for C callers.
#
# `open` finds or makes the group of a set of channels, `enter` puts a subscriber into it, `remove` takes it out and closes
# what nobody listens to any more. `spread` moves news from the index's fresh channels to `news`, the groups to sweep.

from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int32_t, uint32_t, uint64_t

from sse_fast._native.base.queue cimport Linked, Queue
from sse_fast._native.fanout.forms cimport Envelopes
from sse_fast._native.fanout.sinks cimport Sink
from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index
from sse_fast._native.log.selection cimport Selection
from sse_fast._native.log.sources cimport Source


cdef enum State:
    READY = 0
    PARKED = 1                      # before its start, or blocked: sweeps pass over it, its cursor stays
    CLOSED = 2


cdef enum Ending:                   # why a stream has an end, and whether its client was told that it is near
    NEVER = 0
    AGES = 1
    EXPIRES = 2
    EXPIRES_SOON = 3


cdef enum Owed:                     # what a subscriber is to be told before anything else
    GAP_OWED = 1                    # it was skipped ahead, from `at`: a position, until it is told
    NOTICE_OWED = 2                 # its end is near
    HISTORY_OWED = 4                # it looks for the newest `told_after` events of its patterns that are not after `at`


cdef class Group(Linked):           # the subscribers to the same channels in the same form; queued: they have news
    cdef:
        tuple channels              # patterns come last
        Selection selection         # of them; None: there are no patterns
        bint enveloped              # the form: events in envelopes
        bint hides                  # who comes back is not shown all of them
        bint conflates              # who lags is not handed what is superseded
        bint reserves               # some of them have a reserve
        uint64_t number             # of its own, for what is remembered of them
        uint32_t* places            # where it is among the groups that listen to each of them; NULL: it is a solo group
        object key                  # what finds it again; None: it is its channel's solo group
        list subscribers
        Py_ssize_t next             # the sweep: who is visited next, and how many are left to visit
        Py_ssize_t remaining
        uint64_t last_position


cdef inline bint is_of_several(Group group) noexcept:
    """Whether it may have more than one channel."""
    return group.selection is not None or PyTuple_GET_SIZE(group.channels) > 1


cdef enum Began:
    LOST = 1                        # behind events that are gone, or not shown
    LAGS = 2                        # it has begun in the past, or was blocked, and has not caught up
    QUIET = 4                       # it gets events alone: comments for what else would be said, and its end for a gap


# There are as many of these as streams, and with 8 bytes more each would take 16: the largest fields first, flags last.
cdef class Subscriber(Linked):      # queued: it is behind, or was not told of its end yet
    cdef:
        readonly Sink sink
        readonly uint64_t position  # the cursor: everything of its channels up to here was handed over
        Group group
        uint64_t at                 # the index's link that was handed over last, to go on from; see Owed; of several
                                    # channels, some with a reserve: the position up to where it knows of what is gone
        readonly uint64_t events, bytes     # of the log, that it was handed
        uint64_t told_after         # see Owed; else: what was forgotten by then it need not be told of; when it began
        readonly double touched     # when it was last written to; of a blocked one, when it blocked
        object untold               # of one that left: why, until its sink has been told
        readonly uint64_t number
        readonly double opened      # seconds since 1970, as is `until`
        double until_               # when it ends
        readonly str user, address
        uint32_t catches_up         # bytes that it may catch up by before it has a long way to go
        uint32_t held               # what `Deadlines.held` has of it
        int32_t place_in_group, place
        int32_t place_blocked       # -1: it is not blocked
        int32_t place_ending        # -1: it has no end
        unsigned char state         # of State
        unsigned char ending        # of Ending
        unsigned char must_tell     # of Owed, together
        unsigned char in_volley     # gathered, but not written to yet
        unsigned char finished_     # it was handed the last frame: nothing more is written to it
        unsigned char began         # of Began, together
        readonly unsigned char timeouts     # in a row, in which it took nothing
        unsigned char stepped       # its sink calls Python, and is no socket


cdef class Groups:
    cdef:
        Index index
        Py_ssize_t look             # links that are looked at for what a pattern had before, a call
        list everyone               # all subscribers
        Queue news                  # of groups
        Envelopes envelopes
        dict _by_names
        Channel _heard              # whose groups are being told of it, from the last to the first
        Py_ssize_t _left
        Py_ssize_t _tell
        Py_ssize_t listened         # channels that are listened to; one of several sets of channels counts in each
        Py_ssize_t stepped          # subscribers whose sinks are no sockets
        uint64_t told               # groups that were told of news of a channel they share

    cdef Group open(self, tuple names, tuple patterns, bint enveloped, Source source=*)
    cdef void _release(self, Channel channel) noexcept
    cdef void close_if_empty(self, Group group) noexcept
    cdef int enter(self, Group group, Subscriber subscriber) except -1
    cdef void remove(self, Subscriber subscriber) noexcept
    cdef list listening_to(self, bytes name)
    cdef list page(self, Py_ssize_t* before, Py_ssize_t limit, Py_ssize_t looks, object number, bytes channel, str user, str address)
    cdef bint untold(self) noexcept
    cdef void spread(self) noexcept
    cdef uint64_t newest_of(self, Group group) noexcept
    cdef void _queue(self, Group group, uint64_t position) noexcept
