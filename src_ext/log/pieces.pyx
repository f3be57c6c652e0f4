"""What a subscriber is handed: the events after a cursor, oldest first, whole, copied out of the log as one piece of bytes.

Who lags on a conflated channel, or comes back to it, is not handed what a newer event of the same key supersedes (`View`):
that one comes later in the same order, so positions rise and the last of each key is always among them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.heap cimport push, sift_down
from sse_fast._native.log.index cimport MERGED, Entry, Index, Mark, Piece, View
from sse_fast._native.log.retention cimport hidden_of, is_superseded


cdef bytes cut(
    Index index, tuple channels, uint64_t position, uint64_t at, uint32_t limit, Piece* piece, const View* view,
    uint64_t most
):
    """The frames after `position` and up to `most`, up to `limit` bytes and at least one. `view`: what is shown; NULL: all.

    None if there are none (then `piece.end` is where the index stands), if there may be and more is to be looked at
    (`piece.more`; `piece.end` is how far), or if the log took them away meanwhile (then `piece.end` is 0; `evict` has
    run, and `lost_after` knows).
    """
    cdef bint single = len(channels) == 1, latest = view != NULL and view.latest
    cdef const Mark* mark = index.mark_after(position)
    cdef uint64_t until = mark.fork if mark != NULL else most       # what is behind a fork is passed over
    cdef uint64_t* heap                 # of each channel the link that comes next
    cdef size_t size = 0, count = 0, merged = 0
    cdef uint64_t number = 0, event, last = 0, walked = 0, before = 0, length = 0, ignored = 0, since
    cdef Entry* entry
    index.make_room(len(channels))
    heap = index._heap
    if single and at >= index._first_link and mark == NULL:
        if index.link(at).next:
            heap[0] = at + index.link(at).next
            size = 1
    else:
        for channel in channels:
            if (<Channel>channel).last_position <= position:
                continue
            since = position if view == NULL else max(position, hidden_of(index, <Channel>channel, view))
            number = index.first_after(<Channel>channel, since, &ignored)
            if number:
                push(heap, size, number)
                size += 1
    if size == 0 and mark == NULL:
        piece.end = index.position
        piece.at = at
        piece.more = False
        return None

    # First pass: how much fits. Second pass: copy.
    while size:
        event = index.event_of(heap[0])
        if latest and event != walked and merged >= MERGED:
            break
        if event != last and not (latest and is_superseded(index, heap[0], until)):
            entry = index.entry(event)
            if entry.position > until:
                size = 0
                break
            if count and (length + entry.frame_length > limit or merged >= MERGED):
                if event == walked:             # of another of its channels it was superseded, and passed over
                    walked = before
                break
            length += entry.frame_length
            index._merged[count] = last = event
            count += 1
        if event != walked:
            before, walked = walked, event
        number = heap[0]
        merged += 1
        if index.link(number).next:
            heap[0] = number + index.link(number).next
        else:
            size -= 1
            heap[0] = heap[size]
        if size > 1:
            sift_down(heap, size)
    index.steps += merged
    piece.events = <uint32_t>count
    piece.more = size != 0 or mark != NULL
    if size == 0 and mark != NULL and (count == 0 or length + index.entry(mark.number).frame_length <= limit):
        walked = index._merged[count] = mark.number
        length += index.entry(walked).frame_length
        count += 1
    piece.length = <uint32_t>length
    piece.end = index.entry(walked).position if piece.more else index.position
    piece.at = number if single and mark == NULL else 0
    return copied(index, count, piece) if count else None


cdef bytes copied(Index index, size_t count, Piece* piece):
    """The frames of so many entries in `_merged`, at least one, `piece.length` bytes; or None, as `cut` has it."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, piece.length)
    cdef char* to = PyBytes_AS_STRING(out)
    cdef Entry* entry
    cdef size_t i
    for i in range(count):
        entry = index.entry(index._merged[i])
        memcpy(to, index.log.names_at(entry.offset) + entry.names_length, entry.frame_length)
        to += entry.frame_length
    piece.milliseconds = index.log.published_at(index.entry(index._merged[0]).offset)
    if not index.log.still_holds(index.entry(index._merged[0]).offset):
        index.evict()
        piece.end = 0
        piece.more = False
        return None
    return out
