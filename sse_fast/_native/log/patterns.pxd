# The patterns that are listened to, for C callers.
#
# To a group of the fan-out a pattern is one more channel: it has who listens, and the position of its newest event. Of
# those events it keeps positions instead of a list in the index (`selection` says what for).

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.queue cimport Queue
from sse_fast._native.log.channels cimport Channel, Match
from sse_fast._native.log.sources cimport Source, Template


cdef class Node:                    # where the patterns are that begin alike
    cdef:
        dict named                  # segment -> Node; None: there are none
        Node one                    # behind `*`
        Pattern ends                # that ends here
        Pattern rest                # that goes on with `**`
        Node above                  # None: it is the root, or taken out
        bytes segment               # by which it is found there; None: it is behind `*`


cdef class Pattern(Channel):        # `place` is in `Patterns.listed`, `evicted` of an event that is known to be gone
    cdef:
        Patterns home
        Node node
        bint is_rest
        Source source               # what it is instead, of streams with matchers; None: it is its text
        uint64_t known              # every kept event of it after this position is among the remembered
        uint64_t newest             # position of its newest event, as far as is known
        uint64_t* positions         # the remembered: a ring, oldest first
        uint32_t begin, count, room
        uint64_t born               # what its channels did is known from this position on
        uint64_t forgot             # position of the newest that one of its channels forgot since,
        uint64_t forgot_at          # and one after which one did last
        # what was found last of the channels that it has: where they were evicted, and by what that stands or falls
        uint64_t gone, gone_floor, gone_forgotten, gone_forgot

    cdef bint has(self, bytes name) noexcept
    cdef void add(self, uint64_t position, uint64_t floor) noexcept
    cdef bint add_before(self, uint64_t position) noexcept
    cdef bint _grow(self) noexcept
    cdef void _drop_oldest(self, uint64_t floor) noexcept
    cdef uint32_t count_until(self, uint64_t position) noexcept

    cdef inline uint64_t at(self, uint32_t number) noexcept:
        """Position of one of the remembered, the oldest of which is number 0."""
        return self.positions[(self.begin + number) & (self.room - 1)]


cdef class Patterns:
    cdef:
        list listed                 # all of them; the last moves into the place of one that goes
        readonly Py_ssize_t count
        uint64_t version
        list _changed               # what came, went, or moved within `listed` with each of the last versions: its text, or source
        Node _root
        dict _sources               # Source -> Pattern
        dict _exact                 # name -> the Patterns of sources that name it
        dict _templates             # matcher -> Template
        dict _tried                 # those by which somebody listens: their literals -> {Template: None}
        dict _lengths               # of these literals -> how many have that
        Py_ssize_t _weight          # of the tried
        dict _matches               # places, and how many nodes were looked at -> Match
        Py_ssize_t untold           # how many are to be told of a hole
        readonly uint64_t looked    # nodes that were looked at for channels
        readonly uint64_t compared  # names with what has changed
        readonly uint64_t remembered    # positions that there is room for in all of them
        uint64_t most               # of those, but for this many of each pattern
        uint32_t least

    cdef Pattern open(self, bytes text, uint64_t position)
    cdef Pattern open_source(self, Source source, uint64_t position)
    cdef int _listen(self, Pattern pattern) except -1
    cdef void _listen_no_more(self, Pattern pattern) noexcept
    cdef Template _template(self, matcher)
    cdef void _release_template(self, Template template) noexcept
    cdef int _try(self, Template template) except -1
    cdef void _try_no_more(self, Template template) noexcept
    cdef int _sources_of(self, bytes name, list found) except -1
    cdef list _texts_of(self, bytes name)
    cdef void release(self, Pattern pattern) noexcept
    cdef int look(self, Channel channel) except -1
    cdef bint _concerned(self, bytes name, Match match) noexcept
    cdef void _note(self, Pattern pattern) noexcept
    cdef Py_ssize_t tell(
        self, Channel channel, uint64_t position, uint64_t floor, Queue news, bint is_private
    ) noexcept
    cdef void forget(self, Channel channel, uint64_t at) noexcept
    cdef void tell_next_of_hole(self, uint64_t position, Queue news) noexcept
    cdef list of(self, bytes name)
    cdef Node _child(self, Node node, bytes segment)
    cdef void _prune(self, Node node) noexcept


cdef bint matches(bytes pattern, bytes name) noexcept
cdef bint fits(const char* p, size_t p_length, const char* n, size_t n_length) noexcept nogil
cdef bint covers(bytes outer, bytes inner) noexcept
cdef bint meet(bytes one, bytes other) noexcept
