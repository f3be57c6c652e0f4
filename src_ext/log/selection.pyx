"""Named channels and patterns together: where a stream of them begins, whether something is gone, and what comes next.

A pattern remembers the positions of its newest events (`patterns`): behind `Pattern.known` they are merged with the lists
of the named channels, as those of several channels are, and what nobody of them has is not looked at. For a cursor before
that it is made to remember what came before, too, once for all its streams (`_cover`): by a walk down over the links of the
index, so many a call. Where there is no room to remember that, the walk is up from the cursor, for that stream alone
(`_walk`). So each event is found, also of channels that came, went, or were there before the pattern.

Whether something is gone: exact where the pattern remembers what came after the cursor; else where there are few enough
channels to ask each; else, of a cursor before any eviction, it is said to be. A gap is told once too often rather than
once too seldom.
"""

cimport cython
from cpython.dict cimport PyDict_Size
from cpython.list cimport PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.beginnings cimport behind_marks, evicted_of, evicted_of_one, forgotten_of, oldest_of
from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.heap cimport push, sift_down
from sse_fast._native.log.index cimport MERGED, Entry, Index, Mark, Piece, View
from sse_fast._native.log.patterns cimport Pattern
from sse_fast._native.log.pieces cimport copied
from sse_fast._native.log.retention cimport hidden_of, hide_after, is_passed, is_shown

cdef uint64_t NO_LIMIT = <uint64_t>-1

cdef enum:
    LINKS_A_TEMPLATE = 2            # that are looked at in the time that one takes to say whether it has a name
    LOOKED = 16384                  # events, at most, for one that is hidden and not superseded
    COVERED = 1024                  # links that are looked at before it is counted whether they were enough
    ASKED = 8192                    # channels, at most, for where they were evicted
    SOURCE_BITS = 16                # of a number in the heap; the others are an entry's number
    SOURCE = (1 << SOURCE_BITS) - 1


# ---- the index by position -------------------------------------------------------------------------------------------


cdef uint64_t number_after(Index index, uint64_t position) noexcept:
    """Number of the first kept entry after a position, or the one behind the newest."""
    cdef uint64_t low = index._live, high = index.newest + 1, newest, middle
    if low >= high:
        return high
    newest = index.entry(index.newest).position
    if position >= newest:
        return high
    if newest - position < high - low:      # positions rise by one at least: it is not before that
        low = high - (newest - position)
    if index.entry(low).position > position:
        return low
    while low < high:
        middle = low + (high - low) // 2
        if index.entry(middle).position <= position:
            low = middle + 1
        else:
            high = middle
    return low


cdef uint64_t bytes_kept_after(Index index, uint64_t position) noexcept:
    """Of the log, behind a position."""
    cdef uint64_t number = number_after(index, position)
    return index.log.load_head() - index.entry(number).offset if number <= index.newest else 0


cdef uint64_t bytes_of_newest(Index index, uint64_t count) noexcept:
    """Of the log, that its newest events take."""
    cdef uint64_t number = max(index._live, index.newest + 1 - min(count, index.newest))
    return index.log.load_head() - index.entry(number).offset if number <= index.newest else 0


cdef uint64_t link_of(Index index, uint64_t number) noexcept:
    """Number of the first link of that entry or of one after it, or the one behind the newest."""
    cdef uint64_t low = index._first_link, high = index._newest_link + 1, entries = index.newest + 1 - number, middle
    if low >= high or index.event_of(high - 1) < number:
        return high
    if index._shared == 0 and entries <= high - low:    # none has more than one
        low = high - entries
    if index.event_of(low) >= number:
        return low
    while low < high:
        middle = low + (high - low) // 2
        if index.event_of(middle) < number:
            low = middle + 1
        else:
            high = middle
    return low


