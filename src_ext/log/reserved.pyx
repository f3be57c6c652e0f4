"""What a log's reserves have for a stream: events that the log itself has given up.

All of it is from before what the log keeps (`Index._floor`), so a stream that begins, or lags, that far back is handed it
first, in pieces as ever, and goes on with the log where the reserves have no more. Each reserve is read by an index of its
own. Where a stream has channels of several, its next piece is of the one whose next event is the oldest, and ends before
the others': so positions rise, and an event that several of them have comes once. What one has may be another's to hand
out (`is_own`, or a channel that shows it): of those whose next event is the same each is asked for that one.

A stream may have channels with a reserve and such without, whose events of that time are gone. It is told so when it
begins (`gone`), and is handed those that are kept behind that.
"""

from cpython.list cimport PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.beginnings cimport (
    before_newest,
    behind_marks,
    bytes_after,
    evicted_of_one,
    forgotten_of,
    has_reserve,
)
from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index, Mark, Piece, View
from sse_fast._native.log.pieces cimport copied, cut
from sse_fast._native.log.retention cimport before_newest_shown, hidden_of_all, hide_after, is_shown
from sse_fast._native.log.selection cimport Selection, is_own, number_after, selection_of

cdef uint64_t NO_LIMIT = <uint64_t>-1

cdef enum:
    LOOKED = 16384                  # links, at most, for the newest events of patterns


cdef tuple channels_of(Index index, Index reserve, tuple channels):
    """Of some channels of the log, those that a reserve has events of, as it knows them."""
    cdef Channel channel, there
    cdef list found = []
    for channel in channels:
        if channel.reserve == reserve.number and not forgotten_of(index, channel):
            there = reserve.channels.get(channel.name)
            if there is not None and there.kept:
                found.append(there)
    return tuple(found)


cdef uint64_t until_of(Index index, uint64_t position) noexcept:
    """Up to where reserves are read, for a stream that stands there: what the log has given up, and not past a fork."""
    cdef Mark* mark = index.mark_after(position)
    return index._floor if mark == NULL else min(index._floor, mark.fork)


cdef uint64_t next_of(Index reserve, tuple channels, Selection selection, uint64_t position) noexcept:
    """Position of a reserve's first event after one, of the channels, or, with a selection, of any; NO_LIMIT: there is none."""
    cdef uint64_t next = NO_LIMIT, number, ignored = 0
    position = max(position, reserve._floor)
    if selection is not None:
        number = number_after(reserve, position)
        return reserve.entry(number).position if number <= reserve.newest else NO_LIMIT
    for channel in channels:
        number = reserve.first_after(<Channel>channel, position, &ignored)
        if number:
            next = min(next, reserve.position_of(number))
    return next


cdef bytes cut_reserved(
    Index index, tuple channels, Selection selection, uint64_t position, uint32_t limit, Piece* piece, const View* view
):
    """As `pieces.cut`, of what the reserves have of these channels, or of a selection. `piece.reserve` is 0 where they have
    nothing more: to go on with the log."""
    cdef uint64_t until = until_of(index, position), next, first = NO_LIMIT, second = NO_LIMIT
    cdef Index reserve
    cdef Selection own
    cdef tuple there
    cdef list chosen = []       # reserves whose next event is the oldest, and the channels of each
    cdef bint lag = False
    cdef size_t count
    cdef bytes data = None
    piece.reserve = 0
    for reserve in index.reserves:
        if reserve._offset != reserve.log.load_head():
            lag = True              # it has more, which is not taken in yet
            until = min(until, reserve.position)
    for reserve in index.reserves:
        there = channels_of(index, reserve, selection.named if selection is not None else channels)
        if not there and selection is None:
            continue
        next = next_of(reserve, there, selection, position)
        if next < first:
            first, second, chosen = next, first, [(reserve, there)]
        elif next > first:
            second = min(second, next)
        elif next != NO_LIMIT:
            chosen.append((reserve, there))
    piece.events = piece.length = 0
    piece.at = 0
    piece.more = True
    if first > until:
        if lag and until < index._floor:
            piece.reserve = (<Index>index.reserves[0]).number
            piece.end = position
        return None
    until = min(until, max(first, second - 1) if PyList_GET_SIZE(chosen) == 1 else first)
    for reserve, there in chosen:
        piece.reserve = reserve.number
        if selection is None:
            data = cut(reserve, there, max(position, reserve._floor), 0, limit, piece, view, until)
        else:
            own = selection_of(there, selection.patterns, selection.look)
            count = own._walk(reserve, max(position, reserve._floor), until, limit, piece, view)
            piece.events = <uint32_t>count
            if not piece.more:
                piece.end = until
            data = copied(reserve, count, piece) if count else None
        if piece.end == 0:
            return None             # it was taken away meanwhile
        if data is not None:
            break
    if not piece.more:
        piece.end = until
        piece.more = True
    piece.at = 0
    return data


