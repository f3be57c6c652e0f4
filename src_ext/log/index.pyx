"""The index: where each channel's kept events are. Private to a worker, built by tailing the log.

What it keeps: one entry per kept event, in log order, and through them a list per channel; so a publish costs O(1)
whatever the number of channels, and a channel's backlog is walked without touching anybody else's.
What it drops: entries of events the log evicted. A channel with neither events nor subscribers is dropped too.
Who is told: whoever resumes. Evicting leaves the position behind (`Channel.evicted`, then `_gone`, at last `forgotten`),
so that `lost_after` can tell *complete* from *gap*. Memory of evictions is bounded; past the bound it says gap.

One batch may evict any number of entries, and a hole concern any number of channels. So that no call takes long, it is
noted at once where what is kept begins (`_live`, `_lapped`), which is all that readers go by; the entries before that are
dropped, and the channels told, so many a call.

When an allocation fails, MemoryError is raised before anything has changed; what gives memory back never fails.
"""

from collections import OrderedDict

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.string cimport memcmp, memcpy

from sse_fast._native.base.queue cimport Queue, drop_last
from sse_fast._native.log.ring cimport READ_AT_HEAD, READ_OVERTAKEN, Record

cdef Py_ssize_t TAKE_IN = 4096      # records a call: about half a millisecond

cdef enum:
    PAGE_BITS = 10                  # a page has 1,024 entries: the index grows without moving any
    MERGED = 4096                   # entries that one piece has at most, or that are counted one by one


cdef class Channel:
    """A channel that has kept events or subscribers."""

    def __cinit__(self, bytes name not None):
        self.name = name

    def __dealloc__(self):
        PyMem_RawFree(self.listening)


cdef void sift_down(uint64_t* heap, size_t size) noexcept nogil:
    """Put the first of a heap, the smallest of which is to come first, in its place."""
    cdef uint64_t moved = heap[0]
    cdef size_t at = 0, child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if moved <= heap[child]:
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moved


cdef void push(uint64_t* heap, size_t size, uint64_t number) noexcept nogil:
    """Add to a heap of `size`, which has room for it."""
    cdef size_t at = size, above
    while at:
        above = (at - 1) // 2
        if heap[above] <= number:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = number


