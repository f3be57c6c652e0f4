"""The drain: how far each subscriber is, and the loop that hands everybody what is new.

What it keeps (laws 1 to 5 of the design): a subscriber is a cursor into the log. A drain *sweeps* each group that has
news: it visits the group's subscribers in turn, and hands each everything after its cursor as one contiguous piece.
What arrives while a sweep runs is taken in at its next slice, so those not visited yet get it in the same piece and the
sweep goes round once more for the others: under load, batching comes by itself and grows with the load. Subscribers
that stand at the same place share one piece of bytes.
What it drops: nothing, but what is superseded for who lags on a conflated channel. A subscriber that blocks is parked; sweeps pass over it, and its cursor stays. When it may go on
it catches up from the log, one bounded piece a turn, behind the others; and one that has a long way to go, in pieces
that leave the loop half of its time for everything else.
Who is told: a subscriber whose cursor falls behind what the log keeps either leaves (it resumes by id) or is skipped
ahead and told so by a `$gap` event in its stream; one whose credential ends is told so ahead of it, and leaves.

Memory may run out at any allocation. So whatever allocates comes before a cursor moves or a list is changed; to queue, to
park and to let go allocate nothing. A drain that raised is called again, and goes on where it stopped.

It knows sinks, but no socket, loop, task or ASGI server. What the log has for whom is `reading`'s to say, who listens to
what `groups`' to know, who takes too long `deadlines`', whose stream ends when `endings`', and writing to many sockets at
once is `volley`'s.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t

from sse_fast._native.base.clock cimport monotonic_ns, wall_clock_ms
from sse_fast._native.base.histogram cimport Histogram
from sse_fast._native.base.queue cimport Queue
from sse_fast._native.fanout.deadlines cimport Deadlines
from sse_fast._native.fanout.endings cimport Endings
from sse_fast._native.fanout.groups cimport (
    AGES,
    CLOSED,
    EXPIRES,
    GAP_OWED,
    HISTORY_OWED,
    LAGS,
    LOST,
    NOTICE_OWED,
    PARKED,
    QUIET,
    READY,
    Group,
    Groups,
    Subscriber,
    is_of_several,
)
from sse_fast._native.fanout.reading cimport FROM_EARLIEST, FROM_UNKNOWN, Reading
from sse_fast._native.fanout.sinks cimport Batch, Sink, SocketSink, batch_of
from sse_fast._native.fanout.volley cimport Volley
from sse_fast._native.log.index cimport Index, Piece, View
from sse_fast._native.log.ring cimport READ_OK, Log, Record
from sse_fast._native.log.selection cimport FOUND, NO_ROOM, UNDER_WAY, Search, number_after
from sse_fast._native.log.sources cimport Source
from sse_fast._native.wire.control cimport closing, expiring, gap
from sse_fast._native.wire.control import HEARTBEAT
from sse_fast._native.wire.envelope cimport enveloped as in_envelope
from sse_fast._native.wire.gzip cimport Deflater
from sse_fast.ends import ENDS
from sse_fast.errors import EndReason

cdef object SLOW = EndReason.SLOW, EXPIRED = EndReason.EXPIRED, AGE = EndReason.AGE     # to look one up allocates
cdef Batch BEAT = batch_of(HEARTBEAT, 0)    # these are made once, in all forms
cdef Batch EXPIRED_WORDS = batch_of(closing(ENDS[EXPIRED].told, ENDS[EXPIRED].retry), 0)
cdef Batch AGE_WORDS = batch_of(closing(ENDS[AGE].told, ENDS[AGE].retry), 0)
cdef double LAST_BYTES = 0.25       # seconds from a stream's last words to its end: a proxy may drop what comes with it

# Where a stream begins, beside a position: after nothing that is kept, or after an id that this log never gave.
EARLIEST, UNKNOWN = FROM_EARLIEST, FROM_UNKNOWN

TIMEOUTS_UNDER_SKIP = 4             # in a row

cdef enum:
    LOOK_AT_CLOCK_EVERY = 16        # visits; a visit that writes takes about a microsecond or more
    SLICES = 8                      # of a drain's budget: what it spends on catching up, where nobody has news
    REST = 4                        # of a drain's budget: the least that those with a long way to go rest then


cdef inline bint is_same(const View* one, const View* other) noexcept:
    return one.until == other.until and one.now == other.now and one.latest == other.latest


cdef class FanOut:
    """FanOut(log, *, skip=False, piece=32768): the subscribers of one worker.

    `skip`: what meets a subscriber that fell behind the log: False, it leaves; True, it is skipped ahead and told, and
    leaves when it has taken nothing for TIMEOUTS_UNDER_SKIP in a row: what waits for it is the machine's memory.
    `piece`: bytes handed over at once, the measure of what a blocked subscriber can hold; one event may exceed it.
    What one call does at most, beside its budget: `subscribe` takes in `take_in` records of the log (2 ms), `drain` tells
    `tell` groups of news (half a millisecond); of what the log evicted, the index drops `drop` events (1.5 ms).
    Who has caught up by `deep` bytes and is not there yet has a long way to go;
    who had everything before may catch up by two of the largest batches: those who append them wait for it.
    `unknown`: events, the newest, that a stream begins with after an id that this log never gave. `merge`, `matched`,
    `rules`, `keys`: see `Index`. `look`: links that a visit looks at for what a pattern had before (a millisecond).
    `compress`: bytes of a piece from which on it is deflated for sinks that take gzip.
    Times (`now`) are seconds on any steady clock, the same in all calls.
    """

    def __cinit__(self, Log log not None, *, bint skip=False, uint32_t piece=32768, Py_ssize_t remembered=65536,
                  Py_ssize_t take_in=16384, Py_ssize_t tell=4096, uint32_t deep=262144,
                  uint64_t unknown=10_000, Py_ssize_t drop=1024, uint64_t merge=16384, uint64_t matched=2097152,
                  Py_ssize_t look=4096, Py_ssize_t compress=256, rules=(), uint64_t keys=262144):
        self.index = Index(log, remembered=remembered, drop=drop, merge=merge, matched=matched, rules=rules, keys=keys)
        self._groups = Groups(self.index, tell, look)
        self._deadlines = Deadlines(self._groups)
        self._endings = Endings()
        self._behind = Queue()
        self._volley = Volley(self._groups, self._deadlines, self._endings, self._behind)
        self._deep = Queue()
        self._deflater = Deflater(compress)
        self._skip = skip
        self._reading = Reading(self.index, self._groups.envelopes, piece, unknown)
        self._take_in, self._deep_after = take_in, deep
        self._live_after = max(deep, 2 * log.largest_batch)
        self.drains = Histogram()
        self.lasts = Histogram()
        # Behind all of a fan-out that was here before, if none opened a million streams a second; as JSON it is exact.
        self._number = wall_clock_ms() * 1000

    @property
    def connections(self):
        """Subscribers that have not left."""
        return len(self._groups.everyone)

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
    def stepped(self):
        """Subscribers whose sinks are no sockets: whatever hands out has to run in a task's name (hub/stepper)."""
        return self._groups.stepped

    @property
    def blocked(self):
        """Subscribers that wait until they can write again."""
        return self._deadlines.blocked

    @property
    def held(self):
        """Bytes of kernel memory that wait for the clients of sockets, when last looked at."""
        return self._deadlines.held

    @property
    def listened(self):
        """Channels that are listened to; one of several sets of channels counts in each."""
        return self._groups.listened

    @property
    def patterns(self):
        """Patterns that are listened to, each once."""
        return self.index.patterns.count

    @property
    def told(self):
        """Groups that were told of news of a channel they share."""
        return self._groups.told

    @property
    def enveloped(self):
        """Events that were put into an envelope; again, if it was forgotten meanwhile."""
        return self._groups.envelopes.made

    @property
    def writes(self):
        return self._volley.writes

    @property
    def deliveries(self):
        """Events that were handed to subscribers; `delivered_bytes` are theirs, without the chunks' own."""
        return self._volley.deliveries

    @property
    def delivered_bytes(self):
        return self._volley.delivered_bytes

    @property
    def compressed_bytes(self):
        """Of `delivered_bytes` those of gzip streams; `uncompressed_bytes` is what they are of."""
        return self._volley.compressed_bytes

    @property
    def uncompressed_bytes(self):
        return self._volley.uncompressed_bytes

    @property
    def deflated(self):
        """Pieces that were deflated; again, if one was forgotten meanwhile."""
        return self._deflater.pieces

    @property
    def latency(self):
        """From the publish of an event, to the millisecond, to its write to each who had had everything before; of
        events that are written together that of the first counts."""
        return self._volley.latency

    @property
    def last(self):
        """As `latency`, but once for each event and each set of channels that is listened to: to the write to the last
        of its subscribers on this worker that could be written to."""
        return self.lasts

    # ---- coming and going -------------------------------------------------------------------------------------------

    def subscribe(self, channels, Sink sink not None, *, patterns=(), after=None, uint64_t history=0, bint enveloped=False,
                  since=None, until=None, bint aged=False, str user=None, str address not None="", bint kept=True,
                  Source source=None):
        """A new subscriber to `channels` and to those of `patterns` and of a `source` (at least one of them), parked until `unblock`.
        `enveloped`: its events come in envelopes.

        It begins after the position `after`: None is now, EARLIEST all that is kept, UNKNOWN the newest, as a gap; or
        before the newest `history` events that are kept. `position` then is where it stands and `lost` whether events
        between `after` and there are gone. Where the log is far ahead, its events that were not taken in yet are
        passed over by who begins now, and come in addition to a `history`; what is behind a fork (`epochs`) counts as
        kept, and does not come. `since`: a position of a moment ago, which is `now` to this subscriber: it gets what came
        after it, too, and `lost` says whether some of that is gone. With patterns, where the newest `history` events take
        long to find, `position` is the earliest until they are: who left before them resumes with more.

        `kept`: whether UNKNOWN is so, or now with a gap: nothing that was published before comes.

        `until`: seconds since 1970, when `end_due` ends it: because its credential does, of which it is told before, or
        because it is `aged` then. `user` and `address` say whose it is.
        """
        self.index.take_in_some(self._take_in)
        cdef uint64_t newest = self.index.position
        if self.index.unread:
            newest = max(newest, <uint64_t>self.index.log.position)
        names, wanted = tuple(sorted(set(channels))), tuple(sorted(set(patterns))) if patterns else ()
        if not (names or wanted or source is not None):
            raise ValueError("a subscriber names at least one channel or pattern")
        cdef long long begin = FROM_UNKNOWN      # also of a position that this log has not reached, however large
        if after is not None and after <= newest:
            begin = after
            if begin < FROM_UNKNOWN:
                raise ValueError(f"a stream begins after a position, EARLIEST or UNKNOWN, not after {begin}")
        cdef Subscriber subscriber = Subscriber.__new__(Subscriber)
        subscriber.place_ending = -1
        cdef bint anew = after is not None and begin == FROM_UNKNOWN and not kept
        if anew:
            after = None
        cdef Group group = self._groups.open(names, wanted, enveloped, source)
        subscriber.opened = wall_clock_ms() / 1000.0
        try:
            newest = newest if since is None else min(newest, since)
            # What came since then is news to it, whatever namespaces show of what was before.
            subscriber.told_after = min(newest, self.index.position)
            self._reading.begin(subscriber, group, after, begin, newest, history)
            if anew:
                subscriber.began |= LOST
            self._deadlines.reserve()
            subscriber.number = self._number + 1
            subscriber.user, subscriber.address = user, address
            if until is not None:
                subscriber.until_ = until
                subscriber.ending = AGES if aged else EXPIRES
                self._endings.add(subscriber)
            self._groups.enter(group, subscriber)
        except BaseException:
            self._endings.remove(subscriber)
            self._groups.close_if_empty(group)
            raise
        # It has entered; from here on nothing fails.
        if not group.hides and not subscriber.must_tell & HISTORY_OWED:
            subscriber.told_after = self.index.position
        self._number = subscriber.number
        if subscriber.began & LOST:
            self.gaps += 1
        subscriber.sink = sink
        subscriber.stepped = not isinstance(sink, SocketSink)
        self._groups.stepped += subscriber.stepped
        subscriber.state = PARKED
        subscriber.place_blocked = -1
        subscriber.catches_up = self._deep_after if subscriber.position < self._groups.newest_of(group) else self._live_after
        return subscriber

    def to_replay(self, names, *, patterns=(), after=None, uint64_t history=0, bint kept=True):
        """About how many bytes of kept events a subscriber would begin with, as `subscribe` has it: of each of these
        channels the number of its events, and the mean of its newest SAMPLED. Exact where they are no more. With
        patterns: of all channels, what is kept after the beginning, or so many of the newest events, however many match."""
        self.index.take_in_some(self._take_in)
        if not kept and after is not None and (after == FROM_UNKNOWN or after > self.index.position):
            return 0
        return self._reading.bytes_from(names, patterns, after, history)

    def id_at(self, uint64_t position):
        """The id, a publisher's if it has one, of the newest kept event that is not after a position; None: none is kept."""
        cdef uint64_t number = number_after(self.index, position)
        cdef uint64_t offset
        cdef Record record
        cdef bytes frame
        if number <= self.index._live:
            return None
        offset = self.index.entry(number - 1).offset
        if self.index.log.read_record(&offset, &record) != READ_OK:
            return None
        frame = PyBytes_FromStringAndSize(self.index.log.names_at(offset) + record.names_length, record.frame_length)
        if not self.index.log.still_holds(offset):
            return None
        return frame[frame.rfind(b"\n", 0, len(frame) - 2) + 5:len(frame) - 2].decode()

    def position_of_id(self, bytes id not None):
        """Position of the first kept event that has this publisher's id, or of the first of all; 0: it is unknown, or in
        what is still to be taken in of a log that is far ahead."""
        cdef uint64_t position = self.index.position_of_id(id)
        if not position and self.index.unread:
            self.index.take_in_some(self._take_in)
            position = self.index.position_of_id(id)
        return position

    def gone_until(self, Subscriber subscriber not None):
        """Of one that is `lost`, before anything was handed to it: the position up to which events may be gone that it has
        not seen. It may stand before that: some of its channels are shown from further back than others."""
        return self._reading.gone_until(subscriber)

    def unsubscribe(self, Subscriber subscriber not None):
        """Let a subscriber go; it is written to no more. Again: nothing happens."""
        self.let_go(subscriber)

    cdef void let_go(self, Subscriber subscriber) noexcept:
        if subscriber.state != CLOSED:
            self._volley.remove(subscriber)
        subscriber.sink = subscriber.untold = None

    def unblock(self, Subscriber subscriber not None, double now):
        """The subscriber may be written to (again). True if there is something for it: `drain` then."""
        if subscriber.state != PARKED:
            return False
        self._deadlines.unpark(subscriber)
        subscriber.state = READY
        subscriber.touched = now
        subscriber.timeouts = 0
        if subscriber.finished_:
            return False
        if subscriber.position < self._groups.newest_of(subscriber.group):
            subscriber.began |= LAGS
        elif self._last_words is None and not subscriber.must_tell:
            return False
        self._catch_up_later(subscriber)
        return True

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
        self._groups.spread()
        self._draining = True
        if self._groups.stepped:
            self._volley.now = wall_clock_ms()      # sockets look at it with each volley
        try:
            self._hand_out(now, sweeps_end, deadline, budget_ns)
        finally:
            try:
                self._volley.fire()
            finally:
                self._draining = False
                if not self._is_busy():     # or else the next one goes on with the same piece
                    self._shared = None
                    self._shared_group = None
                self.drains.add(monotonic_ns() - start, 1)
        return self._is_busy() or self._deep.first is not None

    cdef bint _is_busy(self) noexcept:
        if self._groups.untold() or self._groups.news.first is not None or self._behind.first is not None:
            return True
        return self.index.log.load_head() != self.index._offset or self.index.owes()

    cdef int _hand_out(self, double now, long long sweeps_end, long long deadline, long long budget_ns) except -1:
        """Sweep the groups that have news, then go on with those who are behind."""
        cdef Subscriber subscriber = None
        cdef long long begun
        self._sweeping = True
        while self._groups.news.first is not None:
            if self._sweep(<Group>self._groups.news.first, now, sweeps_end):
                self._groups.news.pop()
                if monotonic_ns() >= sweeps_end:    # many small groups take as long as one large one
                    break
            else:
                self._groups.news.push(self._groups.news.pop())
                break
        self._sweeping = False
        begun = monotonic_ns()
        if self._groups.news.first is None:        # a publisher needs the loop several times for one event
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
            self._volley.fire()
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
                if visits % LOOK_AT_CLOCK_EVERY == 0:
                    if self._groups.stepped:
                        self._volley.now = wall_clock_ms()
                    if monotonic_ns() >= deadline:
                        break
        except BaseException:
            self._behind.push(subscriber)       # the sweep has passed it
            raise
        if group.remaining > 0:
            return False
        if self._fresh and self._shared_group is group and self._shared.published:
            self._fresh = False
            self._volley.fire()
            if self._groups.stepped:
                self._volley.now = wall_clock_ms()
            self.lasts.add(
                1_000_000 * <uint64_t>max(self._volley.now - <int64_t>self._shared.published, 0), self._shared.events
            )
        return True

    cdef int _visit(self, Subscriber subscriber, double now) except -1:
        """Hand a subscriber the next piece after its cursor. What can fail comes first; then the cursor moves."""
        cdef Group group = subscriber.group
        cdef Piece piece
        cdef Batch batch
        cdef bytes data
        cdef unsigned char owed
        cdef View view
        cdef bint ruled
        if subscriber.in_volley:
            self._volley.fire()
        if subscriber.untold is not None:
            return self._volley.tell_again(subscriber)
        if subscriber.state != READY or subscriber.finished_:
            return 0
        if self._last_words is not None:
            return self._finish(subscriber, now)
        if subscriber.must_tell & HISTORY_OWED:
            return self._seek(subscriber)
        if self.index.evicted_after(subscriber.position) and self._reading.lost(group, subscriber):
            if self._reading.is_forgotten(group, subscriber.position):
                self._go_on_at(subscriber, self._reading.gone(group, subscriber.told_after))
            elif not self._skip:
                return self._leave_slow(subscriber)
            else:
                self._skip_ahead(subscriber)
        if subscriber.must_tell:
            owed = GAP_OWED if subscriber.must_tell & GAP_OWED else NOTICE_OWED
            if owed == GAP_OWED and subscriber.began & QUIET:
                return self._leave_slow(subscriber)     # it is told by the head of the next response
            batch = self._gap(subscriber) if owed == GAP_OWED else self._notice_of(subscriber)
            if self._volley.prepare(subscriber, batch):
                subscriber.must_tell &= ~owed
                if owed == GAP_OWED:
                    subscriber.at = 0
                self._behind.push(subscriber)
                self._volley.hand_over(subscriber, batch, now)
            return 0
        if subscriber.position >= group.last_position:
            return 0

        ruled = group.hides or group.conflates
        if ruled:
            view = self._reading.view_of(group, subscriber)
        if (
            self._shared_group is group
            and self._shared_from == subscriber.position
            and self._shared_newest == self.index.newest
            and (not ruled or is_same(&view, &self._shared_view))
        ):
            batch = self._shared
            piece = self._shared_piece
        else:
            data = self._reading.cut(group, subscriber, &piece, &view if ruled and (view.until or view.latest) else NULL)
            if data is None:
                if piece.more:              # they are looked for
                    self._moved(subscriber, &piece)
                    subscriber.catches_up = 0
                    self._catch_up_later(subscriber)
                elif piece.end:
                    subscriber.position = piece.end
                    subscriber.catches_up = self._live_after
                    subscriber.began &= ~LAGS
                else:
                    self._behind.push(subscriber)
                return 0
            batch = batch_of(data, piece.events)
            batch.deflater = self._deflater
            batch.apart = group.selection is not None or PyTuple_GET_SIZE(group.channels) > 1
            batch.quick = not self._sweeping
            self._fresh = self._sweeping
            if self._sweeping:
                batch.published = piece.milliseconds
            self._shared = batch
            self._shared_group = group
            self._shared_from = subscriber.position
            self._shared_newest = self.index.newest
            self._shared_piece = piece
            if ruled:
                self._shared_view = view
        if self._volley.prepare(subscriber, batch):
            self._moved(subscriber, &piece)
            subscriber.events += batch.events
            subscriber.bytes += PyBytes_GET_SIZE(batch.data)
            if piece.more:
                subscriber.catches_up -= min(subscriber.catches_up, piece.length)
                self._catch_up_later(subscriber)
            else:
                subscriber.catches_up = self._live_after
                subscriber.began &= ~LAGS
            self._volley.hand_over(subscriber, batch, now)
        return 0

    cdef void _moved(self, Subscriber subscriber, const Piece* piece) noexcept:
        """A piece was handed over, or looked through."""
        subscriber.position = piece.end
        if not piece.reserve or not is_of_several(subscriber.group):
            subscriber.at = piece.at

    cdef int _seek(self, Subscriber subscriber) except -1:
        """Go on looking for where its history begins."""
        cdef Search search = FOUND
        cdef uint64_t position = self._reading.history_of(subscriber, &search)
        if search == UNDER_WAY:
            subscriber.catches_up = 0
            self._catch_up_later(subscriber)
            return 0
        subscriber.must_tell &= ~HISTORY_OWED
        subscriber.told_after = subscriber.at
        subscriber.at = self._reading.gone_of(subscriber.group) if subscriber.group.reserves else 0
        if search == NO_ROOM:
            self._owe_gap(subscriber)
        subscriber.position = max(subscriber.position, position)
        subscriber.catches_up = self._deep_after
        self._behind.push(subscriber)
        return 0

    # ---- the slow ---------------------------------------------------------------------------------------------------

    def expire(self, double now, double timeout):
        """Apply the policy to those that were blocked, and took nothing, for `timeout` seconds."""
        cdef Subscriber subscriber = None
        cdef Py_ssize_t at = 0
        # A sink that is told of its end may end or resume others; one that is skipped by that is looked at next time.
        while True:
            subscriber = self._deadlines.overdue(&at, subscriber, now, timeout)
            if subscriber is None:
                return
            self._time_out(subscriber)

    cdef int _time_out(self, Subscriber subscriber) except -1:
        if subscriber.sink.moves():
            subscriber.timeouts = 0
            return 0
        subscriber.timeouts += 1
        if not self._skip or subscriber.timeouts >= TIMEOUTS_UNDER_SKIP:
            return self._leave_slow(subscriber)
        if subscriber.position < self._groups.newest_of(subscriber.group):
            self._skip_ahead(subscriber)
        return 0

    def shed(self, uint64_t held, Py_ssize_t count, double now=0, double since=INFINITY):
        """Let at most `count` subscribers go, until they have given back so many bytes of kernel memory: those that have
        taken nothing for longest, and if nobody who is blocked has any, those that hold most. Who took bytes after
        `since` stays. Returns what is still owed, and how many went."""
        cdef Subscriber subscriber
        cdef Sink sink
        cdef Py_ssize_t ended = 0
        for subscriber in self._deadlines.owing(count, now, since):
            if held == 0:
                break
            if subscriber.state != CLOSED:      # who is told that it ends may let others go
                sink = subscriber.sink
                held -= min(held, subscriber.held or sink.charge)
                self._leave_slow(subscriber)
                ended += 1
        return held, ended

    cdef int _leave_slow(self, Subscriber subscriber) except -1:
        try:
            self._volley.fire()
        finally:
            if subscriber.state != CLOSED:
                self.slow += 1
                self._volley.leave(subscriber, SLOW, None)
        return 0

    cdef int _skip_ahead(self, Subscriber subscriber) except -1:
        """Stand before the newest event."""
        cdef uint64_t position = self._reading.before_last(subscriber.group)
        if position <= subscriber.position:
            return 0                # it waits for the newest only: nothing to skip, no gap to tell
        self.slow += not subscriber.must_tell & GAP_OWED
        self._go_on_at(subscriber, position)
        return 0

    cdef void _go_on_at(self, Subscriber subscriber, uint64_t position) noexcept:
        """The next thing the subscriber gets is the news of the gap."""
        if subscriber.must_tell & HISTORY_OWED:
            subscriber.must_tell &= ~HISTORY_OWED
            subscriber.told_after = subscriber.at
        if not subscriber.must_tell & GAP_OWED:
            self._owe_gap(subscriber)
        subscriber.position = position

    cdef void _owe_gap(self, Subscriber subscriber) noexcept:
        subscriber.must_tell |= GAP_OWED
        subscriber.at = subscriber.position
        self.gaps += 1

    cdef Batch _gap(self, Subscriber subscriber):
        cdef Log log = self.index.log
        return batch_of(gap(log.event_id(subscriber.at), log.event_id(subscriber.position)), 0)

    # ---- said beside the log ----------------------------------------------------------------------------------------

    def beat(self, double now, double idle, Py_ssize_t count):
        """Look at the next `count` subscribers, round and round, and send a heartbeat to those silent for `idle`."""
        cdef Subscriber subscriber
        cdef Py_ssize_t looks = min(count, PyList_GET_SIZE(self._groups.everyone))
        while True:
            subscriber = self._deadlines.silent(&looks, now, idle)
            if subscriber is None:
                break
            if self._volley.prepare(subscriber, BEAT):
                self._volley.hand_over(subscriber, BEAT, now)
                self.heartbeats += 1
        self._volley.fire()

    def say(self, bytes channel not None, bytes frame not None, double now):
        """Hand a frame that is not in the log (it has no id) to the ready subscribers of a channel. Returns how many."""
        cdef Batch plain = batch_of(frame, 1), batch, inside = None
        cdef Group group
        cdef Subscriber subscriber
        cdef Py_ssize_t said = 0
        plain.deflater = self._deflater
        for group in self._groups.listening_to(channel):
            batch = plain
            if group.enveloped:
                if inside is None:
                    inside = batch_of(
                        in_envelope(PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), (channel,), wall_clock_ms()), 1
                    )
                    inside.deflater = self._deflater
                batch = inside
            for subscriber in list(group.subscribers):
                if subscriber.state == READY and not subscriber.finished_ and self._volley.prepare(subscriber, batch):
                    self._volley.hand_over(subscriber, batch, now)
                    said += 1
        self._volley.fire()
        return said

    def finish(self, bytes frame not None, double now, Py_ssize_t end, Py_ssize_t count):
        """Hand a frame, the last that a stream gets, to the ready ones among the `count` subscribers before number `end`.
        Returns where to go on, or 0. From the first call on, one that is unblocked gets it instead of events.

        From the last to the first, as heartbeats: nobody is passed over because another one leaves between two calls.
        """
        cdef Subscriber subscriber
        cdef Py_ssize_t start = max(0, end - count)
        if self._last_words is None:
            self._last_words = batch_of(frame, 0)
        for subscriber in self._groups.everyone[start:end]:
            if subscriber.state == READY and not subscriber.finished_:
                self._finish(subscriber, now)
        self._volley.fire()
        return start

    cdef int _finish(self, Subscriber subscriber, double now) except -1:
        cdef Batch words = BEAT if subscriber.began & QUIET else self._last_words
        if self._volley.prepare(subscriber, words):
            subscriber.finished_ = True
            self._volley.hand_over(subscriber, words, now)
        return 0

    # ---- ends of single ones ----------------------------------------------------------------------------------------

    def end_due(self, double wall, double now, Py_ssize_t count):
        """Tell those whose end is near, and those whose time has come, which end a moment later; at most `count` of them.
        `wall`: seconds since 1970. True: there are more."""
        cdef Subscriber subscriber
        self._wall = wall
        while True:
            subscriber = self._endings.due(wall)
            if subscriber is None or count <= 0:
                break
            count -= 1
            if subscriber.ending == EXPIRES and subscriber.until_ > wall:
                self._warn(subscriber, now)
            else:
                self._conclude(subscriber, now)
        self._volley.fire()
        return subscriber is not None

    cdef int _warn(self, Subscriber subscriber, double now) except -1:
        """One that is blocked is told when it can be written to again."""
        cdef Batch notice = self._notice_of(subscriber)
        if subscriber.state == READY and not subscriber.finished_ and self._volley.prepare(subscriber, notice):
            self._endings.warned(subscriber)
            self._volley.hand_over(subscriber, notice, now)
            return 0
        if subscriber.state == PARKED:
            subscriber.must_tell |= NOTICE_OWED
        self._endings.warned(subscriber)
        return 0

    cdef int _conclude(self, Subscriber subscriber, double now) except -1:
        """The last words, and a moment later the end. One that has them, or cannot be written to, ends at once."""
        cdef bint aged = subscriber.ending == AGES
        cdef Batch words = BEAT if subscriber.began & QUIET else AGE_WORDS if aged else EXPIRED_WORDS
        if subscriber.state == READY and not subscriber.finished_ and self._volley.prepare(subscriber, words):
            subscriber.finished_ = True
            self._endings.put_off(subscriber, self._wall + LAST_BYTES)
            return self._volley.hand_over(subscriber, words, now)
        return self._volley.leave(subscriber, AGE if aged else EXPIRED, None)

    cdef Batch _notice_of(self, Subscriber subscriber):
        cdef long long seconds = <long long>(max(0.0, subscriber.until_ - self._wall) + 0.5)
        if subscriber.began & QUIET:
            return BEAT
        if self._notice is None or self._notice_seconds != seconds:
            self._notice = batch_of(expiring(seconds), 0)
            self._notice_seconds = seconds
        return self._notice

    def end(self, Subscriber subscriber not None, reason):
        """Let one go for a reason, and tell it; of one that has left: nothing happens."""
        self._volley.leave(subscriber, reason, None)

    def end_all(self, reason):
        """Let everybody go for one reason. Returns how many."""
        cdef Py_ssize_t ended = 0, everyone = PyList_GET_SIZE(self._groups.everyone)
        failed = None
        while ended < everyone and self._groups.everyone:
            ended += 1
            try:
                self._volley.leave(self._groups.everyone[PyList_GET_SIZE(self._groups.everyone) - 1], reason, None)
            except BaseException as error:
                failed = error              # the others are let go first
        self._last_words = None
        if failed is not None:
            raise failed
        return everyone

    # ---- for those who look -----------------------------------------------------------------------------------------

    def page(self, Py_ssize_t before, Py_ssize_t limit, Py_ssize_t looks, *, number=None, bytes channel=None,
             str user=None, str address=None):
        """Subscribers of that number, channel, user and address, so far as they are given; at most `limit`, found in
        about `looks` looks, from place `before` on, 0: from the last. Returns them, and the place to go on from, or 0 if
        that was all. One that moved, because others left meanwhile, may be seen twice."""
        cdef list found = self._groups.page(&before, limit, looks, number, channel, user, address)
        return found, before

    def parked(self, Py_ssize_t limit, Py_ssize_t looks):
        """At most `limit` of those that wait until they can be written to again, who have waited longest first; of
        `looks` of them, if there are more."""
        return self._deadlines.longest(limit, looks)

    def lag(self, Subscriber subscriber not None):
        """Positions of the log between a subscriber and the newest event of its channels; other channels' are among them."""
        cdef uint64_t newest = self._groups.newest_of(subscriber.group)
        return newest - subscriber.position if newest > subscriber.position else 0
