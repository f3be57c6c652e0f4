"""Where a stream begins: after an id, before all that is kept of its channels, or before the newest events of them.

And whether something is gone that it has not seen. Where that cannot be known it is said to be: a gap is told once too often
rather than once too seldom. Nobody begins inside what a mark passes over (`epochs`).

It reads the index, links that are evicted and not dropped yet included, so it takes for gone what is before `Index._live`.
Over several channels, where many events are asked for, it looks by halves: a logarithm of steps.
"""

from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.heap cimport push, sift_down
from sse_fast._native.log.index cimport MERGED, Index, Link, Mark, View
from sse_fast._native.log.retention cimport hidden_of, is_passed

cdef enum:
    SAMPLED = 256                   # events by whose mean the bytes of more are estimated
    LOOKED = 4096                   # links, at most, for one that is not superseded


cdef bint lost_after(Index index, tuple channels, uint64_t position, uint64_t told) noexcept:
    """Whether events of these channels after `position` are gone; where that cannot be known, True. What they have
    forgotten (FLAG_FORGET) at a position up to `told` counts for nothing."""
    cdef Channel channel
    if not index.evicted_after(position):
        return False
    if position < index._gone_mark:
        return True
    for channel in channels:
        if position < index._lapped and not has_reserve(index, channel):
            return True
        if position < evicted_of_one(index, channel):
            if not _forgot(index, channel) or index.position_of(channel.forgot) > told:
                return True
    return False


cdef uint64_t resume(Index index, tuple channels, uint64_t position, bint* lost) noexcept:
    """Where a stream goes on that was at `position`, and whether what it did not see, or should not have, is gone."""
    cdef Mark* mark = index.mark_after(position)
    lost[0] = lost_after(index, channels, position, 0)
    if mark != NULL and position > mark.fork:
        lost[0] = True
        return max(mark.position, evicted_of(index, channels))
    return evicted_of(index, channels) if lost[0] else position


cdef uint64_t earliest(Index index, tuple channels) noexcept:
    """The cursor that stands before all that is kept of these channels."""
    return behind_marks(index, oldest_of(index, channels))


cdef uint64_t before_newest(Index index, tuple channels, uint64_t count) except? 0:
    """The cursor that stands just before at least the newest `count` kept events of these channels.

    Before exactly so many, unless events of several channels are kept and those asked for, each counted once for each
    of these channels that it is in, are more than `_merge`. Then the rest is found by halves, by as many links as it
    can have: that may be more events, and never fewer.
    """
    return behind_marks(index, _before_newest(index, channels, count))


cdef uint64_t kept_after(Index index, tuple channels, uint64_t position) except? 0:
    """How many kept events of these channels are after a position; or more, and never fewer, where more links than are
    merged would have to be looked at."""
    cdef uint64_t links = 0, most = 0, least, middle, one
    for channel in channels:
        one = 0
        index.first_after(<Channel>channel, position, &one)
        links += one
        most = max(most, one)
    if links == most or index.widest(len(channels)) == 1 or links > index._merge:
        return links
    least, most = most, links           # an event of several of them has a link in each
    while least < most:
        middle = most - (most - least) // 2
        if _before_newest(index, channels, middle) >= position:
            least = middle
        else:
            most = middle - 1
    return least


cdef uint64_t bytes_after(Index index, tuple channels, uint64_t position, const View* view) noexcept:
    """Of the frames of kept events of these channels after a position that are shown, superseded ones too: each channel's
    number of them, by the mean of its newest SAMPLED."""
    cdef uint64_t number, total = 0, links, some, sample
    cdef Channel channel
    for channel in channels:
        links = 0
        if not index.first_after(channel, max(position, hidden_of(index, channel, view)), &links):
            continue
        number = channel.last
        some, sample = 0, 0
        while True:
            sample += index.entry(index.event_of(number)).frame_length
            some += 1
            if some == links or some == SAMPLED or not index.link(number).previous:
                break
            number -= index.link(number).previous
        total += sample * links // some
    return total


cdef uint64_t evicted_of(Index index, tuple channels) noexcept:
    """Position of the newest event of these channels that is gone, as far as is known."""
    cdef uint64_t newest = index._gone_mark
    for channel in channels:
        newest = max(newest, evicted_of_one(index, <Channel>channel))
    return newest


cdef uint64_t oldest_of(Index index, tuple channels) noexcept:
    """Of what the log has evicted: before that nothing is kept of any of them. What one of them forgot may be behind
    what others keep."""
    cdef uint64_t newest = index._gone_mark
    cdef Channel channel
    for channel in channels:
        if not _forgot(index, channel):
            newest = max(newest, evicted_of_one(index, channel))
        elif not has_reserve(index, channel):
            newest = max(newest, index._lapped)
    return newest


cdef bint _forgot(Index index, Channel channel) noexcept:
    """Whether the newest that is gone of it was forgotten, and not evicted."""
    return channel.forgot != 0 and channel.first == channel.forgot and not _lags(index, channel)


cdef uint64_t evicted_of_one(Index index, Channel channel) noexcept:
    """Position of a channel's newest event that is gone, as far as is known: of one with a reserve, from there too."""
    return evicted_of_reserved(index, channel) if has_reserve(index, channel) else max(index._lapped, _evicted(index, channel))


