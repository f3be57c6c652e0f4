# The index for C callers.
#
# `take_in` reads what is new in the log and leaves the channels that got something in `fresh`. `cut` copies the events
# after a cursor out of the log, as one piece of bytes.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.ring cimport Log


cdef struct Entry:                  # one kept event, in log order; a channel's events are a list through the entries
    uint64_t position
    uint64_t offset                 # of its record
    uint64_t next                   # number of the channel's next entry; 0: none
    uint64_t previous
    uint32_t frame_start            # counted from the record's channel name
    uint32_t frame_length
    void* channel                   # borrowed: a channel lives while it has entries


cdef struct Piece:
    uint64_t end                    # the cursor after it
    uint64_t at                     # number of its last entry, to go on from; 0 over several channels
    uint32_t events
    bint more


cdef class Channel:
    cdef:
        readonly bytes name
        uint64_t first, last        # entry numbers; 0: none is kept
        readonly uint64_t kept
        readonly uint64_t last_position
        readonly uint64_t evicted   # position of its newest event that is gone: resuming before it is a gap
        bint is_fresh
        uint64_t mark               # `Index._stamp` while it is among the channels that are looked for
        # the fan-out's: who listens
        readonly uint64_t subscribers
        object solo                 # the group of those who listen to this channel alone
        dict groups                 # the groups it shares with other channels; None: there never were any


cdef class Index:
    cdef:
        readonly Log log
        dict channels
        list fresh
        readonly uint64_t position  # newest position taken in
        uint64_t newest             # number of the newest entry ever taken in
        Py_ssize_t _remembered
        object _gone                # channel -> position of its newest evicted event; bounded
        readonly uint64_t forgotten # newest eviction that is remembered for no channel in particular
        uint64_t _lapped            # upper end of a hole in what was read
        uint64_t _floor             # newest evicted position of any channel
        uint64_t _offset            # read up to here
        Entry* _entries
        uint64_t _mask, _first
        uint64_t* _numbers          # scratch for merging channels
        size_t _room
        uint64_t _stamp

    cdef Entry* entry(self, uint64_t number) noexcept
    cdef bint take_in_some(self, Py_ssize_t limit) except -1
    cdef int evict(self) except -1
    cdef Channel open_channel(self, bytes name)
    cdef int release_if_idle(self, Channel channel) except -1
    cdef uint64_t evicted_of(self, tuple channels) noexcept
    cdef bint lost_after(self, tuple channels, uint64_t position) noexcept
    cdef uint64_t before_newest(self, tuple channels, uint64_t count) except? 0
    cdef bytes cut(self, tuple channels, uint64_t position, uint64_t at, uint32_t limit, Piece* piece)
    cdef int _lap(self) except -1
    cdef int _add(self, Channel channel, uint64_t position, uint64_t offset, uint32_t start, uint32_t length) except -1
    cdef uint64_t _first_after(self, Channel channel, uint64_t position, uint64_t at) noexcept
    cdef size_t _scan(self, tuple channels, uint64_t position) except? 0
    cdef int _mark(self, tuple channels) except -1
    cdef int _make_room(self) except -1
    cdef size_t _gather(self, tuple channels, uint64_t position, uint64_t per_channel) except? 0
