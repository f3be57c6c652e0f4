"""The index: where each channel's kept events are. Private to a worker, built by tailing the log.

What it keeps: one entry per kept event, in log order, and through them a list per channel; so a publish costs O(1)
whatever the number of channels, and a channel's backlog is walked without touching anybody else's.
What it drops: entries of events the log evicted. A channel with neither events nor subscribers is dropped too.
Who is told: whoever resumes. Evicting leaves the position behind (`Channel.evicted`, then `_gone`, at last `forgotten`),
so that `lost_after` can tell *complete* from *gap*. Memory of evictions is bounded; past the bound it says gap.
"""

from collections import OrderedDict

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy

from sse_fast._native.ring cimport READ_AT_HEAD, READ_OVERTAKEN, Record

cdef Py_ssize_t TAKE_IN = 4096      # records a call: about half a millisecond

cdef enum:
    GATHER = 4096                   # entries merged over channels at once
cdef uint64_t ALL = <uint64_t>-1


cdef class Channel:
    """A channel that has kept events or subscribers."""

    def __cinit__(self, bytes name not None):
        self.name = name


cdef int by_number(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<uint64_t*>a)[0], y = (<uint64_t*>b)[0]
    return (x > y) - (x < y)


cdef class Index:
    """Index(log, *, remembered=65536): remembers for that many dropped channels where they were evicted."""

    def __cinit__(self, Log log not None, *, Py_ssize_t remembered=65536):
        self.log = log
        self.channels = {}
        self.fresh = []
        self._gone = OrderedDict()      # the oldest leaves first; a dict would look for it among those that left
        self._remembered = remembered
        self._mask = 1023
        self._entries = <Entry*>malloc((self._mask + 1) * sizeof(Entry))
        self._room = 256
        self._numbers = <uint64_t*>malloc(self._room * sizeof(uint64_t))
        if self._entries == NULL or self._numbers == NULL:
            raise MemoryError
        self._first = 1
        self._offset = log.load_tail()
        # A log that was there before this index: what it evicted earlier cannot be known channel by channel.
        self._lap()

    def __dealloc__(self):
        free(self._entries)
        free(self._numbers)

    # ---- for Python -------------------------------------------------------------------------------------------------

    def __len__(self):
        return len(self.channels)

    def get(self, bytes name not None):
        """The channel of that name, or None if it has neither events nor subscribers."""
        return self.channels.get(name)

    def names(self):
        """Names of all channels, in the order they were first seen."""
        return list(self.channels)

    @property
    def unread(self):
        """Bytes of the log that were not taken in yet."""
        return self.log.load_head() - self._offset

    @property
    def kept(self):
        """Events in the index."""
        return self.newest + 1 - self._first

    def take_in(self, Py_ssize_t limit=TAKE_IN):
        """Take in up to `limit` new records. True if there are more."""
        return self.take_in_some(limit)

    # ---- tailing the log --------------------------------------------------------------------------------------------

    cdef Entry* entry(self, uint64_t number) noexcept:
        return &self._entries[number & self._mask]

    cdef bint take_in_some(self, Py_ssize_t limit) except -1:
        cdef Record record
        cdef Py_ssize_t count = 0
        cdef int status = READ_AT_HEAD
        cdef Channel channel
        cdef bytes name
        while count < limit:
            status = self.log.read_record(&self._offset, &record)
            if status == READ_AT_HEAD:
                break
            if status == READ_OVERTAKEN:
                self._lap()
                continue
            name = PyBytes_FromStringAndSize(self.log.channel_at(self._offset), record.channel_length)
            if not self.log.still_holds(self._offset):
                self._lap()
                continue
            channel = self.open_channel(name)
            self._add(channel, record.position, self._offset, record.channel_length, record.frame_length)
            if not channel.is_fresh:
                channel.is_fresh = True
                self.fresh.append(channel)
            self._offset += record.length
            count += 1
        self.evict()
        return status != READ_AT_HEAD

    cdef int _add(self, Channel channel, uint64_t position, uint64_t offset, uint32_t start, uint32_t length) except -1:
        cdef uint64_t number = self.newest + 1, i
        cdef Entry* grown
        cdef Entry* entry
        if number - self._first > self._mask:
            grown = <Entry*>malloc(2 * (self._mask + 1) * sizeof(Entry))
            if grown == NULL:
                raise MemoryError
            for i in range(self._first, number):
                grown[i & (2 * self._mask + 1)] = self._entries[i & self._mask]
            free(self._entries)
            self._entries = grown
            self._mask = 2 * self._mask + 1
        entry = self.entry(number)
        entry.position = position
        entry.offset = offset
        entry.next = 0
        entry.previous = channel.last
        entry.frame_start = start
        entry.frame_length = length
        entry.channel = <void*>channel
        if channel.last:
            self.entry(channel.last).next = number
        else:
            channel.first = number
        channel.last = number
        channel.kept += 1
        channel.last_position = position
        self.newest = number
        self.position = position
        return 0

    cdef int evict(self) except -1:
        """Drop the entries whose records the log gave up."""
        cdef uint64_t tail = self.log.load_tail()
        cdef Entry* entry
        cdef Channel channel
        while self._first <= self.newest:
            entry = self.entry(self._first)
            if entry.offset >= tail:
                break
            channel = <Channel>entry.channel
            self._first += 1
            channel.evicted = entry.position
            self._floor = max(self._floor, entry.position)
            channel.kept -= 1
            channel.first = entry.next
            if entry.next:
                self.entry(entry.next).previous = 0
            else:
                channel.last = 0
                self.release_if_idle(channel)
        return 0

    cdef int _lap(self) except -1:
        """The log overtook this reader (or was there before it): go on at its tail, and know that there is a hole."""
        cdef Record record
        cdef int status
        cdef Channel channel
        while True:
            self._offset = self.log.load_tail()
            status = self.log.read_record(&self._offset, &record)
            if status != READ_OVERTAKEN:
                break
        if status == READ_AT_HEAD:
            return 0                # an empty log; a position that is being taken right now is no hole
        cdef uint64_t end = record.position - 1
        if end > self.position:
            self._lapped = self._floor = self.position = end
            for name in self.channels:
                channel = self.channels[name]
                channel.last_position = end
                if not channel.is_fresh:
                    channel.is_fresh = True
                    self.fresh.append(channel)
        return 0

    # ---- channels ---------------------------------------------------------------------------------------------------

    cdef Channel open_channel(self, bytes name):
        cdef Channel channel = self.channels.get(name)
        if channel is None:
            channel = Channel.__new__(Channel, name)
            channel.evicted = self._gone.pop(name, self.forgotten)
            channel.last_position = channel.evicted
            self.channels[name] = channel
        return channel

    cdef int release_if_idle(self, Channel channel) except -1:
        """Drop a channel that has neither events nor subscribers, but remember where it was evicted."""
        if channel.kept or channel.subscribers:
            return 0
        del self.channels[channel.name]
        if channel.evicted > self.forgotten:
            self._gone[channel.name] = channel.evicted
            if <Py_ssize_t>len(self._gone) > self._remembered:
                self.forgotten = max(self.forgotten, self._gone.popitem(last=False)[1])
        return 0

    cdef uint64_t evicted_of(self, tuple channels) noexcept:
        """Position of the newest event of these channels that is gone, as far as is known."""
        cdef uint64_t newest = self._lapped
        for channel in channels:
            if (<Channel>channel).evicted > newest:
                newest = (<Channel>channel).evicted
        return newest

    cdef bint lost_after(self, tuple channels, uint64_t position) noexcept:
        """Whether events of these channels after `position` are gone; where that cannot be known, True."""
        return position < self._floor and position < self.evicted_of(channels)

    cdef uint64_t before_newest(self, tuple channels, uint64_t count) except? 0:
        """The cursor that stands just before the newest `count` kept events of these channels."""
        cdef uint64_t kept = 0, number = self.newest + 1
        cdef size_t found
        for channel in channels:
            kept += (<Channel>channel).kept
        if kept <= count:
            return self.evicted_of(channels)
        if count == 0:
            return self.position
        if count * <uint64_t>len(channels) <= GATHER:
            # One more of each channel than is wanted: the cursor is before the last of those that are.
            found = self._gather(channels, 0, count + 1)
            return self.entry(self._numbers[found - count]).position - 1
        self._mark(channels)
        while count:
            number -= 1
            count -= (<Channel>self.entry(number).channel).mark == self._stamp
        return self.entry(number).position - 1

    # ---- copying out ------------------------------------------------------------------------------------------------

    cdef uint64_t _first_after(self, Channel channel, uint64_t position, uint64_t at) noexcept:
        """Number of the channel's first entry after `position`; `at` is the entry last handed over, if that is known."""
        cdef uint64_t number = channel.last, found = 0
        if at >= self._first and at:
            return self.entry(at).next
        while number and self.entry(number).position > position:
            found = number
            number = self.entry(number).previous
        return found

    cdef size_t _gather(self, tuple channels, uint64_t position, uint64_t per_channel) except? 0:
        """Collect into `_numbers`, in log order, the entries after `position`, of each channel the newest `per_channel`.

        More than GATHER says that there are more than that: then `_numbers` is not in order, and `_scan` is cheaper.
        """
        cdef size_t found = 0
        cdef uint64_t number, left
        for channel in channels:
            number = (<Channel>channel).last
            left = per_channel
            while number and left and self.entry(number).position > position:
                if found == self._room:
                    self._make_room()
                self._numbers[found] = number
                found += 1
                if found > GATHER and per_channel == ALL:
                    return found
                left -= 1
                number = self.entry(number).previous
        qsort(self._numbers, found, sizeof(uint64_t), &by_number)
        return found

    cdef size_t _scan(self, tuple channels, uint64_t position) except? 0:
        """Collect into `_numbers` the first GATHER entries after `position`, walking the log's order from there.

        For a long backlog: walking the channels back from their newest would take the whole of it for every piece.
        """
        cdef uint64_t low = self._first, high = self.newest + 1, middle
        cdef size_t found = 0
        while low < high:
            middle = low + (high - low) // 2
            if self.entry(middle).position > position:
                high = middle
            else:
                low = middle + 1
        self._mark(channels)
        while low <= self.newest and found < GATHER:
            if (<Channel>self.entry(low).channel).mark == self._stamp:
                if found == self._room:
                    self._make_room()
                self._numbers[found] = low
                found += 1
            low += 1
        return found

    cdef int _mark(self, tuple channels) except -1:
        self._stamp += 1
        for channel in channels:
            (<Channel>channel).mark = self._stamp
        return 0

    cdef int _make_room(self) except -1:
        cdef uint64_t* grown = <uint64_t*>realloc(self._numbers, 2 * self._room * sizeof(uint64_t))
        if grown == NULL:
            raise MemoryError
        self._numbers = grown
        self._room *= 2
        return 0

    cdef bytes cut(self, tuple channels, uint64_t position, uint64_t at, uint32_t limit, Piece* piece):
        """The frames after `position`, oldest first, whole, up to `limit` bytes and at least one, as one piece.

        None if there are none (then `piece.end` is where the index stands) or if the log took them away meanwhile
        (then `piece.end` is 0; `evict` has run, and `lost_after` knows).
        """
        cdef bint single = len(channels) == 1
        cdef size_t count = 0, found = 0, i
        cdef uint64_t number, oldest = 0
        cdef uint64_t length = 0
        cdef bint beyond = False        # whether there may be more than was collected
        cdef Entry* entry
        if single:
            number = self._first_after(<Channel>channels[0], position, at)
            oldest = number
        else:
            found = self._gather(channels, position, ALL)
            if found > GATHER:
                found = self._scan(channels, position)
                beyond = found == GATHER
            number = oldest = self._numbers[0] if found else 0
        if number == 0:
            piece.end = self.position
            piece.at = at
            piece.more = False
            return None

        # First pass: how much fits. Second pass: copy.
        while number:
            entry = self.entry(number)
            if count and length + entry.frame_length > limit:
                break
            length += entry.frame_length
            piece.end = entry.position
            piece.at = number
            count += 1
            if single:
                number = entry.next
            else:
                number = self._numbers[count] if count < found else 0
        piece.events = <uint32_t>count
        piece.more = number != 0 or beyond
        if not piece.more:
            piece.end = self.position
        cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
        cdef char* to = PyBytes_AS_STRING(out)
        number = oldest
        for i in range(count):
            if not single:
                number = self._numbers[i]
            entry = self.entry(number)
            memcpy(to, self.log.channel_at(entry.offset) + entry.frame_start, entry.frame_length)
            to += entry.frame_length
            number = entry.next
        if not single:
            piece.at = 0
        if not self.log.still_holds(self.entry(oldest).offset):
            self.evict()
            piece.end = 0
            return None
        return out