@cython.final
cdef class Index:
    """Index(log, *, remembered=65536, drop=1024): remembers for that many dropped channels where they were evicted.

    A call drops `drop` evicted entries at most, or as many as it takes in (1.5 ms), and tells as many channels of a hole.
    """

    def __cinit__(self, Log log not None, *, Py_ssize_t remembered=65536, Py_ssize_t drop=1024):
        self.log = log
        self.channels = {}
        self._listed = []
        self.fresh = Queue()
        self._gone = OrderedDict()      # the oldest leaves first; a dict would look for it among those that left
        self._remembered = remembered
        self._drop = drop
        self._pages = <Entry**>PyMem_RawCalloc(1, sizeof(Entry*))
        self._room = 256
        self._heap = <uint64_t*>PyMem_RawMalloc(self._room * sizeof(uint64_t))
        self._merged = <uint64_t*>PyMem_RawMalloc(MERGED * sizeof(uint64_t))
        if self._pages == NULL or self._heap == NULL or self._merged == NULL:
            raise MemoryError
        self._pages[0] = <Entry*>PyMem_RawMalloc(sizeof(Entry) << PAGE_BITS)
        if self._pages[0] == NULL:
            raise MemoryError
        self._first = self._live = 1
        self._offset = log.load_tail()
        # A log that was there before this index: what it evicted earlier cannot be known channel by channel.
        self._lap()

    def __dealloc__(self):
        cdef uint64_t page
        if self._pages != NULL:
            for page in range(self._mask + 1):
                PyMem_RawFree(self._pages[page])
        PyMem_RawFree(self._pages)
        PyMem_RawFree(self._heap)
        PyMem_RawFree(self._merged)

    # ---- for Python -------------------------------------------------------------------------------------------------

    def __len__(self):
        return len(self.channels)

    def get(self, bytes name not None):
        """The channel of that name, or None if it has neither events nor subscribers."""
        return self.channels.get(name)

    def names(self):
        """Names of all channels, in the order they were first seen."""
        return list(self.channels)

    def page(self, Py_ssize_t before, bytes prefix not None, Py_ssize_t limit, Py_ssize_t look):
        """List channels whose names begin with `prefix`, from number `before` (0: the newest) down: at most `limit`, after a
        look at `look` of them at most. Returns them, and the number to go on from, or 0 when all were looked at.

        Channels may come and go between two pages. One that stays is listed, though it may be twice: it moves down into
        the place of one that goes.
        """
        cdef Py_ssize_t at = PyList_GET_SIZE(self._listed), length = PyBytes_GET_SIZE(prefix)
        cdef Channel channel
        cdef list found = []
        if before:
            at = min(at, max(before, 0))
        cdef Py_ssize_t end = max(0, at - look)
        while at > end and PyList_GET_SIZE(found) < limit:
            at -= 1
            channel = <Channel>PyList_GET_ITEM(self._listed, at)
            if PyBytes_GET_SIZE(channel.name) >= length and memcmp(
                PyBytes_AS_STRING(channel.name), PyBytes_AS_STRING(prefix), length
            ) == 0:
                found.append(channel)
        return found, at

    @property
    def unread(self):
        """Bytes of the log that were not taken in yet."""
        return self.log.load_head() - self._offset

    @property
    def kept(self):
        """Events in the index."""
        return self.newest + 1 - self._live

    def take_in(self, Py_ssize_t limit=TAKE_IN):
        """Take in up to `limit` new records. True if there is more to do."""
        return self.take_in_some(limit) or self.owes()

    # ---- tailing the log --------------------------------------------------------------------------------------------

    cdef Entry* entry(self, uint64_t number) noexcept:
        return &self._pages[(number >> PAGE_BITS) & self._mask][number & ((1 << PAGE_BITS) - 1)]

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
            self._make_room_for_one()
            channel = self.open_channel(name)
            self._add(channel, record.position, self._offset, record.frame_length)
            self.fresh.push(channel)
            self._offset += record.length
            count += 1
        self.evict()
        self._drop_evicted(max(count, self._drop))
        if self.tells_of_hole():
            self._tell_of_hole(self._drop)
        return status != READ_AT_HEAD

    cdef bint owes(self) noexcept:
        """Whether entries wait to be dropped, or channels to be told of a hole."""
        return self._first < self._live or self.tells_of_hole()

    cdef bint tells_of_hole(self) noexcept:
        return self._told_of != self._lapped or self._untold > 0

    cdef int _make_room_for_one(self) except -1:
        cdef uint64_t number = self.newest + 1, page = number >> PAGE_BITS, oldest = self._first >> PAGE_BITS, mask, i
        cdef Entry** grown
        if number & ((1 << PAGE_BITS) - 1):
            return 0
        if page - oldest > self._mask:
            mask = 2 * self._mask + 1
            grown = <Entry**>PyMem_RawCalloc(mask + 1, sizeof(Entry*))
            if grown == NULL:
                raise MemoryError
            for i in range(oldest, page):
                grown[i & mask] = self._pages[i & self._mask]
            PyMem_RawFree(self._pages)
            self._pages = grown
            self._mask = mask
        if self._pages[page & self._mask] == NULL:
            self._pages[page & self._mask] = <Entry*>PyMem_RawMalloc(sizeof(Entry) << PAGE_BITS)
            if self._pages[page & self._mask] == NULL:
                raise MemoryError
        return 0

    cdef void _add(self, Channel channel, uint64_t position, uint64_t offset, uint32_t length) noexcept:
        cdef uint64_t number = self.newest + 1
        cdef Entry* entry = self.entry(number)
        cdef Entry* before
        cdef Entry* further
        entry.position = position
        entry.offset = offset
        entry.next = 0
        entry.previous = entry.jump = channel.last
        entry.frame_length = length
        entry.channel = <void*>channel
        if channel.last:
            before = self.entry(channel.last)
            before.next = number
            entry.span = 1
            # Two jumps of one span become one over both: whatever is searched for is a logarithm of jumps away
            # (Myers 1983, "An applicative random-access stack").
            if before.jump >= self._first and before.span < 1 << 30:
                further = self.entry(before.jump)
                if further.span == before.span:
                    entry.jump = further.jump
                    entry.span = 2 * before.span + 1
        else:
            channel.first = number
            entry.span = 0
        channel.last = number
        channel.kept += 1
        channel.last_position = position
        self.newest = number
        self.position = position

    cdef void evict(self) noexcept:
        """Find the oldest entry whose record the log still has: what is older is gone for whoever reads."""
        cdef uint64_t tail = self.log.load_tail(), low = self._live, high, middle, step = 1
        if low > self.newest or self.entry(low).offset >= tail:
            return
        while low + step <= self.newest and self.entry(low + step).offset < tail:
            low += step
            step *= 2
        high = min(low + step, self.newest + 1)
        while low + 1 < high:
            middle = low + (high - low) // 2
            if self.entry(middle).offset < tail:
                low = middle
            else:
                high = middle
        self._live = high
        self._floor = max(self._floor, self.entry(low).position)

    cdef void _drop_evicted(self, Py_ssize_t count) noexcept:
        """Drop the oldest entries whose records are gone, at most so many."""
        cdef Entry* entry
        cdef Channel channel
        while self._first < self._live and count > 0:
            count -= 1
            entry = self.entry(self._first)
            channel = <Channel>entry.channel
            self._first += 1
            channel.evicted = entry.position
            channel.kept -= 1
            channel.first = entry.next
            if entry.next:
                self.entry(entry.next).previous = 0
            else:
                channel.last = 0
                self.release_if_idle(channel)

    cdef void _lap(self) noexcept:
        """The log overtook this reader (or was there before it): go on at its tail, and know that there is a hole."""
        cdef Record record
        cdef int status
        while True:
            self._offset = self.log.load_tail()
            status = self.log.read_record(&self._offset, &record)
            if status != READ_OVERTAKEN:
                break
        if status == READ_AT_HEAD:
            return                  # an empty log; a position that is being taken right now is no hole
        cdef uint64_t end = record.position - 1
        if end > self.position:
            self._lapped = self._floor = self.position = end

    cdef void _tell_of_hole(self, Py_ssize_t count) noexcept:
        """Let so many channels know of the hole: to whoever listens to them that is news.

        From the last to the first: what moves into the place of one that goes was told before, and what comes meanwhile
        knows. A new hole has its turn when all were told of the one before.
        """
        cdef Channel channel
        while count > 0:
            if self._untold == 0:
                if self._told_of == self._lapped:
                    return
                self._told_of = self._lapped
                self._untold = PyList_GET_SIZE(self._listed)
                continue
            count -= 1
            self._untold -= 1
            channel = <Channel>PyList_GET_ITEM(self._listed, self._untold)
            channel.last_position = max(channel.last_position, self._lapped)
            self.fresh.push(channel)

    # ---- channels ---------------------------------------------------------------------------------------------------

    cdef Channel open_channel(self, bytes name):
        cdef Channel channel = self.channels.get(name)
        if channel is None:
            channel = Channel.__new__(Channel, name)
            channel.evicted = self._gone.pop(name, self.forgotten)
            channel.last_position = channel.evicted
            channel.place = PyList_GET_SIZE(self._listed)
            try:
                self._listed.append(channel)
                self.channels[name] = channel
            except MemoryError:
                if PyList_GET_SIZE(self._listed) > channel.place:
                    drop_last(self._listed)
                self.forgotten = max(self.forgotten, channel.evicted)
                raise
        return channel

    cdef void release_if_idle(self, Channel channel) noexcept:
        """Drop a channel that has neither events nor subscribers, but remember where it was evicted."""
        if channel.kept or channel.subscribers:
            return
        del self.channels[channel.name]
        cdef Channel last = <Channel>PyList_GET_ITEM(self._listed, PyList_GET_SIZE(self._listed) - 1)
        last.place = channel.place
        self._listed[channel.place] = last
        drop_last(self._listed)
        self._untold = min(self._untold, PyList_GET_SIZE(self._listed))
        if channel.evicted > self.forgotten:
            try:
                self._gone[channel.name] = channel.evicted
                if <Py_ssize_t>len(self._gone) > self._remembered:
                    self.forgotten = max(self.forgotten, self._gone.popitem(last=False)[1])
            except MemoryError:
                self.forgotten = self._floor    # whom it was, nobody knows now: to resume any dropped channel is a gap

    cdef uint64_t evicted_of(self, tuple channels) noexcept:
        """Position of the newest event of these channels that is gone, as far as is known."""
        cdef uint64_t newest = self._lapped
        for channel in channels:
            newest = max(newest, self._evicted_of(<Channel>channel))
        return newest

    cdef uint64_t _evicted_of(self, Channel channel) noexcept:
        cdef uint64_t number, ignored = 0
        if not 0 < channel.first < self._live:
            return channel.evicted
        number = self._first_after(channel, self._floor, &ignored)
        return self.entry(self.entry(number).previous if number else channel.last).position

    cdef uint64_t _kept_of(self, Channel channel) noexcept:
        cdef uint64_t kept = 0
        if not 0 < channel.first < self._live:
            return channel.kept
        self._first_after(channel, self._floor, &kept)
        return kept

    cdef bint lost_after(self, tuple channels, uint64_t position) noexcept:
        """Whether events of these channels after `position` are gone; where that cannot be known, True."""
        return position < self._floor and position < self.evicted_of(channels)

    cdef uint64_t before_newest(self, tuple channels, uint64_t count) except? 0:
        """The cursor that stands just before the newest `count` kept events of these channels."""
        cdef uint64_t kept = 0, low, high, middle
        for channel in channels:
            kept += self._kept_of(<Channel>channel)
        if kept <= count:
            return self.evicted_of(channels)
        if count == 0:
            return self.position
        if len(channels) == 1:
            return self.entry(self._newest(<Channel>channels[0], count)).position - 1
        if count <= MERGED:
            return self.entry(self._newest_merged(channels, count)).position - 1
        # The newest entry after which, itself included, there are so many of these channels.
        low, high = self._live, self.newest
        while low < high:
            middle = high - (high - low) // 2
            kept = 0
            for channel in channels:
                self._first_after(<Channel>channel, self.entry(middle).position - 1, &kept)
            if kept >= count:
                low = middle
            else:
                high = middle - 1
        return self.entry(low).position - 1

    cdef uint64_t _newest_merged(self, tuple channels, uint64_t count) except 0:
        """Number of the entry that is the `count`th newest over these channels, of which there are more."""
        cdef size_t size = 0
        cdef uint64_t number
        self._make_room(len(channels))
        for channel in channels:
            if (<Channel>channel).kept:
                push(self._heap, size, ~(<Channel>channel).last)    # the largest first
                size += 1
        self.steps += count
        while True:
            number = ~self._heap[0]
            count -= 1
            if count == 0:
                return number
            number = self.entry(number).previous
            if number:
                self._heap[0] = ~number
            else:
                size -= 1
                self._heap[0] = self._heap[size]
            sift_down(self._heap, size)

    # ---- searching a channel ----------------------------------------------------------------------------------------

    cdef uint64_t _first_after(self, Channel channel, uint64_t position, uint64_t* count) noexcept:
        """Number of the channel's first entry after `position`, or 0. Adds to `count` how many there are."""
        cdef uint64_t number = channel.last
        cdef Entry* entry
        if number == 0 or self.entry(number).position <= position:
            return 0
        while True:
            self.steps += 1
            count[0] += 1
            entry = self.entry(number)
            if entry.previous == 0 or self.entry(entry.previous).position <= position:
                return number
            if entry.jump >= self._first and self.entry(entry.jump).position > position:
                number = entry.jump
                count[0] += entry.span - 1
            else:
                number = entry.previous

    cdef uint64_t _newest(self, Channel channel, uint64_t count) noexcept:
        """Number of the channel's `count`th newest entry, of which there are at least so many."""
        cdef uint64_t number = channel.last
        cdef Entry* entry
        while count > 1:
            self.steps += 1
            entry = self.entry(number)
            if 0 < entry.span < count and entry.jump >= self._first:
                count -= entry.span
                number = entry.jump
            else:
                count -= 1
                number = entry.previous
        return number

    # ---- copying out ------------------------------------------------------------------------------------------------

    cdef int _make_room(self, size_t size) except -1:
        """Room in the heap for so many."""
        cdef uint64_t* grown
        if size > self._room:
            grown = <uint64_t*>PyMem_RawRealloc(self._heap, size * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            self._heap = grown
            self._room = size
        return 0

    cdef bytes cut(self, tuple channels, uint64_t position, uint64_t at, uint32_t limit, Piece* piece):
        """The frames after `position`, oldest first, whole, up to `limit` bytes and at least one, as one piece.

        None if there are none (then `piece.end` is where the index stands) or if the log took them away meanwhile
        (then `piece.end` is 0; `evict` has run, and `lost_after` knows).
        """
        cdef bint single = len(channels) == 1
        cdef uint64_t* heap                 # of each channel the entry that comes next
        cdef size_t size = 0, count = 0, i
        cdef uint64_t number, length = 0, ignored = 0
        cdef Entry* entry
        self._make_room(len(channels))
        heap = self._heap
        if single and at >= self._first and at:
            number = self.entry(at).next
            if number:
                heap[0] = number
                size = 1
        else:
            for channel in channels:
                if (<Channel>channel).last_position <= position:
                    continue
                number = self._first_after(<Channel>channel, position, &ignored)
                if number:
                    push(heap, size, number)
                    size += 1
        if size == 0:
            piece.end = self.position
            piece.at = at
            piece.more = False
            return None

        # First pass: how much fits. Second pass: copy.
        while size and count < MERGED:
            number = heap[0]
            entry = self.entry(number)
            if count and length + entry.frame_length > limit:
                break
            length += entry.frame_length
            self._merged[count] = number
            count += 1
            if entry.next:
                heap[0] = entry.next
            else:
                size -= 1
                heap[0] = heap[size]
            if size > 1:
                sift_down(heap, size)
        self.steps += count
        number = self._merged[count - 1]
        piece.events = <uint32_t>count
        piece.more = size != 0
        piece.end = self.entry(number).position if piece.more else self.position
        piece.at = number if single else 0
        cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
        cdef char* to = PyBytes_AS_STRING(out)
        for i in range(count):
            entry = self.entry(self._merged[i])
            memcpy(
                to,
                self.log.channel_at(entry.offset) + PyBytes_GET_SIZE((<Channel>entry.channel).name),
                entry.frame_length,
            )
            to += entry.frame_length
        if not self.log.still_holds(self.entry(self._merged[0]).offset):
            self.evict()
            piece.end = 0
            return None
        return out
