"""Who listens to which set of channels, and the spreading of news over them.

What it keeps: subscribers who listen to the same set of channels, in the same form, are one *group*, swept together, and
what is new is told to groups, not to subscribers. To come and to leave cost the same however many others there are: the
last one moves into the place of one that leaves. A channel without subscribers is the index's alone.
What it drops: a group when its last subscriber leaves.
Who is told: nobody. It says which groups have news; the drain hands them out.

The spreading stops after `tell` groups a call: a channel may be listened to in a hundred thousand sets. To queue and to
let go allocate nothing.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.queue cimport Queue, drop_last
from sse_fast._native.fanout.forms cimport Envelopes
from sse_fast._native.log.channels cimport Channel, Listening
from sse_fast._native.log.index cimport Index
from sse_fast._native.log.patterns cimport Pattern
from sse_fast._native.log.selection cimport selection_of
from sse_fast._native.log.sources cimport Source

cdef enum:
    CHANNELS_A_LOOK = 16            # that are compared in the time of a look at a subscriber, about


@cython.final
cdef class Group:
    """The subscribers who listen to the same set of channels in the same form; they are swept together."""

    def __dealloc__(self):
        PyMem_RawFree(self.places)


@cython.final
cdef class Subscriber:
    """One stream: a cursor, and the sink its bytes leave by. Made by `FanOut.subscribe`."""

    @property
    def closed(self):
        return self.state == CLOSED

    @property
    def quiet(self):
        """Whether it gets events alone, and is told nothing else."""
        return self.began & QUIET != 0

    @quiet.setter
    def quiet(self, bint value):
        self.began = self.began | QUIET if value else self.began & ~QUIET

    @property
    def finished(self):
        """Whether it was told, by a `$closing`, that it ends."""
        return self.finished_ != 0

    @property
    def parked(self):
        """Whether it waits until it can be written to again, since `touched`, or has not begun."""
        return self.state == PARKED

    @property
    def native(self):
        """Whether it is written to by a socket, and not by an ASGI server."""
        return self.stepped == 0

    @property
    def lost(self):
        """Whether it began behind events that are gone."""
        return self.began & LOST != 0

    @property
    def enveloped(self):
        return self.group.enveloped

    @property
    def channels(self):
        cdef Channel channel
        return tuple([channel.name for channel in self.group.channels if not isinstance(channel, Pattern)])

    @property
    def patterns(self):
        cdef Channel channel
        return tuple([channel.name for channel in self.group.channels if isinstance(channel, Pattern) and channel.name])

    @property
    def source(self):
        """What it listens to by matchers; None: by none."""
        cdef Channel channel = <Channel>self.group.channels[len(self.group.channels) - 1]
        return (<Pattern>channel).source if isinstance(channel, Pattern) else None

    @property
    def until(self):
        """When it is going to be ended, in seconds since 1970; None: it has no end."""
        return self.until_ if self.ending != NEVER else None


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
cdef class Groups:
    """Groups(index, tell, look): all subscribers of one worker by what they listen to; one call tells `tell` groups of
    news, or has `look` links looked at for what a pattern had before."""

    def __cinit__(self, Index index not None, Py_ssize_t tell, Py_ssize_t look):
        self.index = index
        self.everyone = []
        self.news = Queue()
        self.envelopes = Envelopes()
        self._by_names = {}
        self._tell = tell
        self.look = look

    # ---- coming and going -------------------------------------------------------------------------------------------

    cdef Group open(self, tuple names, tuple patterns, bint enveloped, Source source=None):
        """The group of these channels and patterns, which are sorted, and of what has matchers. A new one has to be
        entered, or closed again."""
        cdef Group group
        cdef Channel channel
        cdef uint32_t which, named = <uint32_t>len(names), count = <uint32_t>(len(names) + len(patterns) + (source is not None))
        cdef bint solo = count == 1 and named and not enveloped
        cdef object key = (names, patterns) if patterns else names
        if source is not None:
            key = (source, names, patterns)
        if enveloped:
            key = ("enveloped", key)
        if solo:
            channel = self.index.channels.get(names[0])
            group = channel.solo if channel is not None else None
        else:
            group = self._by_names.get(key)
        if group is not None:
            return group
        group = Group.__new__(Group)
        group.subscribers = []
        group.enveloped = enveloped
        cdef list opened = [None] * count
        try:
            for which in range(count):
                if which < named:
                    channel = self.index.open_channel(names[which])
                elif which - named < <uint32_t>len(patterns):
                    channel = self.index.patterns.open(patterns[which - named], self.index.position)
                else:
                    channel = self.index.patterns.open_source(source, self.index.position)
                opened[which] = channel
                group.reserves = group.reserves or channel.reserve
                if channel.rule is not None:
                    group.conflates = group.conflates or channel.rule.conflates
                    group.hides = group.hides or channel.rule.keep or channel.rule.max_age
                group.last_position = max(group.last_position, channel.last_position)
            group.channels = tuple(opened)
            if patterns or source is not None:
                group.conflates, group.hides = self.index.rules.conflate, self.index.rules.hide
                group.reserves = len(self.index.reserves) > 0
                group.selection = selection_of(tuple(opened[:named]), tuple(opened[named:]), self.look)
            if not solo:
                group.places = <uint32_t*>PyMem_RawMalloc(count * sizeof(uint32_t))
                if group.places == NULL:
                    raise MemoryError
                for channel in group.channels:
                    make_room(channel)
                self._by_names[key] = group
        except BaseException:
            for channel in opened:
                if channel is not None:
                    self._release(channel)
            raise
        self.listened += count
        if solo:
            channel.solo = group
            return group
        group.key = key
        if enveloped:
            group.number = self.envelopes.begin()
        for which in range(count):
            channel = group.channels[which]
            group.places[which] = channel.listening_count
            channel.listening[channel.listening_count] = Listening(<void*>group, which)
            channel.listening_count += 1
        return group

    cdef void close_if_empty(self, Group group) noexcept:
        cdef Channel channel
        cdef Listening last
        cdef uint32_t which
        if group.subscribers:
            return
        self.listened -= len(group.channels)
        if group.key is None:
            channel = group.channels[0]
            channel.solo = None
        else:
            del self._by_names[group.key]
            if group.enveloped:
                self.envelopes.end()
            for which in range(len(group.channels)):
                channel = group.channels[which]
                channel.listening_count -= 1
                last = channel.listening[channel.listening_count]
                channel.listening[group.places[which]] = last
                (<Group>last.group).places[last.which] = group.places[which]
        for channel in group.channels:
            self._release(channel)

    cdef void _release(self, Channel channel) noexcept:
        if isinstance(channel, Pattern):
            self.index.patterns.release(<Pattern>channel)
        else:
            self.index.release_if_idle(channel)

    cdef int enter(self, Group group, Subscriber subscriber) except -1:
        """Who could not enter has changed nothing."""
        cdef Channel channel
        subscriber.place = PyList_GET_SIZE(self.everyone)
        self.everyone.append(subscriber)
        subscriber.place_in_group = PyList_GET_SIZE(group.subscribers)
        try:
            group.subscribers.append(subscriber)
        except BaseException:
            drop_last(self.everyone)
            raise
        subscriber.group = group
        group.remaining += 1        # a sweep under way passes the newcomer too, or it would miss the last of its round
        for channel in group.channels:
            channel.subscribers += 1
        return 0

    cdef void remove(self, Subscriber subscriber) noexcept:
        cdef Group group = subscriber.group
        cdef Subscriber last
        cdef Channel channel
        last = <Subscriber>PyList_GET_ITEM(group.subscribers, PyList_GET_SIZE(group.subscribers) - 1)
        drop_last(group.subscribers)
        if last is not subscriber:
            group.subscribers[subscriber.place_in_group] = last
            last.place_in_group = subscriber.place_in_group
            # The one that moved may have moved behind the sweep: go round once more, the visited cost next to nothing.
            group.remaining = PyList_GET_SIZE(group.subscribers)
        last = <Subscriber>PyList_GET_ITEM(self.everyone, PyList_GET_SIZE(self.everyone) - 1)
        drop_last(self.everyone)
        if last is not subscriber:
            self.everyone[subscriber.place] = last
            last.place = subscriber.place
        self.stepped -= subscriber.stepped
        for channel in group.channels:
            channel.subscribers -= 1
        self.close_if_empty(group)

    cdef list listening_to(self, bytes name):
        """The groups that listen to a channel."""
        cdef Channel channel = self.index.get(name)
        cdef list groups = [], channels = self.index.patterns.of(name)
        cdef uint32_t which
        if channel is not None:
            channels.append(channel)
        for channel in channels:
            for which in range(channel.listening_count):
                groups.append(<Group>channel.listening[which].group)
            if channel.solo is not None:
                groups.append(channel.solo)
        return groups if len(channels) < 2 else list(dict.fromkeys(groups))

    cdef list page(self, Py_ssize_t* before, Py_ssize_t limit, Py_ssize_t looks, object number, bytes channel, str user,
                   str address):
        """See `FanOut.page`. From the last to the first: who moves into the place of one that leaves was looked at, and
        nobody is passed over."""
        cdef list found = []
        cdef Subscriber subscriber
        cdef Channel wanted = None
        cdef Py_ssize_t at = PyList_GET_SIZE(self.everyone)
        cdef uint64_t its = number if number is not None else 0
        if 0 < before[0] < at:
            at = before[0]
        if channel is not None:
            wanted = self.index.get(channel)
            if wanted is None:
                at = 0
        while at > 0 and looks > 0 and limit > 0:
            at -= 1
            looks -= 1
            subscriber = <Subscriber>PyList_GET_ITEM(self.everyone, at)
            if number is not None and subscriber.number != its:
                continue
            if user is not None and user != subscriber.user:
                continue
            if address is not None and address != subscriber.address:
                continue
            if wanted is not None:
                looks -= PyTuple_GET_SIZE(subscriber.group.channels) // CHANNELS_A_LOOK
                if wanted not in subscriber.group.channels:
                    continue
            found.append(subscriber)
            limit -= 1
        before[0] = at
        return found

    # ---- news -------------------------------------------------------------------------------------------------------

    cdef bint untold(self) noexcept:
        """Whether groups wait to be told that a channel of theirs got something, or that there is a hole."""
        return self._heard is not None or self.index.fresh.first is not None or self.index.tells_of_hole()

    cdef void spread(self) noexcept:
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
                self._left = channel.listening_count
            channel = self._heard
            self._left = min(self._left, channel.listening_count)
            while self._left and left > 0:
                self._left -= 1
                left -= 1
                self.told += 1
                self._queue(<Group>channel.listening[self._left].group, channel.last_position)
            if not self._left:
                self._heard = None

    cdef void _queue(self, Group group, uint64_t position) noexcept:
        group.last_position = max(group.last_position, position)
        group.remaining = PyList_GET_SIZE(group.subscribers)
        self.news.push(group)

    cdef uint64_t newest_of(self, Group group) noexcept:
        """Position of the newest event of a group's channels, also where it was not told of it yet."""
        cdef Channel channel
        if self.untold():
            group.last_position = max(group.last_position, self.index._for_all)
            for channel in group.channels:
                group.last_position = max(group.last_position, channel.last_position)
        return group.last_position
