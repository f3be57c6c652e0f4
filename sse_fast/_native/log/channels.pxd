# A channel, for C callers: where its kept events are in the index, who listens to it, and which patterns it is of.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.queue cimport Linked


cdef struct Listening:              # a group of the fan-out that listens to a channel among others
    void* group                     # borrowed: a group takes itself out before it goes
    uint32_t which                  # of the group's channels this one is


cdef class Rule:                    # what holds for the channels of a pattern, see `rules`
    cdef:
        readonly bytes pattern
        uint64_t keep               # events of one channel that are shown to who comes back; 0: all that are kept
        uint64_t max_age            # milliseconds for which they are; 0: as long as they are kept
        bint conflates              # who lags, or comes back, gets of each key the newest event only


cdef class Match:                   # which patterns channels are of; many share one
    cdef:
        uint64_t version            # of the patterns: since then others have come or gone, and it is to be looked again
        bytes places                # in `Patterns.listed`; of four bytes each
        uint64_t looked             # nodes that were looked at for it, up to the next power of two


cdef class Channel(Linked):         # queued: it got something
    cdef:
        readonly bytes name
        Py_ssize_t place            # in `Index._listed`
        uint32_t reserve            # number of the log's reserve that it has; 0: none
        uint64_t first, last        # numbers of links; 0: none is kept
        uint64_t forgot             # number of the link at which it forgot those before: they are in no list, and are
                                    # dropped with their entries; 0: it never did
        readonly uint64_t kept
        readonly uint64_t last_position
        readonly uint64_t evicted   # position of its newest event that is gone: resuming before it is a gap
        Match matched               # None: nobody has looked
        Rule rule                   # None: there is none
        # the fan-out's: who listens
        readonly uint64_t subscribers
        object solo                 # the group of those who listen to this channel alone
        Listening* listening        # the groups it shares with other channels
        uint32_t listening_count, listening_room
