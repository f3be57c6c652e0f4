"""The index: where each channel's kept events are. Private to a worker, built by tailing the log.

What it keeps: an entry per kept event, in log order, and a link per event and channel: a channel's links are a list, so a
publish costs O(1) whatever the number of channels, and a channel's backlog is walked without touching anybody else's. An
event of several channels stands in each one's list; who listens to several of them gets it once, for links of one event
are neighbours in every order. Its links are numbered one after the other, and dropped with it.
Of a conflated channel a link knows the newer one of its key.
What it drops: entries of events the log evicted. A channel with neither events nor subscribers is dropped too. What a
channel forgets (FLAG_FORGET) leaves its list at once, and its links are dropped with their entries.
Who is told: subscribers that resume. Evicting leaves the position behind (`Channel.evicted`, then `_gone`, at last
`forgotten`), by which `beginnings` tells *complete* from *gap*; but not that of an event which a newer one had superseded. Memory of evictions is bounded; past the bound it says gap.

One batch may evict any number of entries, and a hole concern any number of channels. So that no call takes long, it is
noted at once where what is kept begins (`_live`, `_lapped`), which is all that readers go by; the entries before that are
dropped, and the channels told, so many a call.

When an allocation fails, MemoryError is raised before anything has changed; what gives memory back never fails.
"""

from collections import OrderedDict

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from sse_fast._native.base.queue cimport Queue, drop_last
from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.heap cimport push, sift_down
from sse_fast._native.log.ids cimport Ids
from sse_fast._native.log.layout cimport FLAG_FORGET, FLAG_MARK, FLAG_NAMED, Record
from sse_fast._native.log.names cimport FLAG_KEYED, FLAG_SEVERAL, KEY_ROOM, key_behind, unpack_names
from sse_fast._native.log.newest cimport Newest
from sse_fast._native.log.pages cimport PAGE_BITS, close_pages, open_pages, reserve
from sse_fast._native.log.patterns cimport Patterns
from sse_fast._native.log.ring cimport READ_AT_HEAD, READ_OVERTAKEN
from sse_fast._native.log.rules cimport Rules
from sse_fast._native.log.sources cimport is_hidden, limit_tries

from sse_fast._native.log.sources import MoreToTry

cdef Py_ssize_t TAKE_IN = 4096      # records a call: about half a millisecond

cdef enum:
    IN_PAGE = (1 << PAGE_BITS) - 1
    MOST_LINKS = 0xFFFF0000         # links know each other by how far they are apart
    FORGETS = 1024                  # channels of which it is remembered when they were last to forget
    ID_LINE = 4 + 512 + 2           # of a publisher's id, and the blank line behind it
    NODES_A_RECORD = 64             # that are looked at for the patterns and templates of a new channel
    TRIES_A_TURN = 128              # of templates at names, a few microseconds each: one event may need thousands
    PATTERNS_A_RECORD = 16          # who are told of an event take as long together as taking in another one


