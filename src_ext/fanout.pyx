"""The fan-out: who listens to what, how far each one is, and the loop that hands everybody what is new.

What it keeps (laws 1 to 5 of the design): a subscriber is a cursor into the log. A drain *sweeps* each group that has
news: it visits the group's subscribers in turn, and hands each everything after its cursor as one contiguous piece.
What arrives while a sweep runs is taken in at its next slice, so those not visited yet get it in the same piece and the
sweep goes round once more for the others: under load, batching comes by itself and grows with the load. Subscribers
that stand at the same place share one piece of bytes.
What it drops: nothing. A subscriber that blocks is parked; sweeps pass over it, and its cursor stays. When it may go on
it catches up from the log, one bounded piece a turn, behind the others.
Who is told: a subscriber whose cursor falls behind what the log keeps either leaves (it resumes by id) or is skipped
ahead and told so by a `$gap` event in its stream.

Sockets are written in volleys: those that are to get the same piece are gathered, and written in one loop without the
GIL. Before anything is called that may look at them, the volley is fired.

It knows sinks, but no socket, loop, task or ASGI server.
"""

from asyncio import CancelledError
from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from sse_fast._native.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, errno, send
from sse_fast._native.index cimport Listening
from sse_fast._native.ring cimport Log
from sse_fast._native.sink cimport BLOCKED, SocketSink, batch_of, passing
from sse_fast.errors import Leaving

# Where a stream begins, beside a position: after nothing that is kept, or after an id that this log never gave.
EARLIEST = -1
UNKNOWN = -2

cdef enum:
    LOOK_AT_CLOCK_EVERY = 16        # visits; a visit that writes takes about a microsecond or more

cdef inline long long monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long>now.tv_sec * 1_000_000_000 + now.tv_nsec


@cython.final
cdef class Group:
    """The subscribers who listen to the same set of channels; they are swept together."""

    def __dealloc__(self):
        PyMem_RawFree(self.places)


cdef int make_room(Channel channel) except -1:
    """Room for one more group that listens to it."""
    cdef uint32_t room = max(1, 2 * channel.listening_room)
    cdef Listening* grown
    if channel.listening_count == channel.listening_room:
        grown = <Listening*>PyMem_RawRealloc(channel.listening, room * sizeof(Listening))
        if grown == NULL:
            raise MemoryError
        channel.listening = grown
        channel.listening_room = room
    return 0


@cython.final
cdef class Subscriber:
    """One stream: a cursor, and the sink its bytes leave by. Made by `FanOut.subscribe`."""

    @property
    def closed(self):
        return self.state == CLOSED


