# The index for C callers.
#
# `take_in` reads what is new in the log and leaves the channels that got something in `fresh`; `pieces` copies events out.
# Whatever raises has changed nothing, and may be called again.

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from sse_fast._native.base.queue cimport Queue
from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.ids cimport Ids
from sse_fast._native.log.layout cimport Record
from sse_fast._native.log.newest cimport Newest
from sse_fast._native.log.pages cimport Pages, thing
from sse_fast._native.log.patterns cimport Patterns
from sse_fast._native.log.ring cimport Log
from sse_fast._native.log.rules cimport Rules


cdef enum:
    PRIVATE = 0x8000                # beside `Entry.links`: of a private event, whose first link is of its hidden name
    MERGED = 4096                   # links that are merged for one piece, or counted one by one where none are shared


cdef struct Entry:                  # one kept event, in log order
    uint64_t position
    uint64_t offset                 # of its record
    uint32_t frame_length
    uint16_t names_length
    uint16_t links                  # how many channels it has


cdef struct Link:                   # an event in the list of one of its channels; how many links away others are:
    void* channel                   # borrowed: a channel lives while it has links
    uint32_t event                  # number of its entry, but for its upper half
    uint32_t next                   # the channel's next; 0: none
    uint32_t previous
    uint32_t jump                   # one of the channel's further back; it may be gone
    uint32_t span                   # how many of the channel's that is; 0: it was the channel's first
    uint32_t newer                  # the channel's with the same conflation key; 0: none, or it does not conflate


cdef struct Mark:                   # an epoch from outside begins (`epochs.pyx`); everybody passes it
    uint64_t position
    uint64_t fork                   # what is behind it, and before the mark, is passed over
    uint64_t number                 # of its entry


cdef struct Piece:
    uint64_t end                    # the cursor after it
    uint64_t at                     # number of its last link, to go on from; 0 over several channels
    uint32_t events
    uint32_t length                 # bytes of their frames
    bint more
    uint32_t reserve                # number of the reserve that it is of; 0: of none
    uint64_t milliseconds           # when the first of them was published: wall clock


cdef struct View:                   # what a stream is shown that comes back, or lags
    uint64_t until                  # of what is not after this, what namespaces still show; 0: of all, all
    uint64_t now                    # when it began: milliseconds since 1970
    bint latest                     # superseded events are left out


@cython.final
cdef class Index:
    cdef:
        readonly Log log
        tuple reserves              # of the log's reserves: an Index of each
        uint32_t number             # of a reserve, the others' begin with 1; 0: it is the log's
        void* whole                 # of a reserve: the log's Index, borrowed
        dict channels
        Py_ssize_t _hidden          # of those, hidden names of private events
        list _listed                # the same channels; the last moves into the place of one that goes
        readonly Patterns patterns  # that are listened to
        Rules rules
        Newest _newest_of_keys
        readonly Ids ids            # of publishers
        Queue fresh                 # of channels and patterns
        readonly uint64_t position  # newest position taken in
        uint64_t newest             # number of the newest entry ever taken in
        Py_ssize_t _remembered
        object _gone                # channel -> position of its newest evicted event; bounded
        dict _forgets               # channel -> position of the newest record that had it forget; bounded
        uint64_t _forgets_before    # up to there it may be any channel
        readonly uint64_t forgotten # newest eviction that is remembered for no channel in particular
        uint64_t _lapped            # upper end of a hole in what was read
        uint64_t _floor             # newest evicted position of any channel
        uint64_t _any_gone          # the same, or forgotten
        uint64_t _forgot_position   # the newest forgotten
        uint64_t _forgot_at         # a position after which a channel forgot last
        uint64_t _forgot_before     # number of the entry where a channel forgot last: before it some may be forgotten
        uint64_t _offset            # read up to here
        Pages _entries, _links
        uint64_t _first_link, _newest_link
        uint64_t _shared            # entries of several channels that are there
        uint64_t _widest            # the most that one has had since there were none
        uint64_t _merge             # links that are walked one by one to find the newest events
        uint64_t _first             # numbers of the oldest entry that is there, and of the oldest one whose record is:
        uint64_t _live              # those between were evicted, and wait to be dropped
        Py_ssize_t _drop
        Mark* _marks                # oldest first
        size_t _mark_count, _mark_room
        uint64_t _last_mark, _gone_mark     # positions
        uint64_t _passed            # position of the newest event that is gone and was superseded,
        uint64_t _passed_by         # and that of the newest that superseded such a one
        uint64_t _missed            # up to here such ones are missed: a fork has come between
        uint64_t _for_all           # what all channels are to be told of: the end of a hole, or a mark
        uint64_t _told_of           # what they are being told of, from the last to the first
        Py_ssize_t _untold          # how many are left
        readonly uint64_t steps     # entries that were looked at to find and to merge others
        uint64_t* _heap             # scratch for merging channels: links
        uint64_t* _merged           # entries in log order
        size_t _room                # of the heap

    # Inline: to look things up is most of what merging does.
    cdef inline Entry* entry(self, uint64_t number) noexcept:
        return <Entry*>thing(&self._entries, number, sizeof(Entry))

    cdef inline Link* link(self, uint64_t number) noexcept:
        return <Link*>thing(&self._links, number, sizeof(Link))

    cdef inline uint64_t event_of(self, uint64_t number) noexcept:
        """Number of the entry of a link that is there."""
        return self._first + <uint32_t>(self.link(number).event - <uint32_t>self._first)

    cdef inline uint64_t position_of(self, uint64_t number) noexcept:
        return self.entry(self.event_of(number)).position

    cdef inline bint evicted_after(self, uint64_t position) noexcept:
        """Whether events after a position are gone, of whatever channels."""
        return position < self._any_gone

    cdef inline bint is_private(self, uint64_t event) noexcept:
        return self.entry(event).links & PRIVATE

    cdef bint take_in_some(self, Py_ssize_t limit) except -1
    cdef bint _take_in_reserves(self, Py_ssize_t limit) except -1
    cdef bint reserves_lag(self) noexcept
    cdef void evict(self) noexcept
    cdef int _remember_forget(self, bytes name, uint64_t position) except -1
    cdef void _forget(self, Channel channel) noexcept
    cdef bint _forget_reserved(self, Channel channel) noexcept
    cdef bint owes(self) noexcept
    cdef bint tells_of_hole(self) noexcept
    cdef Channel open_channel(self, bytes name)
    cdef void release_if_idle(self, Channel channel) noexcept
    cdef bint _is_behind_fork(self, uint64_t position, uint64_t newer) noexcept
    cdef void _lap(self) noexcept
    cdef void _drop_evicted(self, Py_ssize_t count) noexcept
    cdef void _tell_of_hole(self, Py_ssize_t count) noexcept
    cdef void _note_id(self, Record* record) noexcept
    cdef int _take_in_mark(self, Record* record, bytes names) except -1
    cdef Mark* mark_after(self, uint64_t position) noexcept
    cdef uint64_t widest(self, uint64_t lists) noexcept
    cdef Py_ssize_t _take_in_shared(self, Record* record, bytes packed) except -1
    cdef int _make_room_for(self, uint64_t links) except -1
    cdef void _add(self, Record* record, Py_ssize_t links) noexcept
    cdef Py_ssize_t _link(self, Channel channel, bint is_private) noexcept
    cdef void _supersede(self, Channel channel, uint64_t key) noexcept
    cdef uint64_t first_after(self, Channel channel, uint64_t position, uint64_t* count) noexcept
    cdef int make_room(self, size_t size) except -1