cdef uint64_t evicted_of_reserved(Index index, Channel channel) noexcept:
    cdef Index reserve = <Index>PyTuple_GET_ITEM(index.reserves, channel.reserve - 1)
    cdef uint64_t newest = max(reserve._lapped, forgotten_of(index, channel))
    cdef Channel there
    try:
        there = reserve.channels.get(channel.name)
        if there is not None:
            return max(newest, _evicted(reserve, there))
        return max(newest, <uint64_t>reserve._gone.get(channel.name, reserve.forgotten))
    except MemoryError:
        return max(newest, reserve._any_gone)


cdef uint64_t forgotten_of(Index index, Channel channel) noexcept:
    """Up to which position a channel with a reserve forgot its events, if that does not know it yet: it has them still."""
    cdef Index reserve
    if channel.forgot and channel.first == channel.forgot:
        reserve = <Index>PyTuple_GET_ITEM(index.reserves, channel.reserve - 1)
        if not _lags(index, channel) or reserve.position < index.position_of(channel.first):
            return channel.evicted
    return 0


cdef uint64_t _evicted(Index index, Channel channel) noexcept:
    cdef uint64_t number, ignored = 0, missed = index._missed if channel.rule is not None and channel.rule.conflates else 0
    cdef int looked = 0
    if not _lags(index, channel):
        return max(missed, channel.evicted)
    number = index.first_after(channel, index._floor, &ignored)
    number = number - index.link(number).previous if number else channel.last
    while is_passed(index, number) and looked < LOOKED:     # nobody misses what was superseded
        if not index.link(number).previous:
            return max(missed, channel.evicted)
        number -= index.link(number).previous
        looked += 1
    return max(missed, index.position_of(number))


cdef uint64_t _kept_of(Index index, Channel channel) noexcept:
    cdef uint64_t kept = 0
    if not _lags(index, channel):
        return channel.kept
    index.first_after(channel, index._floor, &kept)
    return kept


cdef bint _lags(Index index, Channel channel) noexcept:
    """Whether it still has links to events that are gone."""
    return channel.first != 0 and index.event_of(channel.first) < index._live


cdef uint64_t behind_marks(Index index, uint64_t position) noexcept:
    """For who begins at a position, and has seen nothing: behind marks before which there is nothing for it."""
    cdef Mark* mark = index.mark_after(position)
    while mark != NULL and (position >= mark.fork or index.entry(index._live).position > mark.fork):
        position = mark.position
        mark = index.mark_after(position)
    return position


cdef uint64_t _before_newest(Index index, tuple channels, uint64_t count) except? 0:
    cdef uint64_t kept = 0, links = 0, low, high, middle, widest = index.widest(len(channels))
    for channel in channels:
        kept += _kept_of(index, <Channel>channel)
    if kept <= count:
        return oldest_of(index, channels)
    if count == 0:
        return index.position
    if len(channels) == 1:
        return index.position_of(_newest(index, <Channel>channels[0], count)) - 1
    low, high = index._live, index.newest
    if widest > 1 or count <= MERGED:
        high = _newest_merged(index, channels, &count, &links)
        if count == 0:
            return index.entry(high).position - 1
    links += count * widest
    if kept <= links:
        return oldest_of(index, channels)
    # The newest entry after which, itself included, there are so many links of these channels.
    while low < high:
        middle = high - (high - low) // 2
        kept = 0
        for channel in channels:
            index.first_after(<Channel>channel, index.entry(middle).position - 1, &kept)
        if kept >= links:
            low = middle
        else:
            high = middle - 1
    return index.entry(low).position - 1


cdef uint64_t _newest(Index index, Channel channel, uint64_t count) noexcept:
    """Number of the channel's `count`th newest link, of which there are at least so many."""
    cdef uint64_t number = channel.last
    cdef Link* link
    while count > 1:
        index.steps += 1
        link = index.link(number)
        if 0 < link.span < count and number - link.jump >= index._first_link:
            count -= link.span
            number -= link.jump
        else:
            count -= 1
            number -= link.previous
    return number


cdef uint64_t _newest_merged(Index index, tuple channels, uint64_t* count, uint64_t* links) except? 0:
    """Walk over the newest links of these channels, of which there are more than `count`, until so many events are
    found or `_merge` links are walked. Returns the number of the last event, takes from `count` how many were found,
    and adds to `links` what was walked."""
    cdef size_t size = 0
    cdef uint64_t number, event, last = 0, left = index._merge
    index.make_room(len(channels))
    for channel in channels:
        if (<Channel>channel).kept:
            push(index._heap, size, ~(<Channel>channel).last)    # the largest first
            size += 1
    while size and left:
        number = ~index._heap[0]
        event = index.event_of(number)
        if event < index._live:
            break
        left -= 1
        if event != last:
            last = event
            count[0] -= 1
            if count[0] == 0:
                break
        if index.link(number).previous:
            index._heap[0] = ~(number - index.link(number).previous)
        else:
            size -= 1
            index._heap[0] = index._heap[size]
        sift_down(index._heap, size)
    links[0] += index._merge - left
    index.steps += index._merge - left
    return last