@cython.final
cdef class Index:
    """Index(log, *, remembered=65536, drop=1024, merge=16384, matched=2097152, rules=(), keys=262144, ids=1048576): remembers for that
    many dropped channels where they were evicted, of patterns so many `matched` events, and of conflated channels the
    newest events of so many `keys`, and so many publishers' `ids`. `rules`: see `Rules`.

    A call drops `drop` evicted entries at most, or as many as it takes in (1.5 ms), and tells as many channels of a hole.
    `whole`, `number`: of the log's reserve of that number; each has an index of its own, see `reserved`.
    """

    def __cinit__(self, Log log not None, *, Py_ssize_t remembered=65536, Py_ssize_t drop=1024,
                  uint64_t merge=16384, uint64_t matched=2097152, rules=(), uint64_t keys=262144, uint64_t ids=1048576,
                  Index whole=None, uint32_t number=0):
        cdef Log reserve
        self.log = log
        self.whole, self.number = <void*>whole, number
        self.reserves = tuple([
            Index(reserve, remembered=remembered, drop=drop, merge=merge, matched=0, rules=rules, keys=1, whole=self,
                  number=which)
            for which, reserve in enumerate(log.reserves, 1)
        ])
        self.rules = Rules(rules)
        self._newest_of_keys = Newest(keys)
        self.ids = Ids(ids)
        self.channels = {}
        self._listed = []
        self.patterns = Patterns(matched)
        self.fresh = Queue()
        self._gone = OrderedDict()      # the oldest leaves first; a dict would look for it among those that left
        self._forgets = {}
        self._remembered = remembered
        self._drop = drop
        self._merge = max(merge, <uint64_t>1)
        self._room = 256
        self._heap = <uint64_t*>PyMem_RawMalloc(self._room * sizeof(uint64_t))
        self._merged = <uint64_t*>PyMem_RawMalloc((MERGED + 1) * sizeof(uint64_t))     # and a mark
        if self._heap == NULL or self._merged == NULL:
            raise MemoryError
        open_pages(&self._entries, sizeof(Entry))
        open_pages(&self._links, sizeof(Link))
        self._first = self._live = self._first_link = 1
        self._offset = log.load_tail()
        # A log that was there before this index: what it evicted earlier cannot be known channel by channel.
        self._lap()

    def __dealloc__(self):
        close_pages(&self._entries)
        close_pages(&self._links)
        PyMem_RawFree(self._heap)
        PyMem_RawFree(self._merged)
        PyMem_RawFree(self._marks)

    # ---- for Python -------------------------------------------------------------------------------------------------

    def __len__(self):
        return len(self.channels) - self._hidden

    def get(self, bytes name not None):
        """The channel of that name, or None if it has neither events nor subscribers."""
        return self.channels.get(name)

    def names(self):
        """Names of all channels, in the order they were first seen."""
        return [name for name in self.channels if not is_hidden(name)]

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
            if PyBytes_GET_SIZE(channel.name) >= length and not is_hidden(channel.name) and memcmp(
                PyBytes_AS_STRING(channel.name), PyBytes_AS_STRING(prefix), length
            ) == 0:
                found.append(channel)
        return found, at

    def forgot_after(self, uint64_t position):
        """The channels that were to forget what they had by a record after a position; None: too many to know."""
        if position < self._forgets_before:
            return None
        return [name for name, at in self._forgets.items() if at > position]

    @property
    def unread(self):
        """Bytes of the log that were not taken in yet, and of its reserves."""
        cdef uint64_t unread = self.log.load_head() - self._offset
        for index in self.reserves:
            unread += index.unread
        return unread

    @property
    def kept(self):
        """Events in the index; marks are none."""
        return self.newest + 1 - self._live - self._mark_count

    def take_in(self, Py_ssize_t limit=TAKE_IN):
        """Take in up to `limit` new records. True if there is more to do."""
        return self.take_in_some(limit) or self.owes()

    # ---- tailing the log --------------------------------------------------------------------------------------------

    cdef bint take_in_some(self, Py_ssize_t limit) except -1:
        cdef Record record
        cdef Py_ssize_t count = 0
        cdef int status = READ_AT_HEAD
        cdef Channel channel
        cdef bytes names
        cdef uint64_t key = 0, looked
        limit_tries(TRIES_A_TURN)
        try:
            while count < limit:
                status = self.log.read_record(&self._offset, &record)
                if status == READ_AT_HEAD:
                    break
                if status == READ_OVERTAKEN:
                    self._lap()
                    continue
                names = PyBytes_FromStringAndSize(self.log.names_at(self._offset), record.names_length)
                if not self.log.still_holds(self._offset):
                    self._lap()
                    continue
                if record.flags & FLAG_MARK:
                    self._take_in_mark(&record, names)
                    count += 1
                elif record.flags & FLAG_SEVERAL:
                    count += self._take_in_shared(&record, names)
                else:
                    if record.flags & FLAG_KEYED:
                        key = key_behind(PyBytes_AS_STRING(names), record.names_length)
                        names = names[:record.names_length - KEY_ROOM]
                    if not ((self.newest + 1) & IN_PAGE and (self._newest_link + 1) & IN_PAGE):
                        self._make_room_for(1)
                    channel = self.open_channel(names)
                    if self.patterns.count:
                        looked = self.patterns.looked
                        try:
                            self.patterns.look(channel)
                        except BaseException:
                            self.release_if_idle(channel)
                            raise
                        count += (self.patterns.looked - looked) // NODES_A_RECORD
                    if record.flags & FLAG_FORGET:
                        self._remember_forget(names, record.position)
                        self._forget(channel)
                    self._add(&record, 1)
                    count += 1 + self._link(channel, False) // PATTERNS_A_RECORD
                    if record.flags & FLAG_KEYED:
                        self._supersede(channel, key)
                if record.flags & FLAG_NAMED:
                    self._note_id(&record)
                self._offset += record.length
        except MoreToTry:               # the event is taken in from its beginning in the next turn
            pass
        finally:
            limit_tries(-1)
        self.evict()
        # What a channel forgot is known here until its reserve knows it.
        if not self.reserves or not self._take_in_reserves(limit):
            self._drop_evicted(max(count, self._drop))
        if self.tells_of_hole():
            self._tell_of_hole(self._drop)
        return status != READ_AT_HEAD

    cdef bint owes(self) noexcept:
        """Whether entries wait to be dropped, or channels to be told of a hole; or reserves have some to take in."""
        return self._first < self._live or self.tells_of_hole() or self.reserves and self.reserves_lag()

    cdef bint _take_in_reserves(self, Py_ssize_t limit) except -1:
        """Whether one of them has more."""
        cdef Index index
        cdef bint lag = False
        for index in self.reserves:
            if index.take_in_some(limit):
                lag = True
            if index.log.header.missing > index._lapped:
                index._lapped = index.log.header.missing
                index._floor = max(index._floor, index._lapped)
                index._any_gone = max(index._any_gone, index._lapped)
            while index.fresh.first is not None:        # nobody listens here
                index.fresh.pop()
        return lag

    cdef bint reserves_lag(self) noexcept:
        """Whether reserves have what was not taken in yet, or wait to drop it."""
        cdef Index index
        for index in self.reserves:
            if index._offset != index.log.load_head() or index._first < index._live or index.tells_of_hole():
                return True
        return False

    cdef bint tells_of_hole(self) noexcept:
        return self._told_of != self._for_all or self._untold > 0 or self.patterns.untold > 0

    cdef uint64_t widest(self, uint64_t lists) noexcept:
        """In how many of so many channels' lists an event stands at most."""
        return min(lists, self._widest) if self._shared else 1

    cdef Py_ssize_t _take_in_shared(self, Record* record, bytes packed) except -1:
        """Take in an event of several channels, whose names these are. Returns how many."""
        cdef tuple names = unpack_names(packed, record.flags)
        cdef Py_ssize_t count = PyTuple_GET_SIZE(names), told = 0, i
        cdef uint64_t looked = self.patterns.looked
        cdef list opened = [None] * count
        cdef bint is_private
        try:
            self._make_room_for(count)
            for i in range(count):
                opened[i] = self.open_channel(<bytes>names[i])
                if self.patterns.count:
                    self.patterns.look(<Channel>opened[i])
        except BaseException:
            for channel in opened:
                if channel is not None:
                    self.release_if_idle(<Channel>channel)
            raise
        is_private = is_hidden(<bytes>names[0])
        self._add(record, count)
        if is_private:
            self.entry(self.newest).links |= PRIVATE
        for i in range(count):
            told += self._link(<Channel>PyList_GET_ITEM(opened, i), is_private)
            if record.flags & FLAG_KEYED:
                self._supersede(<Channel>PyList_GET_ITEM(opened, i), key_behind(PyBytes_AS_STRING(packed), record.names_length))
        self._widest = max(<uint64_t>count, self._widest if self._shared else 1)
        self._shared += 1
        return count + told // PATTERNS_A_RECORD + (self.patterns.looked - looked) // NODES_A_RECORD

    cdef void _note_id(self, Record* record) noexcept:
        """Remember the publisher's id that the frame at `_offset` ends with; one that was taken away meanwhile has none."""
        cdef char end[ID_LINE + 1]
        cdef size_t length = min(<size_t>record.frame_length, <size_t>ID_LINE + 1), at
        memcpy(
            end, self.log.names_at(self._offset) + record.names_length + record.frame_length - length, length
        )
        if not self.log.still_holds(self._offset) or length < 7:
            return
        at = length - 2                 # of the LF that ends it
        while at and end[at - 1] != c"\n":
            at -= 1
        if length - 2 - at > 4 and memcmp(end + at, b"id: ", 4) == 0:
            self.ids.put(end + at + 4, length - 2 - at - 4, record.position)

    def position_of_id(self, bytes id not None):
        """Position of the first kept event that has this publisher's id, or of the first of all; 0: it is unknown here."""
        return self.ids.find(PyBytes_AS_STRING(id), PyBytes_GET_SIZE(id), self._floor)

    cdef int _take_in_mark(self, Record* record, bytes names) except -1:
        """Take in a mark: it is in no channel's list, and everybody's news."""
        cdef Mark* grown
        if self._mark_count == self._mark_room:
            grown = <Mark*>PyMem_RawRealloc(self._marks, (2 * self._mark_room + 1) * sizeof(Mark))
            if grown == NULL:
                raise MemoryError
            self._marks = grown
            self._mark_room = 2 * self._mark_room + 1
        self._make_room_for(0)
        self._add(record, 0)
        cdef Mark* mark = &self._marks[self._mark_count]
        memcpy(&mark.fork, PyBytes_AS_STRING(names), min(<size_t>PyBytes_GET_SIZE(names), sizeof(uint64_t)))
        mark.position = record.position
        mark.number = self.newest
        self._mark_count += 1
        if self._passed_by > mark.fork:
            self._missed = self._passed
        self._last_mark = self._for_all = record.position
        return 0

    cdef Mark* mark_after(self, uint64_t position) noexcept:
        """The first mark after a position, or NULL."""
        cdef size_t i
        if position < self._last_mark:
            for i in range(self._mark_count):
                if self._marks[i].position > position:
                    return &self._marks[i]
        return NULL

    cdef int _make_room_for(self, uint64_t links) except -1:
        """For an event with so many links."""
        if self._newest_link + 1 + links - self._first_link >= MOST_LINKS:
            raise MemoryError           # they take 128 GiB
        reserve(&self._entries, self._first, self.newest, 1)
        reserve(&self._links, self._first_link, self._newest_link, links)
        return 0

    cdef void _add(self, Record* record, Py_ssize_t links) noexcept:
        """Add the event at `_offset`, whose links come next."""
        cdef Entry* entry = self.entry(self.newest + 1)
        entry.position = record.position
        entry.offset = self._offset
        entry.frame_length = record.frame_length
        entry.names_length = record.names_length
        entry.links = <uint16_t>links
        self.newest += 1
        self.position = record.position

    cdef Py_ssize_t _link(self, Channel channel, bint is_private) noexcept:
        """Put the newest event at the end of a channel's list: news for those who listen to it. Returns to how many
        patterns, too."""
        cdef uint64_t number = self._newest_link + 1, last = channel.last, further
        cdef Link* link = self.link(number)
        cdef Link* before
        link.channel = <void*>channel
        link.event = <uint32_t>self.newest
        link.next = link.previous = link.jump = link.span = link.newer = 0
        if last:
            before = self.link(last)
            before.next = link.previous = link.jump = <uint32_t>(number - last)
            link.span = 1
            # Two jumps of one span become one over both: whatever is searched for is a logarithm of jumps away
            # (Myers 1983, "An applicative random-access stack").
            further = last - before.jump
            if before.span and further >= self._first_link and before.span < 1 << 30:
                if self.link(further).span == before.span and number - further + self.link(further).jump < MOST_LINKS:
                    link.jump = <uint32_t>(number - further + self.link(further).jump)
                    link.span = 2 * before.span + 1
        else:
            channel.first = number
        channel.last = number
        channel.kept += 1
        channel.last_position = self.position
        self._newest_link = number
        self.fresh.push(channel)
        if self.patterns.count:
            return self.patterns.tell(channel, self.position, self._floor, self.fresh, is_private)
        return 0

    cdef void _supersede(self, Channel channel, uint64_t key) noexcept:
        """The newest link, this channel's, is of an event with a key of this hash: the one before it is superseded."""
        cdef uint64_t before
        if channel.rule is None or not channel.rule.conflates:
            return
        key ^= <uint64_t><size_t><void*>channel * <uint64_t>0x9E3779B97F4A7C15
        before = self._newest_of_keys.replace(key, self._newest_link)
        # It may be of one that is gone, and had its place.
        if before >= self._first_link and before and self.link(before).channel == <void*>channel:
            self.link(before).newer = <uint32_t>(self._newest_link - before)

    cdef int _remember_forget(self, bytes name, uint64_t position) except -1:
        """Also of a channel that has nothing here: what is behind the log may have."""
        self._forgets.pop(name, None)
        self._forgets[name] = position      # the newest is the last
        if PyDict_Size(self._forgets) > <Py_ssize_t>FORGETS:
            self._forgets_before = self._forgets.pop(next(iter(self._forgets)))
        return 0

    cdef void _forget(self, Channel channel) noexcept:
        """Nothing that the channel has is kept any more. What it gets next, at once, keeps it alive until the last of
        its links is dropped. The last one leads there: who has everything goes on from it."""
        if channel.last:
            channel.evicted = self.position_of(channel.last)
            self._any_gone = max(self._any_gone, channel.evicted)
            channel.forgot = self._newest_link + 1
            self.link(channel.last).next = <uint32_t>(channel.forgot - channel.last)
            channel.first = channel.last = channel.kept = 0
            self._forgot_before = self.newest + 1
        elif channel.reserve and self.reserves:
            if not self._forget_reserved(channel):
                return
        else:
            return
        self._forgot_position = max(self._forgot_position, channel.evicted)
        self._forgot_at = self.position + 1
        if self.patterns.count:
            self.patterns.forget(channel, self._forgot_at)

    cdef bint _forget_reserved(self, Channel channel) noexcept:
        """What its reserve has is all that there is of it. False: that has nothing either."""
        cdef Index reserve = <Index>self.reserves[channel.reserve - 1]
        cdef Channel there = reserve.channels.get(channel.name)
        if reserve._offset != reserve.log.load_head():
            channel.evicted = self.position
        elif there is not None and there.last:
            channel.evicted = reserve.position_of(there.last)
        else:
            return False
        self._any_gone = max(self._any_gone, channel.evicted)
        channel.forgot = self._newest_link + 1
        return True

    cdef void evict(self) noexcept:
        """Find the oldest entry whose record the log still has: what is older is gone for readers."""
        cdef uint64_t tail = self.log.load_tail(), low = self._live, high, middle, step = 1, gone = 0
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
        self._any_gone = max(self._any_gone, self._floor)
        while gone < self._mark_count and self._marks[gone].number < high:
            self._gone_mark = self._marks[gone].position
            gone += 1
        if gone:
            self._mark_count -= gone
            memmove(self._marks, self._marks + gone, self._mark_count * sizeof(Mark))

    cdef void _drop_evicted(self, Py_ssize_t count) noexcept:
        """Drop the oldest entries whose records are gone, until so many links are dropped with them."""
        cdef Entry* entry
        cdef Link* link
        cdef Channel channel
        cdef uint64_t number
        cdef int i, links
        while self._first < self._live and count > 0:
            entry = self.entry(self._first)
            links = entry.links & ~PRIVATE
            count -= max(1, links)
            self._shared -= links > 1
            self._first += 1
            for i in range(links):
                number = self._first_link
                link = self.link(number)
                channel = <Channel>link.channel
                self._first_link += 1
                if number < channel.forgot:     # that one is still there, and the channel with it
                    continue
                if not link.newer or self._is_behind_fork(entry.position, number + link.newer):
                    channel.evicted = entry.position
                else:                           # nobody misses it, but if a fork comes between the two
                    self._passed = entry.position
                    self._passed_by = max(self._passed_by, self.position_of(number + link.newer))
                channel.kept -= 1
                if link.next:
                    channel.first = number + link.next
                    self.link(channel.first).previous = 0
                else:
                    channel.first = channel.last = 0
                    self.release_if_idle(channel)

    cdef bint _is_behind_fork(self, uint64_t position, uint64_t newer) noexcept:
        """Whether who resumes at an event is not handed that of a newer link before it is told of a mark."""
        cdef Mark* mark = self.mark_after(position - 1)
        return mark != NULL and self.position_of(newer) > mark.fork

    cdef void _lap(self) noexcept:
        """The log overtook this reader (or was there before it): go on at its tail, and know that there is a hole."""
        cdef Record record
        cdef int status
        while True:
            self._offset = self.log.load_tail()
            status = self.log.read_record(&self._offset, &record)
            if status != READ_OVERTAKEN:
                break
        cdef uint64_t end
        if self.number:             # it knows what it gave up; most of what is before the first it never had
            end = max(self.log.header.evicted, self.log.header.missing)
            if status != READ_AT_HEAD:
                end = min(end, record.position - 1)
        elif status == READ_AT_HEAD:
            return                  # an empty log; a position that is being taken right now is no hole
        else:
            end = record.position - 1
        if end > self.position:
            self._lapped = self._for_all = self._floor = self.position = end
            self._any_gone = max(self._any_gone, end)

    cdef void _tell_of_hole(self, Py_ssize_t count) noexcept:
        """Let so many channels know of the hole: to their subscribers that is news.

        From the last to the first: what moves into the place of one that goes was told before, and what comes meanwhile
        knows. A new hole has its turn when all were told of the one before.
        """
        cdef Channel channel
        while count > 0:
            if self._untold == 0 and self.patterns.untold == 0:
                if self._told_of == self._for_all:
                    return
                self._told_of = self._for_all
                self._untold = PyList_GET_SIZE(self._listed)
                self.patterns.untold = self.patterns.count
                continue
            count -= 1
            if self._untold == 0:
                self.patterns.tell_next_of_hole(self._for_all, self.fresh)
                continue
            self._untold -= 1
            channel = <Channel>PyList_GET_ITEM(self._listed, self._untold)
            channel.last_position = max(channel.last_position, self._for_all)
            self.fresh.push(channel)

    # ---- channels ---------------------------------------------------------------------------------------------------

    cdef Channel open_channel(self, bytes name):
        cdef Channel channel = self.channels.get(name)
        if channel is None:
            channel = Channel.__new__(Channel, name)
            channel.evicted = self._gone.pop(name, self.forgotten)
            channel.last_position = max(channel.evicted, self._last_mark)
            if is_hidden(name):
                self._hidden += 1
            elif self.reserves:
                channel.reserve = self.log.keeper.of(name)
                if channel.reserve:             # it has what is not after that
                    channel.last_position = max(channel.last_position, self._floor)
            elif self.number:
                channel.reserve = (<Index>self.whole).log.keeper.of(name)
            if self.rules.count and not is_hidden(name):
                channel.rule = self.rules.of(name)
            channel.place = PyList_GET_SIZE(self._listed)
            try:
                self._listed.append(channel)
                self.channels[name] = channel
            except MemoryError:
                if PyList_GET_SIZE(self._listed) > channel.place:
                    drop_last(self._listed)
                self._hidden -= is_hidden(name)
                self.forgotten = max(self.forgotten, channel.evicted)
                raise
        return channel

    cdef void release_if_idle(self, Channel channel) noexcept:
        """Drop a channel that has neither events nor subscribers, but remember where it was evicted."""
        if channel.kept or channel.subscribers:
            return
        del self.channels[channel.name]
        self._hidden -= is_hidden(channel.name)
        cdef Channel last = <Channel>PyList_GET_ITEM(self._listed, PyList_GET_SIZE(self._listed) - 1)
        last.place = channel.place
        self._listed[channel.place] = last
        drop_last(self._listed)
        self._untold = min(self._untold, PyList_GET_SIZE(self._listed))
        if channel.evicted > self.forgotten and not (channel.reserve and self.reserves) and not is_hidden(channel.name):
            try:
                self._gone[channel.name] = channel.evicted
                if <Py_ssize_t>len(self._gone) > self._remembered:
                    self.forgotten = max(self.forgotten, self._gone.popitem(last=False)[1])
            except MemoryError:
                self.forgotten = self._floor    # whom it was, nobody knows now: to resume any dropped channel is a gap

    # ---- what merges ------------------------------------------------------------------------------------------------

    cdef uint64_t first_after(self, Channel channel, uint64_t position, uint64_t* count) noexcept:
        """Number of the channel's first link after `position`, or 0. Adds to `count` how many there are."""
        cdef uint64_t number = channel.last
        cdef Link* link
        if number == 0 or self.position_of(number) <= position:
            return 0
        while True:
            self.steps += 1
            count[0] += 1
            link = self.link(number)
            if link.previous == 0 or self.position_of(number - link.previous) <= position:
                return number
            if number - link.jump >= self._first_link and self.position_of(number - link.jump) > position:
                number -= link.jump
                count[0] += link.span - 1
            else:
                number -= link.previous

    cdef int make_room(self, size_t size) except -1:
        """Room in the heap for so many."""
        cdef uint64_t* grown
        if size > self._room:
            grown = <uint64_t*>PyMem_RawRealloc(self._heap, size * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            self._heap = grown
            self._room = size
        return 0