cdef uint64_t evicted_of_pattern(Index index, Pattern pattern) noexcept:
    """Position of the newest event of a pattern that is gone, or of a later one of another."""
    cdef uint64_t newest, floor = index._floor + index._missed, forgotten = index.forgotten
    cdef Index reserve
    cdef Channel channel
    for reserve in index.reserves:      # all of these only rise, and so their sums do
        floor += reserve._floor + reserve._lapped
        forgotten += reserve.forgotten
    if (
        pattern.gone_floor == floor and pattern.gone_forgotten == forgotten
        and pattern.gone_forgot == index._forgot_position
    ):
        return pattern.gone
    try:
        if index.reserves and pattern.source is None and index.log.keeper.cover(pattern.name):
            newest = forgotten_of_those(index, pattern)
        else:
            newest = evicted_of_those(index, pattern)
        for reserve in index.reserves:
            if pattern.source is not None or index.log.keeper.meets(reserve.number, pattern.name):
                newest = max(newest, evicted_of_those(reserve, pattern))
    except MemoryError:
        return index._any_gone
    pattern.gone, pattern.gone_floor, pattern.gone_forgotten = newest, floor, forgotten
    pattern.gone_forgot = index._forgot_position
    return newest


cdef uint64_t forgotten_of_those(Index index, Pattern pattern) noexcept:
    """Position of the newest event that a channel of a pattern has forgotten, or of a later one of another."""
    cdef uint64_t newest = 0
    cdef Channel channel
    if index._forgot_at == 0:
        return 0
    if PyList_GET_SIZE(index._listed) > ASKED // (1 + templates_of(pattern)):
        return index._forgot_position
    index.steps += PyList_GET_SIZE(index._listed)
    for channel in index._listed:
        if channel.forgot and pattern.has(channel.name):
            newest = max(newest, forgotten_of(index, channel))
    return newest


cdef uint64_t evicted_of_those(Index index, Pattern pattern) except? 0:
    """`evicted_of_pattern`, of the channels that one index knows; of a reserve of those that are its."""
    cdef uint64_t newest = max(index._lapped, index.forgotten)
    cdef Channel channel
    if conflates(index, pattern):       # also of channels that are gone
        newest = max(newest, index._missed)
    if PyList_GET_SIZE(index._listed) + PyDict_Size(index._gone) > ASKED // (1 + templates_of(pattern)):
        return index._any_gone
    index.steps += PyList_GET_SIZE(index._listed) + PyDict_Size(index._gone)
    for channel in index._listed:
        if pattern.has(channel.name) and (index.number == 0 or channel.reserve == index.number):
            newest = max(newest, evicted_of_one(index, channel))
    for name, position in index._gone.items():
        if pattern.has(<bytes>name):
            newest = max(newest, <uint64_t>position)
    return newest


cdef Py_ssize_t cover(Index index, Pattern pattern, uint64_t position, Py_ssize_t look) noexcept:
    """Have a pattern remember its kept events after a position, too; look at so many links, and at least at those of one
    event. Returns how many are left to look at, or -1: there is no room to remember more."""
    cdef uint64_t link, event, at, target = max(position, index._floor)
    cdef Channel channel
    if pattern.known <= target:
        return look
    link = link_of(index, number_after(index, pattern.known))
    while pattern.known > target:
        if link == index._first_link:
            pattern.known = target
            break
        link -= 1
        event = index.event_of(link)
        at = index.entry(event).position
        if event < index._live or at <= target:
            pattern.known = target
            break
        look -= 1 + LINKS_A_TEMPLATE * templates_of(pattern)
        index.steps += 1
        channel = <Channel>index.link(link).channel
        if link >= channel.forgot and has_link(index, pattern, link, channel) and not pattern.add_before(at):
            return -1
        if link == index._first_link or index.event_of(link - 1) != event:
            pattern.known = at - 1
            if look <= 0:
                return 0
    return max(look, 0)


cdef bint conflates(Index index, Pattern pattern) noexcept:
    return index.rules.conflate if pattern.source is not None else index.rules.conflates_of(pattern.name)


cdef bint has_link(Index index, Pattern pattern, uint64_t link, Channel channel) noexcept:
    """Whether an event, which this is a link of, is a pattern's by that channel. A private one is a stream's with matchers
    by a topic that it listens to, if it may see it."""
    cdef uint64_t event
    if not pattern.has(channel.name):
        return False
    if pattern.source is None:
        return True
    event = index.event_of(link)
    if not index.is_private(event):
        return True
    while link > index._first_link and index.event_of(link - 1) == event:
        link -= 1
    return pattern.source.sees((<Channel>index.link(link).channel).name)


cdef Py_ssize_t templates_of(Pattern pattern) noexcept:
    """That are asked of a name, at most."""
    if pattern.source is None:
        return 0
    return PyTuple_GET_SIZE(pattern.source.listening) + PyTuple_GET_SIZE(pattern.source.granting)


