"""The fan-out: who listens to what, how far each one is, and the loop that hands everybody what is new.

What it keeps (laws 1 to 5 of the design): a subscriber is a cursor into the log. A drain *sweeps* each group that has
news: it visits the group's subscribers in turn, and hands each everything after its cursor as one contiguous piece.
What arrives while a sweep runs is taken in at its next slice, so those not visited yet get it in the same piece and the
sweep goes round once more for the others: under load, batching comes by itself and grows with the load. Subscribers
that stand at the same place share one piece of bytes.
What it drops: nothing. A subscriber that blocks is parked; sweeps pass over it, and its cursor stays. When it may go on
it catches up from the log, one bounded piece a turn, behind the others; and one that has a long way to go, in pieces
that leave the loop half of its time for everything else.
Who is told: a subscriber whose cursor falls behind what the log keeps either leaves (it resumes by id) or is skipped
ahead and told so by a `$gap` event in its stream.

Sockets are written in volleys: those that are to get the same piece are gathered, and written in one loop without the
GIL. Before anything is called that may look at them, the volley is fired.

Memory may run out at any allocation. So whatever allocates comes before a cursor moves or a list is changed; to queue, to
park and to let go allocate nothing. A drain that raised is called again, and goes on where it stopped.

It knows sinks, but no socket, loop, task or ASGI server.
"""

from asyncio import CancelledError
from heapq import nlargest, nsmallest

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.base.clock cimport monotonic_ns
from sse_fast._native.log.index cimport Listening
from sse_fast._native.base.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, errno, send
from sse_fast._native.base.queue cimport Queue, drop_last
from sse_fast._native.log.ring cimport Log
from sse_fast._native.fanout.sinks cimport BLOCKED, SocketSink, batch_of, passing
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR, SLOW = EndReason.SLOW     # to look one up allocates

# Where a stream begins, beside a position: after nothing that is kept, or after an id that this log never gave.
EARLIEST = -1
UNKNOWN = -2

TIMEOUTS_UNDER_SKIP = 4             # in a row

