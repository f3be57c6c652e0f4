"""What who comes back is shown of a channel whose namespace keeps less than the log, or conflates it.

The log keeps its events all the same, and who is there when they come gets them all. So nothing is done for it when an
event is published: it is found when a stream begins, and the same again with each of its pieces, from what does not change:
the newest position when it began, and the time then. To count back, or to a time, takes a logarithm of steps.
"""

from libc.stdint cimport uint64_t

from sse_fast._native.log.channels cimport Channel, Rule
from sse_fast._native.log.index cimport Index, Link, Mark, View
from sse_fast._native.log.layout cimport Record

cdef enum:
    LOOKED = 65536                  # hidden links, at most, for one that is not superseded: of a channel that conflates

cdef uint64_t NO_LIMIT = <uint64_t>-1


cdef uint64_t time_of(Index index, uint64_t number) noexcept:
    """When the event of a link was published; 0: the log has it no longer."""
    cdef uint64_t offset = index.entry(index.event_of(number)).offset
    cdef uint64_t milliseconds = (<const Record*>(index.log.names_at(offset) - sizeof(Record))).milliseconds
    return milliseconds if index.log.still_holds(offset) else 0


cdef bint is_superseded(Index index, uint64_t number, uint64_t until) noexcept:
    """Whether there is a newer event of a link's key, that is not after `until`."""
    cdef uint64_t newer = index.link(number).newer
    return newer != 0 and (until == NO_LIMIT or index.position_of(number + newer) <= until)


cdef uint64_t back(Index index, uint64_t number, uint64_t count) noexcept:
    """Number of the channel's link so many before another one; 0: there are not so many."""
    cdef Link* link
    while count:
        link = index.link(number)
        if link.previous == 0:
            return 0
        if 0 < link.span <= count and number - link.jump >= index._first_link:
            count -= link.span
            number -= link.jump
        else:
            count -= 1
            number -= link.previous
    return number


cdef uint64_t before_time(Index index, uint64_t number, uint64_t since) noexcept:
    """Number of the channel's newest link, from another one down, that is from before a moment; 0: none is."""
    cdef Link* link
    if time_of(index, number) < since:
        return number
    while True:
        link = index.link(number)
        if link.previous == 0:
            return 0
        if time_of(index, number - link.previous) < since:
            return number - link.previous
        if number - link.jump >= index._first_link and time_of(index, number - link.jump) >= since:
            number -= link.jump
        else:
            number -= link.previous


cdef uint64_t newest_until(Index index, Channel channel, uint64_t until) noexcept:
    """Number of the channel's newest link not after a position; 0: there is none."""
    cdef uint64_t number = channel.last, ignored = 0
    if number and index.position_of(number) > until:
        number = index.first_after(channel, until, &ignored)
        return number - index.link(number).previous if index.link(number).previous else 0
    return number


cdef uint64_t newer_of(Index index, bytes name, uint64_t until) noexcept:
    """How many events up to a position the log itself keeps of a channel whose reserve has others."""
    cdef Channel channel = index.channels.get(name)
    cdef uint64_t count = 0, later = 0
    if channel is not None:
        index.first_after(channel, index._floor, &count)
        index.first_after(channel, max(until, index._floor), &later)
    return count - later


cdef uint64_t hidden_link(Index index, Channel channel, const View* view) noexcept:
    """Number of the channel's newest link that is not shown; 0: all are."""
    cdef Rule rule = channel.rule
    cdef uint64_t number, keep, hidden = 0
    if rule is None or not (rule.keep or rule.max_age) or view.until == 0:
        return 0
    number = newest_until(index, channel, view.until)
    if number == 0:
        return 0
    keep = rule.keep
    if keep:
        if index.number:
            keep -= min(keep, newer_of(<Index>index.whole, channel.name, view.until))
        hidden = back(index, number, keep)
    if rule.max_age and view.now > rule.max_age:
        hidden = max(hidden, before_time(index, number, view.now - rule.max_age))
    return hidden


cdef uint64_t hidden_of(Index index, Channel channel, const View* view) noexcept:
    """Position of the channel's newest event that is not shown; 0: all are."""
    cdef uint64_t number = hidden_link(index, channel, view)
    return index.position_of(number) if number else 0


cdef bint is_passed(Index index, uint64_t number) noexcept:
    """Whether there is a newer event of a link's key, and not behind a fork: that one nobody is handed."""
    cdef Mark* mark
    if index.link(number).newer == 0:
        return False
    mark = index.mark_after(index.position_of(number))
    return mark == NULL or is_superseded(index, number, mark.fork)


cdef bint is_shown(Index index, uint64_t number, uint64_t until, const View* view) noexcept:
    """Whether it is, where nothing after `until` is handed out."""
    cdef Channel channel = <Channel>index.link(number).channel
    if channel.rule is None:
        return True
    if view.latest and is_superseded(index, number, until):
        return False
    return not view.until or index.position_of(number) > hidden_of(index, channel, view)


cdef bint hides_after(Index index, Channel channel, uint64_t position, const View* view) noexcept:
    """Whether an event of the channel after a position is not shown, but for superseded ones; where that takes too long to
    find, True."""
    cdef uint64_t number = hidden_link(index, channel, view)
    cdef int looked = 0
    while number and index.position_of(number) > position:
        if looked == LOOKED or not is_passed(index, number):
            return True
        looked += 1
        number = number - index.link(number).previous if index.link(number).previous else 0
    return False


cdef bint hide_after(Index index, tuple channels, uint64_t position, const View* view) noexcept:
    for channel in channels:
        if hides_after(index, <Channel>channel, position, view):
            return True
    return False


cdef uint64_t hidden_of_all(Index index, tuple channels, const View* view) noexcept:
    """Position of the newest event of these channels that is not shown; 0: all are."""
    cdef uint64_t newest = 0
    for channel in channels:
        newest = max(newest, hidden_of(index, <Channel>channel, view))
    return newest


cdef uint64_t shown_after(Index index, Channel channel, uint64_t position, const View* view) noexcept:
    """How many events of the channel after a position are shown, superseded ones too."""
    cdef uint64_t count = 0
    index.first_after(channel, max(position, index._floor, hidden_of(index, channel, view)), &count)
    return count


cdef uint64_t before_newest_shown(Index index, tuple channels, uint64_t count, const View* view) noexcept:
    """The cursor that stands before at least the newest `count` events of several channels that are shown, each counted
    in each of these channels that it is in; by halves."""
    cdef uint64_t low = index._live, high = index.newest, middle, shown, needed = count * index.widest(len(channels))
    if low > high:
        return index.position
    while low < high:
        middle = high - (high - low) // 2
        shown = 0
        for channel in channels:
            shown += shown_after(index, <Channel>channel, index.entry(middle).position - 1, view)
        if shown >= needed:
            low = middle
        else:
            high = middle - 1
    return index.entry(low).position - 1


def shown(Index index not None, bytes name not None, uint64_t now):
    """How many events of the channel of that name who comes now, in milliseconds since 1970, could be shown."""
    cdef Channel channel = index.get(name)
    cdef View view = View(index.position, now, False)
    cdef uint64_t count = shown_after(index, channel, 0, &view) if channel is not None else 0
    cdef Index reserve
    if channel is not None and channel.forgot and channel.first == channel.forgot:
        if index.event_of(channel.first) >= index._live:
            return count                # nothing that a reserve has is its any more
    for reserve in index.reserves:
        channel = reserve.get(name)
        if channel is not None and channel.reserve == reserve.number:
            count += shown_after(reserve, channel, 0, &view)
    return count