cdef class FanOut:
    """FanOut(log, *, skip=False, piece=32768): the subscribers of one worker.

    `skip`: what meets a subscriber that fell behind the log: False, it leaves; True, it is skipped ahead and told.
    `piece`: bytes handed over at once, the measure of what a blocked subscriber can hold; one event may exceed it.
    What one call does at most, beside its budget: `subscribe` takes in `take_in` records of the log (2 ms), `drain` tells
    `tell` groups of news (half a millisecond).
    Times (`now`) are seconds on any steady clock, the same in all calls.
    """

    def __cinit__(self, Log log not None, *, bint skip=False, uint32_t piece=32768, Py_ssize_t remembered=65536,
                  Py_ssize_t take_in=16384, Py_ssize_t tell=4096):
        self.index = Index(log, remembered=remembered)
        self._groups = {}
        self._everyone = []
        self._spreading = []
        self._news = deque()
        self._behind = deque()
        self._blocked = {}
        self._skip = skip
        self._piece = piece
        self._take_in, self._tell = take_in, tell

    @property
    def connections(self):
        """Subscribers that have not left."""
        return len(self._everyone)

    @property
    def busy(self):
        """Whether somebody who can be written to has not got everything yet."""
        return bool(self.index.unread) or self._untold() or bool(self._news) or bool(self._behind)

    @property
    def blocked(self):
        """Subscribers that wait until they can write again."""
        return len(self._blocked)

    # ---- coming and going -------------------------------------------------------------------------------------------

    def subscribe(self, channels, Sink sink not None, *, after=None, uint64_t history=0):
        """A new subscriber to `channels` (at least one), parked until `unblock`.

        It begins after the position `after`: None is now, EARLIEST all that is kept, UNKNOWN the same but as a gap; or
        before the newest `history` events that are kept. `position` then is where it stands and `lost` whether events
        between `after` and there are gone. Where the log is far ahead, its events that were not taken in yet are
        passed over by who begins now, and come in addition to a `history`.
        """
        self.index.take_in_some(self._take_in)
        cdef uint64_t newest = self.index.position
        if self.index.unread:
            newest = max(newest, <uint64_t>self.index.log.position)
        names = tuple(sorted(set(channels)))
        if not names:
            raise ValueError("a subscriber names at least one channel")
        cdef long long begin = UNKNOWN      # also of a position that this log has not reached, however large
        if after is not None and after <= newest:
            begin = after
            if begin < UNKNOWN:
                raise ValueError(f"a stream begins after a position, EARLIEST or UNKNOWN, not after {begin}")
        # From here on nothing is refused: what was opened would stay.
        cdef Group group = self._open_group(names)
        cdef Subscriber subscriber = Subscriber.__new__(Subscriber)
        cdef Channel channel
        if after is not None:
            subscriber.position = self.index.evicted_of(group.channels)
            if begin == UNKNOWN:
                subscriber.lost = True
            elif begin != EARLIEST:
                subscriber.lost = self.index.lost_after(group.channels, begin)
                if not subscriber.lost:
                    subscriber.position = begin
        elif history:
            subscriber.position = self.index.before_newest(group.channels, history)
        else:
            subscriber.position = newest
        if subscriber.lost:
            self.gaps += 1
        subscriber.sink = sink
        subscriber.group = group
        subscriber.state = PARKED
        subscriber.place_in_group = PyList_GET_SIZE(group.subscribers)
        group.subscribers.append(subscriber)
        group.remaining += 1        # a sweep under way passes the newcomer too, or it would miss the last of its round
        subscriber.place = PyList_GET_SIZE(self._everyone)
        self._everyone.append(subscriber)
        for channel in group.channels:
            channel.subscribers += 1
        return subscriber

    def unsubscribe(self, Subscriber subscriber not None):
        """Let a subscriber go; it is written to no more. Again: nothing happens."""
        if subscriber.state != CLOSED:
            self._remove(subscriber)

    def unblock(self, Subscriber subscriber not None, double now):
        """The subscriber may be written to (again). True if there is something for it: `drain` then."""
        if subscriber.state != PARKED:
            return False
        self._blocked.pop(subscriber, None)
        subscriber.state = READY
        subscriber.touched = now
        if subscriber.finished:
            return False
        if self._last_words is not None or subscriber.must_tell or subscriber.position < self._newest_of(subscriber.group):
            self._catch_up_later(subscriber)
            return True
        return False

    cdef Group _open_group(self, tuple names):
        cdef Group group
        cdef Channel channel
        cdef uint32_t which
        if len(names) == 1:
            channel = self.index.open_channel(names[0])
            if channel.solo is not None:
                return channel.solo
        else:
            group = self._groups.get(names)
            if group is not None:
                return group
        group = Group.__new__(Group)
        group.channels = tuple([self.index.open_channel(name) for name in names])
        group.subscribers = []
        for channel in group.channels:
            group.last_position = max(group.last_position, channel.last_position)
        if len(names) == 1:
            channel.solo = group
            return group
        # First what may fail.
        group.places = <uint32_t*>PyMem_RawMalloc(len(names) * sizeof(uint32_t))
        if group.places == NULL:
            raise MemoryError
        for channel in group.channels:
            make_room(channel)
        group.key = names
        self._groups[names] = group
        for which in range(len(names)):
            channel = group.channels[which]
            group.places[which] = channel.listening_count
            channel.listening[channel.listening_count] = Listening(<void*>group, which)
            channel.listening_count += 1
        return group

    cdef int _close_group(self, Group group) except -1:
        cdef Channel channel
        cdef Listening last
        cdef uint32_t which
        if group.key is None:
            channel = group.channels[0]
            channel.solo = None
        else:
            del self._groups[group.key]
            for which in range(len(group.channels)):
                channel = group.channels[which]
                channel.listening_count -= 1
                last = channel.listening[channel.listening_count]
                channel.listening[group.places[which]] = last
                (<Group>last.group).places[last.which] = group.places[which]
        for channel in group.channels:
            self.index.release_if_idle(channel)
        return 0

    cdef int _remove(self, Subscriber subscriber) except -1:
        cdef Group group = subscriber.group
        cdef Subscriber last
        cdef Channel channel
        subscriber.state = CLOSED
        self._blocked.pop(subscriber, None)
        last = group.subscribers.pop()
        if last is not subscriber:
            group.subscribers[subscriber.place_in_group] = last
            last.place_in_group = subscriber.place_in_group
            # The one that moved may have moved behind the sweep: go round once more, the visited cost next to nothing.
            group.remaining = PyList_GET_SIZE(group.subscribers)
        last = self._everyone.pop()
        if last is not subscriber:
            self._everyone[subscriber.place] = last
            last.place = subscriber.place
        for channel in group.channels:
            channel.subscribers -= 1
        if not group.subscribers:
            self._close_group(group)
        subscriber.sink = None
        return 0

    cdef int _leave(self, Subscriber subscriber, reason, error) except -1:
        self._fire()
        if subscriber.state == CLOSED:
            return 0
        cdef Sink sink = subscriber.sink
        self._remove(subscriber)
        if reason is Leaving.SLOW:
            self.slow += 1
        sink.ended(reason, error)
        return 0

    # ---- the drain --------------------------------------------------------------------------------------------------

    def drain(self, double now, long long budget_ns=4_000_000):
        """Take in what is new and hand it on, for about `budget_ns`. True: there is more to do, call again next turn."""
        if self._draining:
            return True             # asked for from within a write: the one under way goes on
        cdef long long start = monotonic_ns()
        cdef long long deadline = start + budget_ns
        # Those who catch up never starve, and never take more than a quarter while others have news.
        cdef long long sweeps_end = deadline - (budget_ns // 4 if self._behind else 0)
        self.index.take_in_some(4096)
        cdef Group group
        cdef Subscriber subscriber
        self._spread_news()
        self._draining = True
        try:
            while self._news:
                group = self._news[0]
                if self._sweep(group, now, sweeps_end):
                    self._news.popleft()
                    group.queued = False
                    if monotonic_ns() >= sweeps_end:    # many small groups take as long as one large one
                        break
                else:
                    self._news.rotate(-1)
                    break
            while self._behind:
                subscriber = self._behind.popleft()
                subscriber.behind = False
                self._visit(subscriber, now)
                if monotonic_ns() >= deadline:
                    break
            self._fire()
        finally:
            self._draining = False
            self._shared = None
            self._shared_group = None
        return self.index.log.load_head() != self.index._offset or self._untold() or bool(self._news) or bool(self._behind)

    cdef bint _untold(self) noexcept:
        """Whether groups wait to be told that a channel of theirs got something."""
        return self._heard is not None or PyList_GET_SIZE(self._spreading) or PyList_GET_SIZE(self.index.fresh)

    cdef int _spread_news(self) except -1:
        """Queue the groups of the channels that got something, so many of them a call.

        From a channel's last group to its first: who moves into the place of one that left was told before. One that
        comes meanwhile knows by itself.
        """
        cdef Py_ssize_t left = self._tell
        cdef Channel channel
        while left > 0:
            if self._heard is None:
                if not self._spreading:
                    if not self.index.fresh:
                        break
                    self._spreading, self.index.fresh = self.index.fresh, self._spreading
                    self._spreading.reverse()
                channel = self._spreading.pop()
                channel.is_fresh = False
                left -= 1
                if channel.solo is not None:
                    self._queue(channel.solo, channel.last_position)
                if not channel.listening_count:
                    continue
                self._heard = channel
                self._groups_left = channel.listening_count
            channel = self._heard
            self._groups_left = min(self._groups_left, channel.listening_count)
            while self._groups_left and left > 0:
                self._groups_left -= 1
                left -= 1
                self.told += 1
                self._queue(<Group>channel.listening[self._groups_left].group, channel.last_position)
            if not self._groups_left:
                self._heard = None
        return 0

    cdef uint64_t _newest_of(self, Group group) noexcept:
        """Position of the newest event of a group's channels, also where it was not told of it yet."""
        cdef Channel channel
        if self._untold():
            for channel in group.channels:
                group.last_position = max(group.last_position, channel.last_position)
        return group.last_position

    cdef int _queue(self, Group group, uint64_t position) except -1:
        group.last_position = max(group.last_position, position)
        group.remaining = PyList_GET_SIZE(group.subscribers)
        if not group.queued:
            group.queued = True
            self._news.append(group)
        return 0

    cdef bint _sweep(self, Group group, double now, long long deadline) except -1:
        """Visit who is left of this round. True: done; False: the time is up."""
        cdef Subscriber subscriber
        cdef unsigned int visits = 0
        while group.remaining > 0:
            if group.next >= PyList_GET_SIZE(group.subscribers):
                group.next = 0
                if not group.subscribers:
                    group.remaining = 0
                    break
            subscriber = <Subscriber>PyList_GET_ITEM(group.subscribers, group.next)
            group.next += 1
            group.remaining -= 1
            if subscriber.state == READY and subscriber.position < group.last_position:
                self._visit(subscriber, now)
            visits += 1
            if visits % LOOK_AT_CLOCK_EVERY == 0 and monotonic_ns() >= deadline:
                break
        return group.remaining <= 0

    cdef int _visit(self, Subscriber subscriber, double now) except -1:
        """Hand a subscriber the next piece after its cursor."""
        cdef Group group = subscriber.group
        cdef Piece piece
        cdef Batch batch
        cdef bytes data
        if subscriber.in_volley:
            self._fire()
        if subscriber.state != READY or subscriber.finished:
            return 0
        if self._last_words is not None:
            return self._finish(subscriber, now)
        if self.index.lost_after(group.channels, subscriber.position):
            if not self._skip:
                return self._leave(subscriber, Leaving.SLOW, None)
            self._skip_ahead(subscriber)
        if subscriber.must_tell:
            subscriber.must_tell = False
            self._catch_up_later(subscriber)
            return self._hand_over(subscriber, self._gap(subscriber), now)
        if subscriber.position >= group.last_position:
            return 0

        if (
            self._shared_group is group
            and self._shared_from == subscriber.position
            and self._shared_newest == self.index.newest
        ):
            batch = self._shared
            piece = self._shared_piece
        else:
            data = self.index.cut(group.channels, subscriber.position, subscriber.at, self._piece, &piece)
            if data is None:
                if piece.end:
                    subscriber.position = piece.end
                else:
                    self._catch_up_later(subscriber)
                return 0
            batch = batch_of(data, piece.events)
            self._shared = batch
            self._shared_group = group
            self._shared_from = subscriber.position
            self._shared_newest = self.index.newest
            self._shared_piece = piece
        subscriber.position = piece.end
        subscriber.at = piece.at
        if piece.more:
            self._catch_up_later(subscriber)
        return self._hand_over(subscriber, batch, now)

    cdef int _hand_over(self, Subscriber subscriber, Batch batch, double now) except -1:
        cdef int delivery
        cdef Sink sink = subscriber.sink    # held: the subscriber may leave within its own write
        if sink.takes_chunks:
            return self._load(subscriber, (<SocketSink>sink).fd, batch, now)
        self._fire()
        if subscriber.state != READY:   # let go by somebody who was told of an end
            return 0
        try:
            delivery = sink.deliver(batch)
        except BaseException as error:
            # The cursor stands behind these bytes already, so whatever went wrong, it can't go on.
            if subscriber.state != CLOSED:
                self._leave(subscriber, Leaving.ERROR, error if isinstance(error, Exception) else None)
            if not isinstance(error, (Exception, CancelledError)):
                raise
            return 0
        self._count_write(batch)
        subscriber.touched = now
        if delivery == BLOCKED:
            self._park(subscriber)
        return 0

    cdef int _count_write(self, Batch batch) except -1:
        self.writes += 1
        self.deliveries += batch.events
        self.delivered_bytes += len(batch.data)
        return 0

    cdef int _park(self, Subscriber subscriber) except -1:
        if subscriber.state == READY:
            subscriber.state = PARKED
            self._blocked[subscriber] = None
        return 0

    # ---- volleys ----------------------------------------------------------------------------------------------------

    cdef int _load(self, Subscriber subscriber, int fd, Batch batch, double now) except -1:
        """Gather a socket that is to get this batch."""
        if subscriber.in_volley or self._volley_size == VOLLEY or self._volley_batch is not batch:
            self._fire()
            if subscriber.state != READY:
                return 0
            self._volley_batch = batch
        Py_INCREF(subscriber)
        self._volley[self._volley_size] = <PyObject*>subscriber
        self._volley_fds[self._volley_size] = fd
        self._volley_size += 1
        subscriber.in_volley = True
        subscriber.touched = now
        return 0

    cdef int _fire(self) except -1:
        """Write the batch to all sockets that were gathered for it."""
        cdef int size = self._volley_size, i
        if size == 0:
            return 0
        cdef PyObject* subscribers[VOLLEY]
        cdef int fds[VOLLEY]
        cdef ssize_t results[VOLLEY]
        cdef Batch batch = self._volley_batch
        cdef bytes chunk = batch.chunk_()
        cdef const char* data = PyBytes_AS_STRING(chunk)
        cdef ssize_t length = PyBytes_GET_SIZE(chunk)
        cdef Subscriber subscriber
        memcpy(subscribers, self._volley, size * sizeof(PyObject*))
        memcpy(fds, self._volley_fds, size * sizeof(int))
        self._volley_size = 0
        self._volley_batch = None
        for i in range(size):
            if (<Subscriber>subscribers[i]).state == CLOSED:
                fds[i] = -1         # it may be somebody else's by now
        with nogil:
            for i in range(size):
                results[i] = send(fds[i], data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                if results[i] < 0:
                    results[i] = 0 if passing(errno) else -errno
        cdef list gone = None
        for i in range(size):
            subscriber = <Subscriber>subscribers[i]
            Py_DECREF(subscriber)
            subscriber.in_volley = False
            if subscriber.state == CLOSED:
                continue
            if results[i] < 0:
                gone = [] if gone is None else gone
                gone.append(subscriber)
                continue
            self._count_write(batch)
            if results[i] < length:
                (<SocketSink>subscriber.sink).keep_rest(chunk, results[i])
                self._park(subscriber)
        # Last, when everybody's rest is kept: whoever is told of an end may write to any of the others.
        if gone is not None:
            for subscriber in gone:
                self._leave(subscriber, Leaving.CLIENT, None)
        return 0

    cdef int _catch_up_later(self, Subscriber subscriber) except -1:
        if not subscriber.behind:
            subscriber.behind = True
            self._behind.append(subscriber)
        return 0

    # ---- the slow ---------------------------------------------------------------------------------------------------

    def expire(self, double now, double timeout):
        """Apply the policy to those that were blocked for `timeout` seconds."""
        cdef Subscriber subscriber
        for subscriber in list(self._blocked):
            # Who is told that it ends may let others go, or on.
            if subscriber.state != PARKED or now - subscriber.touched < timeout:
                continue
            if subscriber.sink.moves():
                subscriber.touched = now
                continue
            if not self._skip:
                self._leave(subscriber, Leaving.SLOW, None)
            elif subscriber.position < self._newest_of(subscriber.group):
                self._skip_ahead(subscriber)
                subscriber.touched = now

    cdef int _skip_ahead(self, Subscriber subscriber) except -1:
        """Stand before the newest event; the next thing the subscriber gets is the news of the gap."""
        cdef uint64_t position = self.index.before_newest(subscriber.group.channels, 1)
        if position <= subscriber.position:
            return 0                # it waits for the newest only: nothing to skip, no gap to tell
        if not subscriber.must_tell:
            subscriber.must_tell = True
            subscriber.told_after = subscriber.position
            self.gaps += 1
            self.slow += 1
        subscriber.position = position
        subscriber.at = 0
        return 0

    cdef Batch _gap(self, Subscriber subscriber):
        cdef Log log = self.index.log
        after, until = log.event_id(subscriber.told_after), log.event_id(subscriber.position)
        frame = f'event: $gap\ndata: {{"after":"{after}","until":"{until}"}}\nid: {until}\n\n'
        return batch_of(frame.encode("ascii"), 0)

    # ---- said beside the log ----------------------------------------------------------------------------------------

    def beat(self, double now, double idle, Py_ssize_t count):
        """Look at the next `count` subscribers, round and round, and send a heartbeat to those silent for `idle`."""
        cdef Subscriber subscriber
        cdef Batch heartbeat = batch_of(b":\n", 0)
        # From the last to the first: who moves into the place of one that left is the last, and was looked at.
        for _ in range(min(count, PyList_GET_SIZE(self._everyone))):
            if not 0 < self._heartbeat_next <= PyList_GET_SIZE(self._everyone):
                self._heartbeat_next = PyList_GET_SIZE(self._everyone)
                if not self._everyone:
                    return
            self._heartbeat_next -= 1
            subscriber = self._everyone[self._heartbeat_next]
            if subscriber.state == READY and not subscriber.finished and now - subscriber.touched >= idle:
                self._hand_over(subscriber, heartbeat, now)
                self.heartbeats += 1
        self._fire()

    def say(self, bytes channel not None, bytes frame not None, double now):
        """Hand a frame that is not in the log (it has no id) to the ready subscribers of a channel. Returns how many."""
        cdef Channel listened = self.index.get(channel)
        cdef Batch batch = batch_of(frame, 1)
        cdef Group group
        cdef Subscriber subscriber
        cdef Py_ssize_t said = 0
        cdef uint32_t which
        if listened is None:
            return 0
        groups = [<Group>listened.listening[which].group for which in range(listened.listening_count)]
        if listened.solo is not None:
            groups.append(listened.solo)
        for group in groups:
            for subscriber in list(group.subscribers):
                if subscriber.state == READY and not subscriber.finished:
                    self._hand_over(subscriber, batch, now)
                    said += 1
        self._fire()
        return said

    def finish(self, bytes frame not None, double now, Py_ssize_t end, Py_ssize_t count):
        """Hand a frame, the last that a stream gets, to the ready ones among the `count` subscribers before number `end`.
        Returns where to go on, or 0. From the first call on, whoever is unblocked gets it instead of events.

        From the last to the first, as heartbeats: nobody is passed over because another one leaves between two calls.
        """
        cdef Subscriber subscriber
        cdef Py_ssize_t start = max(0, end - count)
        if self._last_words is None:
            self._last_words = batch_of(frame, 0)
        for subscriber in self._everyone[start:end]:
            if subscriber.state == READY and not subscriber.finished:
                self._finish(subscriber, now)
        self._fire()
        return start

    cdef int _finish(self, Subscriber subscriber, double now) except -1:
        subscriber.finished = True
        return self._hand_over(subscriber, self._last_words, now)

    def end_all(self, reason):
        """Let everybody go for one reason. Returns how many."""
        cdef Subscriber subscriber
        everyone = list(self._everyone)
        for subscriber in everyone:
            if subscriber.state != CLOSED:
                self._leave(subscriber, reason, None)
        return len(everyone)