# ---- where a stream begins -------------------------------------------------------------------------------------------


cdef uint64_t earliest_reserved(Index index, tuple channels) noexcept:
    """As `beginnings.earliest`: before all that is kept of any of the channels."""
    cdef uint64_t oldest = index._floor
    cdef Channel channel
    for channel in channels:
        if has_reserve(index, channel):
            oldest = min(oldest, evicted_of_one(index, channel))
    return behind_marks(index, max(oldest, index._gone_mark))


cdef uint64_t before_newest_reserved(Index index, tuple channels, uint64_t count, const View* view) except? 0:
    """As `beginnings.before_newest`, or `retention.before_newest_shown` with a view; reserves may give more, never fewer."""
    cdef uint64_t kept = 0, position, widest = index.widest(PyTuple_GET_SIZE(channels))
    cdef Index reserve
    cdef tuple there
    for channel in channels:
        index.first_after(<Channel>channel, index._floor, &kept)
    if kept > count * widest or count == 0:
        if view != NULL:
            return behind_marks(index, before_newest_shown(index, channels, count, view))
        return before_newest(index, channels, count)
    position = index._floor
    if kept // widest < count:
        for reserve in index.reserves:
            there = channels_of(index, reserve, channels)
            if not there:
                continue
            if view != NULL:
                position = min(position, before_newest_shown(reserve, there, count - kept // widest, view))
            else:
                position = min(position, before_newest(reserve, there, count - kept // widest))
    return behind_marks(index, max(position, index._gone_mark))


cdef bint hide_reserved(Index index, tuple channels, uint64_t position, const View* view) noexcept:
    """As `retention.hide_after`."""
    cdef Index reserve
    try:
        for reserve in index.reserves:
            if hide_after(reserve, channels_of(index, reserve, channels), position, view):
                return True
    except MemoryError:
        return True
    return False


cdef uint64_t hidden_reserved(Index index, tuple channels, const View* view) except? 0:
    """As `retention.hidden_of_all`."""
    cdef uint64_t newest = 0
    cdef Index reserve
    for reserve in index.reserves:
        newest = max(newest, hidden_of_all(reserve, channels_of(index, reserve, channels), view))
    return newest


cdef uint64_t bytes_reserved(Index index, tuple channels, uint64_t position, const View* view) except? 0:
    """As `beginnings.bytes_after`."""
    cdef uint64_t total = 0
    cdef Index reserve
    for reserve in index.reserves:
        total += bytes_after(reserve, channels_of(index, reserve, channels), max(position, reserve._floor), view)
    return total


# ---- the same with patterns ------------------------------------------------------------------------------------------


cdef uint64_t earliest_selected(Index index) noexcept:
    cdef uint64_t oldest = index._floor
    cdef Index reserve
    for reserve in index.reserves:
        oldest = min(oldest, max(reserve._floor, reserve._lapped))
    return behind_marks(index, max(oldest, index._gone_mark))


cdef uint64_t before_newest_selected(Index index, Selection selection, uint64_t until, const View* view) except? 0:
    """The cursor before the newest `selection.left` events that reserves have of a selection and are shown; or before
    more, never before fewer."""
    cdef uint64_t most = min(index._floor, until), position = most, link, event, last, left
    cdef int looked
    cdef Channel channel
    cdef Index reserve
    cdef Selection there
    for reserve in index.reserves:
        there = selection_of(channels_of(index, reserve, selection.named), selection.patterns, selection.look)
        left, last, looked, link = selection.left, 0, 0, reserve._newest_link
        while left and link and link >= reserve._first_link and looked < LOOKED:
            event = reserve.event_of(link)
            channel = <Channel>reserve.link(link).channel
            if event < reserve._live:
                break
            looked += 1
            if (
                event != last and reserve.entry(event).position <= most and link >= channel.forgot
                and there._has(reserve, link, channel) and is_own(reserve, channel)
                and (view == NULL or is_shown(reserve, link, NO_LIMIT, view))
            ):
                last = event
                left -= 1
                if left == 0:
                    position = min(position, reserve.entry(event).position - 1)
            link -= 1
        if left:
            position = min(position, max(reserve._floor, reserve._lapped))
    return behind_marks(index, max(position, index._gone_mark))


cdef bint hide_selected(Index index, Selection selection, uint64_t position, const View* view) noexcept:
    """Whether reserves have what is not shown, after a position; where more than LOOKED would have to be looked at, True."""
    cdef uint64_t number
    cdef int looked = 0
    cdef Index reserve
    cdef Selection there
    try:
        for reserve in index.reserves:
            there = selection_of(channels_of(index, reserve, selection.named), selection.patterns, selection.look)
            number = number_after(reserve, max(position, reserve._floor))
            while number <= reserve.newest:
                looked += 1
                if looked > LOOKED or there._is_hidden(reserve, number, view):
                    return True
                number += 1
    except MemoryError:
        return True
    return False