cdef enum:
    LOOK_AT_CLOCK_EVERY = 16        # visits; a visit that writes takes about a microsecond or more
    SLICES = 8                      # of a drain's budget: what it spends on catching up, where nobody has news
    REST = 4                        # of a drain's budget: the least that those with a long way to go rest then


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

    `skip`: what meets a subscriber that fell behind the log: False, it leaves; True, it is skipped ahead and told, and
    leaves when it has taken nothing for TIMEOUTS_UNDER_SKIP in a row: what waits for it is the machine's memory.
    `piece`: bytes handed over at once, the measure of what a blocked subscriber can hold; one event may exceed it.
    What one call does at most, beside its budget: `subscribe` takes in `take_in` records of the log (2 ms), `drain` tells
    `tell` groups of news (half a millisecond); of what the log evicted, the index drops `drop` events (1.5 ms).
    Who has caught up by `deep` bytes and is not there yet has a long way to go;
    who had everything before may catch up by two of the largest batches: those who append them wait for it.
    `unknown`: events, the newest, that a stream begins with after an id that this log never gave.
    Times (`now`) are seconds on any steady clock, the same in all calls.
    """

    def __cinit__(self, Log log not None, *, bint skip=False, uint32_t piece=32768, Py_ssize_t remembered=65536,
                  Py_ssize_t take_in=16384, Py_ssize_t tell=4096, uint32_t deep=262144,
                  uint64_t unknown=10_000, Py_ssize_t drop=1024):
        self.index = Index(log, remembered=remembered, drop=drop)
        self._groups = {}
        self._everyone = []
        self._news = Queue()
        self._behind = Queue()
        self._deep = Queue()
        self._blocked = []
        self._skip = skip
        self._piece = piece
        self._take_in, self._tell, self._deep_after = take_in, tell, deep
        self._live_after = max(deep, 2 * log.largest_batch)
        self._unknown = unknown

    @property
    def connections(self):
        """Subscribers that have not left."""
        return len(self._everyone)

    @property
    def busy(self):
        """Whether somebody who can be written to, and has no long way to go, has not got everything yet."""
        return self._is_busy()

    @property
    def rest(self):
        """Seconds until there is something to do, if all that is left is for those who have a long way to go; else 0."""
        if self._is_busy() or self._deep.first is None:
            return 0.0
        return max(0, self._rest_until - monotonic_ns()) / 1e9

    @property
    def blocked(self):
        """Subscribers that wait until they can write again."""
        return self._blocked_count

    # ---- coming and going -------------------------------------------------------------------------------------------

    def subscribe(self, channels, Sink sink not None, *, after=None, uint64_t history=0):
        """A new subscriber to `channels` (at least one), parked until `unblock`.

        It begins after the position `after`: None is now, EARLIEST all that is kept, UNKNOWN the newest, as a gap; or
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
        cdef Subscriber subscriber = Subscriber.__new__(Subscriber)
        cdef Group group = self._open_group(names)
        try:
            self._enter(subscriber, group, sink, after, begin, newest, history)
        except BaseException:
            if not group.subscribers:
                self._close_group(group)
            raise
        return subscriber

    cdef int _enter(self, Subscriber subscriber, Group group, Sink sink, after, long long begin, uint64_t newest, uint64_t history) except -1:
        cdef Channel channel
        if after is not None:
            subscriber.position = self.index.evicted_of(group.channels)
            if begin == UNKNOWN:
                subscriber.position = self.index.before_newest(group.channels, self._unknown)
                subscriber.lost = True
            elif begin != EARLIEST:
                subscriber.lost = self.index.lost_after(group.channels, begin)
                if not subscriber.lost:
                    subscriber.position = begin
        elif history:
            subscriber.position = self.index.before_newest(group.channels, history)
        else:
            subscriber.position = newest
        if PyList_GET_SIZE(self._blocked) <= PyList_GET_SIZE(self._everyone):
            self._blocked.append(None)
        subscriber.place = PyList_GET_SIZE(self._everyone)
        self._everyone.append(subscriber)
        subscriber.place_in_group = PyList_GET_SIZE(group.subscribers)
        try:
            group.subscribers.append(subscriber)
        except BaseException:
            drop_last(self._everyone)
            raise
        # It has entered; from here on nothing fails.
        if subscriber.lost:
            self.gaps += 1
        subscriber.sink = sink
        subscriber.group = group
        subscriber.state = PARKED
        subscriber.place_blocked = -1
        subscriber.catches_up = self._deep_after if subscriber.position < self._newest_of(group) else self._live_after
        group.remaining += 1        # a sweep under way passes the newcomer too, or it would miss the last of its round
        for channel in group.channels:
            channel.subscribers += 1
        return 0

    def unsubscribe(self, Subscriber subscriber not None):
        """Let a subscriber go; it is written to no more. Again: nothing happens."""
        self.let_go(subscriber)

    cdef void let_go(self, Subscriber subscriber) noexcept:
        if subscriber.state != CLOSED:
            self._remove(subscriber)
        subscriber.sink = subscriber.untold = None

    def unblock(self, Subscriber subscriber not None, double now):
        """The subscriber may be written to (again). True if there is something for it: `drain` then."""
        if subscriber.state != PARKED:
            return False
        self._unpark(subscriber)
        self._weigh(subscriber, 0)
        subscriber.state = READY
        subscriber.touched = now
        subscriber.timeouts = 0
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
            channel = self.index.channels.get(names[0])
            group = channel.solo if channel is not None else None
        else:
            group = self._groups.get(names)
        if group is not None:
            return group
        group = Group.__new__(Group)
        group.subscribers = []
        cdef list opened = [None] * len(names)
        try:
            for which in range(len(names)):
                opened[which] = channel = self.index.open_channel(names[which])
                group.last_position = max(group.last_position, channel.last_position)
            group.channels = tuple(opened)
            if len(names) > 1:
                group.places = <uint32_t*>PyMem_RawMalloc(len(names) * sizeof(uint32_t))
                if group.places == NULL:
                    raise MemoryError
                for channel in group.channels:
                    make_room(channel)
                self._groups[names] = group
        except BaseException:
            for channel in opened:
                if channel is not None:
                    self.index.release_if_idle(channel)
            raise
        self.listened += len(names)
        if len(names) == 1:
            channel.solo = group
            return group
        group.key = names
        for which in range(len(names)):
            channel = group.channels[which]
            group.places[which] = channel.listening_count
            channel.listening[channel.listening_count] = Listening(<void*>group, which)
            channel.listening_count += 1
        return group

    cdef void _close_group(self, Group group) noexcept:
        cdef Channel channel
        cdef Listening last
        cdef uint32_t which
        self.listened -= len(group.channels)
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

    cdef void _remove(self, Subscriber subscriber) noexcept:
        cdef Group group = subscriber.group
        cdef Subscriber last
        cdef Channel channel
        subscriber.state = CLOSED
        self._unpark(subscriber)
        self._weigh(subscriber, 0)
        last = <Subscriber>PyList_GET_ITEM(group.subscribers, PyList_GET_SIZE(group.subscribers) - 1)
        drop_last(group.subscribers)
        if last is not subscriber:
            group.subscribers[subscriber.place_in_group] = last
            last.place_in_group = subscriber.place_in_group
            # The one that moved may have moved behind the sweep: go round once more, the visited cost next to nothing.
            group.remaining = PyList_GET_SIZE(group.subscribers)
        last = <Subscriber>PyList_GET_ITEM(self._everyone, PyList_GET_SIZE(self._everyone) - 1)
        drop_last(self._everyone)
        if last is not subscriber:
            self._everyone[subscriber.place] = last
            last.place = subscriber.place
        for channel in group.channels:
            channel.subscribers -= 1
        if not group.subscribers:
            self._close_group(group)
        subscriber.sink = None

    cdef int _leave(self, Subscriber subscriber, reason, error) except -1:
        cdef Sink sink
        try:
            self._fire()
        finally:
            if subscriber.state != CLOSED:
                sink = subscriber.sink
                self._remove(subscriber)
                if reason is SLOW:
                    self.slow += 1
                self._tell_end(subscriber, sink, reason, error)
        return 0

    cdef int _tell_end(self, Subscriber subscriber, Sink sink, reason, error) except -1:
        try:
            sink.ended(reason, error)
        except MemoryError:         # it does not know, and would wait for ever: tell it again
            subscriber.sink, subscriber.untold = sink, reason
            self._behind.push(subscriber)
            raise
        return 0

    # ---- the drain --------------------------------------------------------------------------------------------------

    def drain(self, double now, long long budget_ns=4_000_000):
        """Take in what is new and hand it on, for about `budget_ns`. True: there is more to do, call again next turn, or
        after `rest`."""
        if self._draining:
            return True             # asked for from within a write: the one under way goes on
        cdef long long start = monotonic_ns()
        cdef long long deadline = start + budget_ns
        # Those who catch up never starve, and never take more than a quarter while others have news.
        cdef long long sweeps_end = deadline - (budget_ns // 4 if self._behind.first is not None else 0)
        self.index.take_in_some(4096)
        self._spread_news()
        self._draining = True
        try:
            self._hand_out(now, sweeps_end, deadline, budget_ns)
        finally:
            try:
                self._fire()
            finally:
                self._draining = False
                if not self._is_busy():     # or else the next one goes on with the same piece
                    self._shared = None
                    self._shared_group = None
        return self._is_busy() or self._deep.first is not None

    cdef bint _is_busy(self) noexcept:
        if self._untold() or self._news.first is not None or self._behind.first is not None:
            return True
        return self.index.log.load_head() != self.index._offset or self.index.owes()

    cdef bint _untold(self) noexcept:
        """Whether groups wait to be told that a channel of theirs got something, or that there is a hole."""
        return self._heard is not None or self.index.fresh.first is not None or self.index.tells_of_hole()

    cdef void _spread_news(self) noexcept:
        """Queue the groups of the channels that got something, so many of them a call.

        From a channel's last group to its first: who moves into the place of one that left was told before. One that
        comes meanwhile knows by itself.
        """
        cdef Py_ssize_t left = self._tell
        cdef Channel channel
        while left > 0:
            if self._heard is None:
                if self.index.fresh.first is None:
                    break
                channel = <Channel>self.index.fresh.pop()
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

    cdef uint64_t _newest_of(self, Group group) noexcept:
        """Position of the newest event of a group's channels, also where it was not told of it yet."""
        cdef Channel channel
        if self._untold():
            group.last_position = max(group.last_position, self.index._lapped)
            for channel in group.channels:
                group.last_position = max(group.last_position, channel.last_position)
        return group.last_position

    cdef void _queue(self, Group group, uint64_t position) noexcept:
        group.last_position = max(group.last_position, position)
        group.remaining = PyList_GET_SIZE(group.subscribers)
        self._news.push(group)

    cdef int _hand_out(self, double now, long long sweeps_end, long long deadline, long long budget_ns) except -1:
        """Sweep the groups that have news, then go on with those who are behind."""
        cdef Subscriber subscriber = None
        cdef long long begun
        while self._news.first is not None:
            if self._sweep(<Group>self._news.first, now, sweeps_end):
                self._news.pop()
                if monotonic_ns() >= sweeps_end:    # many small groups take as long as one large one
                    break
            else:
                self._news.push(self._news.pop())
                break
        begun = monotonic_ns()
        if self._news.first is None:        # whoever publishes needs the loop several times for one event
            deadline = min(deadline, begun + budget_ns // SLICES)
        try:
            while self._behind.first is not None:
                subscriber = <Subscriber>self._behind.pop()
                self._visit(subscriber, now)
                if monotonic_ns() >= deadline:
                    break
            if self._deep.first is None or begun < self._rest_until:
                return 0
            begun = monotonic_ns()
            deadline = begun + budget_ns // SLICES
            while True:
                subscriber = <Subscriber>self._deep.pop()
                self._visit(subscriber, now)
                if self._deep.first is None or monotonic_ns() >= deadline:
                    break
            self._fire()
            self._rest_until = monotonic_ns() + max(monotonic_ns() - begun, budget_ns // REST)
        except BaseException:
            self._behind.push(subscriber)
            raise
        return 0

    cdef void _catch_up_later(self, Subscriber subscriber) noexcept:
        if subscriber.catches_up:
            self._behind.push(subscriber)
        else:
            self._deep.push(subscriber)

    cdef bint _sweep(self, Group group, double now, long long deadline) except -1:
        """Visit who is left of this round. True: done; False: the time is up."""
        cdef Subscriber subscriber
        cdef unsigned int visits = 0
        try:
            while group.remaining > 0:
                if group.next >= PyList_GET_SIZE(group.subscribers):
                    group.next = 0
                    if not group.subscribers:
                        group.remaining = 0
                        break
                subscriber = <Subscriber>PyList_GET_ITEM(group.subscribers, group.next)
                group.next += 1
                group.remaining -= 1
                # Who stands in line to catch up is visited there.
                if subscriber.state == READY and subscriber.position < group.last_position and not subscriber.queued:
                    self._visit(subscriber, now)
                visits += 1
                if visits % LOOK_AT_CLOCK_EVERY == 0 and monotonic_ns() >= deadline:
                    break
        except BaseException:
            self._behind.push(subscriber)       # the sweep has passed it
            raise
        return group.remaining <= 0

    cdef int _visit(self, Subscriber subscriber, double now) except -1:
        """Hand a subscriber the next piece after its cursor. What can fail comes first; then the cursor moves."""
        cdef Group group = subscriber.group
        cdef Piece piece
        cdef Batch batch
        cdef bytes data
        if subscriber.in_volley:
            self._fire()
        if subscriber.untold is not None:
            sink, reason, subscriber.sink, subscriber.untold = subscriber.sink, subscriber.untold, None, None
            return self._tell_end(subscriber, sink, reason, None)
        if subscriber.state != READY or subscriber.finished:
            return 0
        if self._last_words is not None:
            return self._finish(subscriber, now)
        if self.index.lost_after(group.channels, subscriber.position):
            if not self._skip:
                return self._leave(subscriber, SLOW, None)
            self._skip_ahead(subscriber)
        if subscriber.must_tell:
            batch = self._gap(subscriber)
            if self._prepare(subscriber, batch):
                subscriber.must_tell = False
                self._behind.push(subscriber)
                self._hand_over(subscriber, batch, now)
            return 0
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
                    self._behind.push(subscriber)
                return 0
            batch = batch_of(data, piece.events)
            self._shared = batch
            self._shared_group = group
            self._shared_from = subscriber.position
            self._shared_newest = self.index.newest
            self._shared_piece = piece
        if self._prepare(subscriber, batch):
            subscriber.position = piece.end
            subscriber.at = piece.at
            if piece.more:
                subscriber.catches_up -= min(subscriber.catches_up, <uint32_t>len(batch.data))
                self._catch_up_later(subscriber)
            else:
                subscriber.catches_up = self._live_after
            self._hand_over(subscriber, batch, now)
        return 0

    cdef bint _prepare(self, Subscriber subscriber, Batch batch) except -1:
        """Do all that may fail before `_hand_over`. False: somebody who was told of an end has let it go, or parked it."""
        if (
            self._volley_batch is batch
            and subscriber.sink.takes_chunks
            and self._volley_size < VOLLEY
            and not subscriber.in_volley
        ):
            return True
        if self._volley_size:
            self._fire()
            if subscriber.state != READY:
                return False
        subscriber.sink.prepare(batch)
        return True

    cdef int _hand_over(self, Subscriber subscriber, Batch batch, double now) except -1:
        cdef int delivery
        cdef Sink sink = subscriber.sink    # held: the subscriber may leave within its own write
        if sink.takes_chunks:
            self._load(subscriber, (<SocketSink>sink).fd, batch, now)
            return 0
        try:
            delivery = sink.deliver(batch)
        except BaseException as error:
            # The cursor stands behind these bytes already, so whatever went wrong, it can't go on.
            if subscriber.state != CLOSED:
                self._leave(subscriber, ERROR, error if isinstance(error, Exception) else None)
            if not isinstance(error, (Exception, CancelledError)):
                raise
            return 0
        self._count_write(batch)
        subscriber.touched = now
        if delivery == BLOCKED:
            self._park(subscriber)
        return 0

    cdef void _count_write(self, Batch batch) noexcept:
        self.writes += 1
        self.deliveries += batch.events
        self.delivered_bytes += PyBytes_GET_SIZE(batch.data)

    cdef void _park(self, Subscriber subscriber) noexcept:
        if subscriber.state == READY:
            subscriber.state = PARKED
            subscriber.place_blocked = self._blocked_count
            self._blocked[self._blocked_count] = subscriber
            self._blocked_count += 1
            self._weigh(subscriber, subscriber.sink.held())

    cdef void _unpark(self, Subscriber subscriber) noexcept:
        cdef Subscriber last
        if subscriber.place_blocked < 0:
            return
        self._blocked_count -= 1
        last = self._blocked[self._blocked_count]
        self._blocked[subscriber.place_blocked] = last
        last.place_blocked = subscriber.place_blocked
        self._blocked[self._blocked_count] = None
        subscriber.place_blocked = -1

    cdef void _weigh(self, Subscriber subscriber, uint32_t held) noexcept:
        self.held += held
        self.held -= subscriber.held
        subscriber.held = held

    # ---- volleys ----------------------------------------------------------------------------------------------------

    cdef void _load(self, Subscriber subscriber, int fd, Batch batch, double now) noexcept:
        """Gather a socket that is to get this batch; `_prepare` has made room."""
        self._volley_batch = batch
        Py_INCREF(subscriber)
        self._volley[self._volley_size] = <PyObject*>subscriber
        self._volley_fds[self._volley_size] = fd
        self._volley_size += 1
        subscriber.in_volley = True
        subscriber.touched = now

    cdef int _fire(self) except -1:
        """Write the batch to all sockets that were gathered for it. Raises what `ended` raised, when all is done."""
        cdef int size = self._volley_size, gone = 0, i
        if size == 0:
            return 0
        cdef PyObject* subscribers[VOLLEY]
        cdef int fds[VOLLEY]
        cdef ssize_t results[VOLLEY]
        cdef Batch batch = self._volley_batch
        cdef bytes chunk = batch.chunk_()   # made before: see `prepare`
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
        for i in range(size):
            subscriber = <Subscriber>subscribers[i]
            subscriber.in_volley = False
            if subscriber.state != CLOSED and results[i] >= 0:
                self._count_write(batch)
                if results[i] < length:
                    try:
                        (<SocketSink>subscriber.sink).keep_rest(chunk, results[i])
                        self._park(subscriber)
                    except BaseException:
                        results[i] = -1     # the rest is gone, so it can't go on
            if results[i] < 0:
                gone += 1
            else:
                Py_DECREF(subscriber)
        # Last, when everybody's rest is kept: whoever is told of an end may write to any of the others.
        if gone:
            self._let_go(subscribers, results, size)
        return 0

    cdef int _let_go(self, PyObject** subscribers, const ssize_t* results, int size) except -1:
        """Those of a volley whose write failed."""
        cdef Subscriber subscriber
        cdef int i
        failed = None
        for i in range(size):
            if results[i] < 0:
                subscriber = <Subscriber>subscribers[i]
                Py_DECREF(subscriber)
                try:
                    self._leave(subscriber, CLIENT, None)
                except BaseException as error:
                    failed = error          # the others are told first
        if failed is not None:
            raise failed
        return 0

    # ---- the slow ---------------------------------------------------------------------------------------------------

    def expire(self, double now, double timeout):
        """Apply the policy to those that were blocked, and took nothing, for `timeout` seconds."""
        cdef Subscriber subscriber
        cdef Py_ssize_t at = 0
        # Who is told that it ends may let others go, or on; whoever is passed over by that is looked at next time.
        while at < self._blocked_count:
            subscriber = self._blocked[at]
            if now - subscriber.touched >= timeout:
                subscriber.touched = now
                self._time_out(subscriber)
            if at < self._blocked_count and self._blocked[at] is subscriber:
                at += 1             # else somebody else has come into its place

    cdef int _time_out(self, Subscriber subscriber) except -1:
        if subscriber.sink.moves():
            subscriber.timeouts = 0
            return 0
        subscriber.timeouts += 1
        if not self._skip or subscriber.timeouts >= TIMEOUTS_UNDER_SKIP:
            return self._leave(subscriber, SLOW, None)
        if subscriber.position < self._newest_of(subscriber.group):
            self._skip_ahead(subscriber)
        return 0

    def shed(self, uint64_t held, Py_ssize_t count, double now=0, double since=INFINITY):
        """Let at most `count` subscribers go, until they have given back so many bytes of kernel memory: those that have
        taken nothing for longest, and if nobody who is blocked has any, those that hold most. Who took bytes after
        `since` stays. Returns what is still owed, and how many went."""
        cdef Subscriber subscriber
        cdef Sink sink
        cdef Py_ssize_t at, ended = 0
        cdef bint anybody = False
        cdef list found = []
        for at in range(self._blocked_count):
            subscriber = self._blocked[at]
            sink = subscriber.sink
            if not (subscriber.held or sink.charge):
                continue
            anybody = True
            if subscriber.touched <= since and since < INFINITY and sink.moves():
                subscriber.touched = now
                subscriber.timeouts = 0
            if subscriber.touched <= since:
                found.append((-subscriber.timeouts, subscriber.touched, subscriber.place))
        if anybody:
            found = nsmallest(count, found)
        else:
            found = nlargest(count, [(subscriber.held, 0, subscriber.place) for subscriber in self._everyone if subscriber.held])
        for subscriber in [self._everyone[place] for _, _, place in found]:
            if held == 0:
                break
            if subscriber.state != CLOSED:      # who is told that it ends may let others go
                sink = subscriber.sink
                held -= min(held, subscriber.held or sink.charge)
                self._leave(subscriber, SLOW, None)
                ended += 1
        return held, ended

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
            if subscriber.state == READY:
                self._weigh(subscriber, subscriber.sink.held())    # it may not be read, and yet not be blocked
            if (
                subscriber.state == READY
                and not subscriber.finished
                and now - subscriber.touched >= idle
                and self._prepare(subscriber, heartbeat)
            ):
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
                if subscriber.state == READY and not subscriber.finished and self._prepare(subscriber, batch):
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
        if self._prepare(subscriber, self._last_words):
            subscriber.finished = True
            self._hand_over(subscriber, self._last_words, now)
        return 0

    def end_all(self, reason):
        """Let everybody go for one reason. Returns how many."""
        cdef Py_ssize_t ended = 0, everyone = PyList_GET_SIZE(self._everyone)
        failed = None
        while ended < everyone and self._everyone:
            ended += 1
            try:
                self._leave(self._everyone[PyList_GET_SIZE(self._everyone) - 1], reason, None)
            except BaseException as error:
                failed = error              # the others are let go first
        self._last_words = None
        if failed is not None:
            raise failed
        return everyone
