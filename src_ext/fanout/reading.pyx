"""Reading: what the log has for a subscriber. Where its stream begins, whether something is gone that it has not seen, and
what it is handed next.

Of named channels `beginnings` and `pieces` know that, of patterns a `Selection`, and `retention` what namespaces show of
either: here is said which of them is asked. It moves no cursor, but that of one whose stream begins (`begin`).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.clock cimport wall_clock_ms
from sse_fast._native.fanout.forms cimport Envelopes
from sse_fast._native.fanout.groups cimport HISTORY_OWED, LAGS, LOST, Group, Subscriber, is_of_several
from sse_fast._native.log.beginnings cimport (
    before_newest,
    behind_marks,
    bytes_after,
    earliest,
    evicted_of,
    kept_after,
    lost_after,
    oldest_of,
    resume,
)
from sse_fast._native.log.index cimport Index, Mark, Piece, View
from sse_fast._native.log.pieces cimport cut
from sse_fast._native.log.reserved cimport (
    before_newest_reserved,
    before_newest_selected,
    bytes_reserved,
    cut_reserved,
    earliest_reserved,
    earliest_selected,
    hidden_reserved,
    hide_reserved,
    hide_selected,
)
from sse_fast._native.log.retention cimport before_newest_shown, hidden_of_all, hide_after
from sse_fast._native.log.selection cimport (
    FOUND,
    NO_ROOM,
    UNDER_WAY,
    Search,
    Selection,
    bytes_kept_after,
    bytes_of_newest,
)


cdef uint64_t told_gone(Group group, Subscriber subscriber) noexcept:
    """Of several channels, of which some have a reserve: the position up to where it knows of what is gone."""
    return subscriber.at if group.reserves and not subscriber.must_tell and is_of_several(group) else 0


@cython.final
cdef class Reading:
    """Reading(index, envelopes, piece, unknown): of a fan-out; `piece` and `unknown` as there."""

    def __cinit__(self, Index index not None, Envelopes envelopes not None, uint32_t piece, uint64_t unknown):
        self.index = index
        self._envelopes = envelopes
        self._piece, self._unknown = piece, unknown

    # ---- where a stream begins --------------------------------------------------------------------------------------

    cdef int begin(self, Subscriber subscriber, Group group, after, long long begin, uint64_t newest, uint64_t history) except -1:
        """Have a stream stand where it begins, and note whether that is behind events that are gone. `after` may be None;
        else `begin` is a position, FROM_EARLIEST or FROM_UNKNOWN. `newest`: the position that is now to it."""
        if group.selection is None:
            self._begin_named(subscriber, group, after, begin, newest, history)
        else:
            self._begin_selected(subscriber, group, group.selection, after, begin, newest, history)
        if group.reserves and is_of_several(group) and not subscriber.must_tell:
            subscriber.at = self.gone_of(group)
        return 0

    cdef uint64_t gone_of(self, Group group) noexcept:
        """Up to where something of a group's channels is gone, of which some have a reserve that may have more."""
        if group.selection is None:
            return min(evicted_of(self.index, group.channels), self.index._floor)
        return min(group.selection.evicted_of(self.index), self.index._floor)

    cdef int _begin_named(self, Subscriber subscriber, Group group, after, long long begin, uint64_t newest, uint64_t history) except -1:
        cdef bint lost = False
        cdef View view = self._view_at_start(subscriber)
        if after is not None:
            if begin == FROM_UNKNOWN:
                subscriber.position = self._before_newest(group, self._unknown, &view)
                lost = True
            elif begin == FROM_EARLIEST and group.reserves:
                subscriber.position = earliest_reserved(self.index, group.channels)
            elif begin == FROM_EARLIEST:
                subscriber.position = earliest(self.index, group.channels)
            else:
                subscriber.position = self._resume(group, begin, &lost)
                if group.hides and (
                    hide_after(self.index, group.channels, subscriber.position, &view)
                    or group.reserves and hide_reserved(self.index, group.channels, subscriber.position, &view)
                ):
                    lost = True
        else:
            subscriber.position = newest
            if newest < self.index.position:
                subscriber.position = self._resume(group, newest, &lost)
            if history and not lost:
                if newest < self.index.position:
                    history += kept_after(self.index, group.channels, newest)
                subscriber.position = self._before_newest(group, history, &view)
        if group.hides and len(group.channels) == 1:
            subscriber.position = max(subscriber.position, self._hidden_of(group, &view))
        if lost:
            subscriber.began |= LOST
        return 0

    cdef uint64_t _resume(self, Group group, uint64_t position, bint* lost) except? 0:
        """See `beginnings.resume`. Who has several channels, some with a reserve, is handed what is kept of these first."""
        cdef uint64_t stands
        cdef Mark* mark
        if group.selection is None:
            stands = resume(self.index, group.channels, position, lost)
        else:
            stands = group.selection.resume(self.index, position, lost)
        if lost[0] and group.reserves and is_of_several(group):
            mark = self.index.mark_after(position)
            if mark == NULL or position <= mark.fork:
                return max(position, self.index._gone_mark)
        return stands

    cdef uint64_t _hidden_of(self, Group group, const View* view) except? 0:
        cdef uint64_t newest = hidden_of_all(self.index, group.channels, view)
        if group.reserves:
            newest = max(newest, hidden_reserved(self.index, group.channels, view))
        return newest

    cdef View _view_at_start(self, Subscriber subscriber) noexcept:
        """What one that comes back is shown."""
        return View(subscriber.told_after, <uint64_t>(subscriber.opened * 1000.0 + 0.5), False)

    cdef uint64_t _before_newest(self, Group group, uint64_t count, const View* view) except? 0:
        if group.reserves:
            return before_newest_reserved(
                self.index, group.channels, count, view if group.hides and len(group.channels) > 1 else NULL
            )
        if group.hides and len(group.channels) > 1:
            return behind_marks(self.index, before_newest_shown(self.index, group.channels, count, view))
        return before_newest(self.index, group.channels, count)

    cdef int _begin_selected(
        self, Subscriber subscriber, Group group, Selection selection, after, long long begin, uint64_t newest,
        uint64_t history
    ) except -1:
        cdef Search search = FOUND
        cdef bint lost = False, hides = self.index.rules.hide
        cdef View view = self._view_at_start(subscriber)
        cdef const View* shown = &view if hides else NULL
        if after is not None:
            if begin == FROM_UNKNOWN:
                subscriber.position = self._newest_selected(group, newest, self._unknown, shown, &search)
                lost = True
            elif begin == FROM_EARLIEST:
                subscriber.position = earliest_selected(self.index) if group.reserves else selection.earliest(self.index)
            else:
                subscriber.position = self._resume(group, begin, &lost)
                if hides and (
                    selection.hides_after(self.index, subscriber.position, shown)
                    or group.reserves and hide_selected(self.index, selection, subscriber.position, shown)
                ):
                    lost = True
            subscriber.began |= LOST if lost else 0
            return 0
        subscriber.position = newest
        if newest < self.index.position:
            subscriber.position = self._resume(group, newest, &lost)
        if history and not lost:
            newest = min(newest, self.index.position)
            subscriber.position = self._newest_selected(group, newest, history, shown, &search)
            if search == UNDER_WAY:
                subscriber.position = selection.earliest(self.index)
                subscriber.must_tell = HISTORY_OWED
                subscriber.told_after, subscriber.at = history, newest
            lost = search == NO_ROOM
        subscriber.began |= LOST if lost else 0
        return 0

    cdef uint64_t _newest_selected(
        self, Group group, uint64_t until, uint64_t count, const View* view, Search* search
    ) except? 0:
        """See `Selection.before_newest`."""
        cdef uint64_t position = group.selection.before_newest(self.index, until, count, True, view, search)
        if group.reserves and search[0] == FOUND and group.selection.left:
            return before_newest_selected(self.index, group.selection, until, view)
        return position

    cdef uint64_t gone_until(self, Subscriber subscriber) noexcept:
        """See `FanOut.gone_until`."""
        cdef View view
        cdef Group group = subscriber.group
        cdef uint64_t gone = max(subscriber.position, told_gone(group, subscriber))
        if not group.hides or subscriber.must_tell or subscriber.position >= subscriber.told_after:
            return gone
        if group.selection is not None:
            return max(gone, subscriber.told_after)
        view = self._view_at_start(subscriber)
        return max(gone, self._hidden_of(group, &view))

    cdef uint64_t bytes_from(self, names, patterns, after, uint64_t history) except? 0:
        """See `FanOut.to_replay`."""
        if patterns:
            if after is None:
                return bytes_of_newest(self.index, history)
            if after == FROM_UNKNOWN or after > self.index.position:
                return bytes_of_newest(self.index, self._unknown)
            return bytes_kept_after(self.index, max(after, 0))
        channels = tuple([channel for channel in map(self.index.channels.get, set(names)) if channel is not None])
        cdef uint64_t position
        cdef bint lost
        if not channels or after is None and not history:
            return 0
        if after is None:
            position = before_newest(self.index, channels, history)
        elif after == FROM_EARLIEST:
            position = earliest(self.index, channels)
        elif after < 0 or after > self.index.position:
            position = before_newest(self.index, channels, self._unknown)
        else:
            position = resume(self.index, channels, after, &lost)
        cdef View view = View(self.index.position, wall_clock_ms(), False)
        if self.index.reserves:
            if after == FROM_EARLIEST:
                position = earliest_reserved(self.index, channels)
            elif after is not None and 0 <= after <= self.index.position:
                position = after
            else:
                position = before_newest_reserved(self.index, channels, history if after is None else self._unknown, NULL)
            return bytes_after(self.index, channels, max(position, self.index._floor), &view) + bytes_reserved(
                self.index, channels, position, &view
            )
        return bytes_after(self.index, channels, position, &view)

    cdef uint64_t history_of(self, Subscriber subscriber, Search* search) except? 0:
        """Go on looking for where the history begins that is owed to a subscriber of patterns."""
        cdef View view = View(subscriber.at, <uint64_t>(subscriber.opened * 1000.0 + 0.5), False)
        return self._newest_selected(
            subscriber.group, subscriber.at, subscriber.told_after, &view if subscriber.group.hides else NULL, search
        )

    cdef uint64_t before_last(self, Group group) except? 0:
        """The cursor that stands before a group's newest event."""
        cdef Search search
        if group.selection is None:
            return before_newest(self.index, group.channels, 1)
        return group.selection.before_newest(self.index, self.index.position, 1, False, NULL, &search)

    # ---- what comes next, and whether something is gone -------------------------------------------------------------

    cdef View view_of(self, Group group, Subscriber subscriber) noexcept:
        """What is shown to a subscriber of channels in namespaces: of what came before it, and while it lags."""
        cdef View view = View(0, 0, group.conflates and subscriber.began & LAGS)
        if group.hides and subscriber.position < subscriber.told_after and len(group.channels) > (group.selection is None):
            view.until, view.now = subscriber.told_after, <uint64_t>(subscriber.opened * 1000.0 + 0.5)
        return view

    cdef bytes cut(self, Group group, Subscriber subscriber, Piece* piece, const View* view):
        """The next piece for a subscriber, in its form; None as `pieces.cut` has it."""
        cdef Index index = self.index
        cdef bytes data
        piece.reserve = 0
        if group.reserves and subscriber.position < index._floor:
            data = cut_reserved(index, group.channels, group.selection, subscriber.position, self._piece, piece, view)
            if piece.reserve:
                index = <Index>index.reserves[piece.reserve - 1]
            elif told_gone(group, subscriber) > subscriber.position:    # nothing is kept up to there
                subscriber.position = subscriber.at
        if piece.reserve:
            pass
        elif group.selection is None:
            data = cut(index, group.channels, subscriber.position, subscriber.at, self._piece, piece, view, <uint64_t>-1)
        else:
            data = group.selection.cut(index, subscriber.position, self._piece, piece, view)
        if group.enveloped and data is not None:
            # Each index has numbers of its own for its events.
            data = self._envelopes.of_piece(
                index, group.number | <uint64_t>piece.reserve << 48, group.channels, group.selection, data, piece, self._piece
            )
        return data

    cdef bint lost(self, Group group, Subscriber subscriber) noexcept:
        """Whether something after its cursor is gone, of which it does not know."""
        cdef uint64_t position = max(subscriber.position, told_gone(group, subscriber)), told = subscriber.told_after
        if group.selection is None:
            return lost_after(self.index, group.channels, position, told)
        return group.selection.lost_after(self.index, position, told)

    cdef bint is_forgotten(self, Group group, uint64_t position) noexcept:
        """Whether nothing of what is lost was evicted."""
        if group.selection is None:
            return position >= oldest_of(self.index, group.channels)
        return not group.selection.is_evicted_after(self.index, position)

    cdef uint64_t gone(self, Group group, uint64_t since) noexcept:
        if group.selection is None:
            return evicted_of(self.index, group.channels)
        return group.selection.forgotten_of(self.index, since)
