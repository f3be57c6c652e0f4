"""Who is blocked and since when, who has been silent, and who holds the kernel's memory.

What it keeps: the blocked subscribers, and what each was seen to hold, so that a look costs by how many are blocked, not
by how many there are.
What it drops, and who is told: nobody. It names those whose time is up; the drain lets them go, or tells them.

To park and to let go allocate nothing: room is made when a subscriber enters.
"""

from heapq import nlargest, nsmallest

cimport cython
from cpython.list cimport PyList_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t

from sse_fast._native.fanout.groups cimport PARKED, READY, Groups, Subscriber
from sse_fast._native.fanout.sinks cimport Sink


@cython.final
cdef class Deadlines:
    """Deadlines(groups): of the subscribers of one worker. Times are seconds on any steady clock."""

    def __cinit__(self, Groups groups not None):
        self._groups = groups
        self._blocked = []

    cdef int reserve(self) except -1:
        """Room for one more who may block."""
        if PyList_GET_SIZE(self._blocked) <= PyList_GET_SIZE(self._groups.everyone):
            self._blocked.append(None)
        return 0

    cdef void park(self, Subscriber subscriber) noexcept:
        if subscriber.state == READY:
            subscriber.state = PARKED
            subscriber.place_blocked = self.blocked
            self._blocked[self.blocked] = subscriber
            self.blocked += 1
            self.weigh(subscriber, subscriber.sink.held())

    cdef void unpark(self, Subscriber subscriber) noexcept:
        """It can go on, or has left."""
        cdef Subscriber last
        self.weigh(subscriber, 0)
        if subscriber.place_blocked < 0:
            return
        self.blocked -= 1
        last = self._blocked[self.blocked]
        self._blocked[subscriber.place_blocked] = last
        last.place_blocked = subscriber.place_blocked
        self._blocked[self.blocked] = None
        subscriber.place_blocked = -1

    cdef void weigh(self, Subscriber subscriber, uint32_t held) noexcept:
        self.held += held
        self.held -= subscriber.held
        subscriber.held = held

    cdef Subscriber silent(self, Py_ssize_t* looks, double now, double idle):
        """The next who can be written to and was not for `idle` seconds, round and round; None: `looks` are used up."""
        cdef list everyone = self._groups.everyone
        cdef Subscriber subscriber
        # From the last to the first: who moves into the place of one that left is the last, and was looked at.
        while looks[0] > 0 and everyone:
            looks[0] -= 1
            if not 0 < self._next <= PyList_GET_SIZE(everyone):
                self._next = PyList_GET_SIZE(everyone)
            self._next -= 1
            subscriber = everyone[self._next]
            if subscriber.state == READY:
                self.weigh(subscriber, subscriber.sink.held())    # it may not be read, and yet not be blocked
                if not subscriber.finished_ and now - subscriber.touched >= idle:
                    return subscriber
        return None

    cdef Subscriber overdue(self, Py_ssize_t* at, Subscriber last, double now, double timeout):
        """The next of the blocked, from number `at` on, who took nothing for `timeout` seconds; its time begins anew.
        `last`: who was named before; who has come into its place is not passed over."""
        cdef Subscriber subscriber
        while at[0] < self.blocked:
            subscriber = self._blocked[at[0]]
            if subscriber is not last and now - subscriber.touched >= timeout:
                subscriber.touched = now
                return subscriber
            at[0] += 1
        return None

    cdef list longest(self, Py_ssize_t count, Py_ssize_t looks):
        """At most `count` of the blocked, those first that have taken nothing for longest; of `looks` of them."""
        cdef Subscriber subscriber
        cdef Py_ssize_t at
        cdef list found = []
        for at in range(min(looks, self.blocked)):
            subscriber = self._blocked[at]
            found.append((subscriber.touched, at))
        return [self._blocked[at] for _, at in nsmallest(count, found)]

    cdef list owing(self, Py_ssize_t count, double now, double since):
        """At most `count` who hold kernel memory: those that have taken nothing for longest, and if nobody who is blocked
        holds any, those that hold most. Not who took bytes after `since`."""
        cdef Subscriber subscriber
        cdef Sink sink
        cdef Py_ssize_t at
        cdef bint anybody = False
        cdef list everyone = self._groups.everyone, found = []
        for at in range(self.blocked):
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
            found = nlargest(count, [(subscriber.held, 0, subscriber.place) for subscriber in everyone if subscriber.held])
        return [everyone[place] for _, _, place in found]