cdef bint is_own(Index index, Channel channel) noexcept:
    """Whether a channel is one of the index: of a reserve's not those that its events have beside, and not those that have
    forgotten since what it has."""
    cdef Channel there
    if index.number == 0:
        return True
    if channel.reserve != index.number:
        return False
    if (<Index>index.whole)._forgot_at:
        there = (<Index>index.whole).channels.get(channel.name)
        return there is None or not forgotten_of(<Index>index.whole, there)
    return True


# ---- a selection -----------------------------------------------------------------------------------------------------


@cython.final
cdef class Selection:
    """What the streams of a group listen to that has patterns."""

    cdef bint _has(self, Index index, uint64_t link, Channel channel) noexcept:
        cdef Py_ssize_t i
        for i in range(PyTuple_GET_SIZE(self.named)):
            if <void*>PyTuple_GET_ITEM(self.named, i) == <void*>channel:
                return True
        for i in range(PyTuple_GET_SIZE(self.patterns)):
            if has_link(index, <Pattern>PyTuple_GET_ITEM(self.patterns, i), link, channel):
                return True
        return False

    cdef bint has_name(self, bytes name) noexcept:
        cdef Py_ssize_t i
        for i in range(PyTuple_GET_SIZE(self.named)):
            if (<Channel>PyTuple_GET_ITEM(self.named, i)).name == name:
                return True
        for i in range(PyTuple_GET_SIZE(self.patterns)):
            if (<Pattern>PyTuple_GET_ITEM(self.patterns, i)).has(name):
                return True
        return False

    # ---- where a stream begins --------------------------------------------------------------------------------------

    cdef bint lost_after(self, Index index, uint64_t position, uint64_t since) noexcept:
        """Whether events after a position are gone; where that cannot be known, True. What was forgotten (FLAG_FORGET)
        before the log had got to `since` counts for nothing."""
        if not index.evicted_after(position):
            return False
        return self.is_evicted_after(index, position) or position < self.forgotten_of(index, since)

    cdef uint64_t forgotten_of(self, Index index, uint64_t since) noexcept:
        """Position of the newest event that was forgotten after the log had got to `since`, or of a later one."""
        cdef Channel channel
        cdef Pattern pattern
        cdef uint64_t newest = 0
        for channel in self.named:
            if channel.forgot and index._forgot_at > since:
                newest = max(newest, channel.evicted)
        for pattern in self.patterns:
            if pattern.forgot_at > since:
                newest = max(newest, pattern.forgot)
            if pattern.born > since and index._forgot_at:
                newest = max(newest, evicted_of_pattern(index, pattern))
        return newest

    cdef uint64_t evicted_of(self, Index index) noexcept:
        """As `beginnings.evicted_of`, or a later one of another."""
        cdef uint64_t newest = evicted_of(index, self.named)
        cdef Pattern pattern
        for pattern in self.patterns:
            newest = max(newest, evicted_of_pattern(index, pattern))
        return newest

    cdef bint is_evicted_after(self, Index index, uint64_t position) noexcept:
        """Whether the log has evicted events after a position; where that cannot be known, True."""
        cdef Pattern pattern
        cdef uint32_t count
        cdef bint evicted
        if position >= index._floor:
            return False
        if position < oldest_of(index, self.named) or position < index._lapped and not index.reserves:
            return True
        for pattern in self.patterns:
            evicted = position < pattern.evicted
            if not evicted and position >= max(pattern.known, index._lapped):
                count = pattern.count_until(position)
                evicted = count < pattern.count and pattern.at(count) <= index._floor
                if not evicted:
                    continue
            # What was superseded counts for nothing: that is known of each channel alone.
            # Of what has a reserve that too.
            if (
                evicted and not conflates(index, pattern) and not index.reserves
                or position < evicted_of_pattern(index, pattern)
            ):
                return True
        return False

    cdef bint hides_after(self, Index index, uint64_t position, const View* view) noexcept:
        """Whether events after a position, up to the view's, are not shown, but for superseded ones; where more
        than LOOKED would have to be looked at, True."""
        cdef uint64_t link, event, last = 0
        cdef Py_ssize_t look = LOOKED
        cdef uint32_t i
        cdef Pattern pattern
        if hide_after(index, self.named, position, view):
            return True
        if self._cover(index, position, self.look) == FOUND:
            for pattern in self.patterns:
                for i in range(pattern.count_until(position), pattern.count):
                    if look <= 0:
                        return True
                    look -= 1
                    event = number_after(index, pattern.at(i) - 1)
                    if index.entry(event).position <= view.until and self._is_hidden(index, event, view):
                        return True
            return False
        link = link_of(index, number_after(index, position))
        while link <= index._newest_link:
            event = index.event_of(link)
            link += 1
            if event == last:
                continue
            if index.entry(event).position > view.until:
                break
            if look <= 0:
                return True
            look -= 1
            last = event
            if self._is_hidden(index, event, view):
                return True
        return False

    cdef bint _is_hidden(self, Index index, uint64_t event, const View* view) noexcept:
        """Whether one of the channels of an entry, of those here, does not show it, and no newer one of its key either."""
        cdef uint64_t link = link_of(index, event)
        cdef Channel channel
        while link <= index._newest_link and index.event_of(link) == event:
            channel = <Channel>index.link(link).channel
            if channel.rule is not None and link >= channel.forgot and self._has(index, link, channel) and is_own(index, channel):
                if not is_passed(index, link) and index.entry(event).position <= hidden_of(index, channel, view):
                    return True
            link += 1
        return False

    cdef uint64_t resume(self, Index index, uint64_t position, bint* lost) noexcept:
        """See `beginnings.resume`."""
        cdef Mark* mark = index.mark_after(position)
        lost[0] = self.lost_after(index, position, 0)
        if mark != NULL and position > mark.fork:
            lost[0] = True
            return max(mark.position, index._floor)
        return max(position, index._floor, self.forgotten_of(index, 0)) if lost[0] else position

    cdef uint64_t earliest(self, Index index) noexcept:
        return behind_marks(index, index._floor)

    cdef uint64_t before_newest(
        self, Index index, uint64_t until, uint64_t count, bint looks, const View* view, Search* search
    ) except? 0:
        """The cursor just before the newest `count` kept events that are not after `until`, and are shown, if that is FOUND;
        else the one after which all are known. `looks`: for those that are not known yet, as many links as a call may
        look at."""
        cdef uint64_t number, known
        cdef Py_ssize_t look = self.look if looks else 0
        cdef Search covered = FOUND
        search[0] = FOUND
        if count == 0:
            return until
        while True:
            known = max(self._known(), index._floor)
            number = self._newest(index, until, known, count, view)
            if number:
                search[0] = FOUND
                return min(until, behind_marks(index, index.entry(number).position - 1))
            if known <= index._floor:
                search[0] = FOUND
            elif covered == NO_ROOM:
                search[0] = NO_ROOM
            elif look <= 0:
                search[0] = UNDER_WAY
            else:
                covered = self._cover(index, index._floor, min(look, COVERED))
                look -= COVERED
                continue
            return min(until, behind_marks(index, known))

    cdef uint64_t _known(self) noexcept:
        """The position after which each of the patterns remembers its events."""
        cdef Pattern pattern
        cdef uint64_t known = 0
        for pattern in self.patterns:
            known = max(known, pattern.known)
        return known

    cdef Search _cover(self, Index index, uint64_t position, Py_ssize_t look) noexcept:
        """Have the patterns remember all after a position: the one first that knows least, by a look at so many links."""
        cdef Pattern pattern, least
        cdef uint64_t target = max(position, index._floor)
        while True:
            least = None
            for pattern in self.patterns:
                if pattern.known > target and (least is None or pattern.known > least.known):
                    least = pattern
            if least is None:
                return FOUND
            if look <= 0:
                return UNDER_WAY
            look = cover(index, least, target, look)
            if look < 0:
                return NO_ROOM

    cdef uint64_t _newest(self, Index index, uint64_t until, uint64_t after, uint64_t count, const View* view) except? 0:
        """Number of the `count`th newest entry in (after, until], or 0: there are not so many. Where many are not shown,
        of a newer one: a call looks at so many of those."""
        cdef size_t size = 0, source, named = PyTuple_GET_SIZE(self.named)
        cdef size_t sources = named + PyTuple_GET_SIZE(self.patterns)
        cdef uint64_t number, event, last = 0, ignored = 0
        cdef uint64_t* heap
        cdef uint64_t* at
        cdef Py_ssize_t look = self.look
        cdef Channel channel
        cdef Pattern pattern
        self.left = count
        if count == 0:
            return 0
        index.make_room(2 * sources)
        heap, at = index._heap, index._heap + sources
        for source in range(named):
            channel = <Channel>PyTuple_GET_ITEM(self.named, source)
            number = channel.last
            if number and index.position_of(number) > until:
                number = index.first_after(channel, until, &ignored)
                number = number - index.link(number).previous if index.link(number).previous else 0
            if number and index.position_of(number) > after:
                at[source] = number
                push(heap, size, ~(index.event_of(number) << SOURCE_BITS | source))
                size += 1
        for source in range(named, sources):
            pattern = <Pattern>PyTuple_GET_ITEM(self.patterns, source - named)
            number = pattern.count_until(until)
            if number and pattern.at(<uint32_t>number - 1) > after:
                at[source] = number - 1
                push(heap, size, ~(self._event(index, source, number - 1) << SOURCE_BITS | source))
                size += 1
        while size:
            event, source = ~heap[0] >> SOURCE_BITS, ~heap[0] & SOURCE
            index.steps += 1
            if event != last:
                last = event
                if self._is_kept(index, event, NO_LIMIT, view):
                    count -= 1
                    self.left = count
                elif view != NULL:
                    look -= 1
                if count == 0 or look <= 0:
                    return event
            if source < named:
                number = at[source]
                number = number - index.link(number).previous if index.link(number).previous else 0
                if number and index.position_of(number) <= after:
                    number = 0
                at[source] = number
            else:
                pattern = <Pattern>PyTuple_GET_ITEM(self.patterns, source - named)
                number = at[source]     # one more than the next
                if number and pattern.at(<uint32_t>number - 1) <= after:
                    number = 0
                at[source] = number - 1 if number else 0
            if number:
                heap[0] = ~(self._event(index, source, at[source]) << SOURCE_BITS | source)
            else:
                size -= 1
                heap[0] = heap[size]
            if size > 1:
                sift_down(heap, size)
        return 0

    cdef bint _is_kept(self, Index index, uint64_t event, uint64_t until, const View* view) noexcept:
        """Whether one of the channels of an entry, of those here, has not forgotten it, and it is shown there: where
        conflated, unless a newer one of its key is not after `until`."""
        cdef uint64_t link
        cdef Channel channel
        if event >= index._forgot_before and view == NULL:
            return True
        link = link_of(index, event)
        while link <= index._newest_link and index.event_of(link) == event:
            channel = <Channel>index.link(link).channel
            if (
                link >= channel.forgot and self._has(index, link, channel)
                and (view == NULL or is_shown(index, link, until, view))
            ):
                return True
            link += 1
        return False

    cdef uint64_t _event(self, Index index, size_t source, uint64_t at) noexcept:
        """Number of the entry where a source stands: a channel at a link, a pattern at one of those it remembers."""
        cdef size_t named = PyTuple_GET_SIZE(self.named)
        if source < named:
            return index.event_of(at)
        return number_after(index, (<Pattern>PyTuple_GET_ITEM(self.patterns, source - named)).at(<uint32_t>at) - 1)

    # ---- what comes next --------------------------------------------------------------------------------------------

    cdef bytes cut(self, Index index, uint64_t position, uint32_t limit, Piece* piece, const View* view):
        """See `pieces.cut`."""
        cdef const Mark* mark = index.mark_after(position)
        cdef uint64_t until = mark.fork if mark != NULL else NO_LIMIT
        cdef size_t count
        cdef Search search = self._cover(index, position, self.look)
        piece.events = piece.length = 0
        piece.at = 0
        piece.end = position
        piece.more = True
        if search == UNDER_WAY:
            return None
        if search == FOUND:
            count = self._merge(index, position, until, limit, piece, view)
        else:
            count = self._walk(index, position, until, limit, piece, view)
        piece.events = <uint32_t>count
        if not piece.more:
            piece.end = index.position
            if mark != NULL:
                piece.more = True
                piece.end = index.entry(index._merged[count - 1]).position if count else position
                if count == 0 or piece.length + index.entry(mark.number).frame_length <= limit:
                    index._merged[count] = mark.number
                    count += 1
                    piece.length += index.entry(mark.number).frame_length
                    piece.end = mark.position
        if count == 0:
            return None
        return copied(index, count, piece)

    cdef size_t _merge(
        self, Index index, uint64_t position, uint64_t until, uint32_t limit, Piece* piece, const View* view
    ) except? 0:
        """Collect the entries after a position, behind which all is known, up to `until` and to so many bytes. Returns how
        many; `piece` has their bytes, where they end, and whether there are more."""
        cdef size_t size = 0, count = 0, source, named = PyTuple_GET_SIZE(self.named)
        cdef size_t sources = named + PyTuple_GET_SIZE(self.patterns)
        cdef uint64_t number, event, last = 0, ignored = 0
        cdef uint64_t* heap
        cdef uint64_t* at               # of each source: where it stands
        cdef Py_ssize_t look = self.look
        cdef Entry* entry
        cdef Channel channel
        cdef Pattern pattern
        index.make_room(2 * sources)
        heap, at = index._heap, index._heap + sources
        for source in range(named):
            channel = <Channel>PyTuple_GET_ITEM(self.named, source)
            number = index.first_after(channel, position, &ignored) if channel.last_position > position else 0
            if number:
                at[source] = number
                push(heap, size, index.event_of(number) << SOURCE_BITS | source)
                size += 1
        for source in range(named, sources):
            pattern = <Pattern>PyTuple_GET_ITEM(self.patterns, source - named)
            at[source] = pattern.count_until(position)
            if at[source] < pattern.count:
                push(heap, size, self._event(index, source, at[source]) << SOURCE_BITS | source)
                size += 1
        while size:
            event, source = heap[0] >> SOURCE_BITS, heap[0] & SOURCE
            index.steps += 1
            if event != last:
                entry = index.entry(event)
                if entry.position > until:
                    size = 0
                    break
                last = event
                if self._is_kept(index, event, until, view):
                    if count and (piece.length + entry.frame_length > limit or count >= MERGED):
                        break
                    piece.length += entry.frame_length
                    piece.end = entry.position
                    index._merged[count] = event
                    count += 1
                else:
                    look -= 1
                    if look <= 0:
                        piece.end = entry.position
                        break
            if source < named:
                number = index.link(at[source]).next
                at[source] += number
            else:
                at[source] += 1
                number = at[source] < (<Pattern>PyTuple_GET_ITEM(self.patterns, source - named)).count
            if number:
                heap[0] = self._event(index, source, at[source]) << SOURCE_BITS | source
            else:
                size -= 1
                heap[0] = heap[size]
            if size > 1:
                sift_down(heap, size)
        piece.more = size != 0
        return count

    cdef size_t _walk(
        self, Index index, uint64_t position, uint64_t until, uint32_t limit, Piece* piece, const View* view
    ) noexcept:
        """As `_merge`, of a position before what is known: look at the links after it, so many a call."""
        cdef uint64_t link = link_of(index, number_after(index, position)), event, last = 0, looked = position
        cdef size_t count = 0
        cdef Py_ssize_t look = self.look, each = 1
        cdef bint taken = False
        cdef Entry* entry
        cdef Channel channel
        cdef Pattern pattern
        for pattern in self.patterns:
            each += LINKS_A_TEMPLATE * templates_of(pattern)
        piece.more = False
        while link <= index._newest_link:
            event = index.event_of(link)
            entry = index.entry(event)
            if event != last:
                if last:
                    looked = index.entry(last).position
                if entry.position > until:
                    break
                if look <= 0:
                    piece.more = True
                    break
                last = event
                taken = False
            look -= each
            index.steps += 1
            channel = <Channel>index.link(link).channel
            if (
                not taken and link >= channel.forgot and self._has(index, link, channel) and is_own(index, channel)
                and (view == NULL or is_shown(index, link, until, view))
            ):
                if count and (piece.length + entry.frame_length > limit or count >= MERGED):
                    piece.more = True
                    break
                piece.length += entry.frame_length
                index._merged[count] = event
                count += 1
                taken = True
            link += 1
        piece.end = looked
        return count


cdef Selection selection_of(tuple named, tuple patterns, Py_ssize_t look):
    cdef Selection selection = Selection.__new__(Selection)
    selection.named, selection.patterns, selection.look = named, patterns, look
    return selection
