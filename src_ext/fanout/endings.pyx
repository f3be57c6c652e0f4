"""Whose stream ends when: the subscribers that have an end, by their next moment.

What it keeps: a binary heap. A subscriber knows its place in it, so one that leaves is taken out at once, and what is kept
grows with the streams that are open, not with those that were. Its next moment is when it is told that its end is near,
and then the end.
What it drops: who leaves.
Who is told: nobody. It names who is due; the drain tells them, or ends them.

Times are seconds since 1970, those of a clock that may be set: a credential ends by that one. To take out and to put back
allocate nothing.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE

from sse_fast._native.base.queue cimport drop_last
from sse_fast._native.fanout.groups cimport EXPIRES, EXPIRES_SOON, Subscriber

cdef double NOTICE = 30.0           # seconds between the notice and the end, or half of the stream's time if that is less


cdef inline double moment(Subscriber subscriber) noexcept:
    if subscriber.ending != EXPIRES:
        return subscriber.until_
    return subscriber.until_ - min(NOTICE, max(0.0, subscriber.until_ - subscriber.opened) / 2)


@cython.final
cdef class Endings:
    """Of the subscribers of one worker."""

    def __cinit__(self):
        self._heap = []

    cdef int add(self, Subscriber subscriber) except -1:
        """Who could not be put in has changed nothing."""
        self._heap.append(subscriber)
        self._settle(PyList_GET_SIZE(self._heap) - 1, subscriber)
        return 0

    cdef void remove(self, Subscriber subscriber) noexcept:
        """Of one that is not in it: nothing happens."""
        cdef Py_ssize_t at = subscriber.place_ending
        cdef Subscriber last
        if at < 0:
            return
        subscriber.place_ending = -1
        last = <Subscriber>PyList_GET_ITEM(self._heap, PyList_GET_SIZE(self._heap) - 1)
        drop_last(self._heap)
        if last is not subscriber:
            self._settle(at, last)

    cdef Subscriber due(self, double wall):
        """The one that is due first, if it is; or None."""
        cdef Subscriber first
        if PyList_GET_SIZE(self._heap) == 0:
            return None
        first = <Subscriber>PyList_GET_ITEM(self._heap, 0)
        return first if moment(first) <= wall else None

    cdef void warned(self, Subscriber subscriber) noexcept:
        """It was told, or will be before anything else: its end is what comes next."""
        subscriber.ending = EXPIRES_SOON
        if subscriber.place_ending >= 0:
            self._settle(subscriber.place_ending, subscriber)

    cdef void put_off(self, Subscriber subscriber, double until) noexcept:
        """Its end is then, and nothing more is said of it."""
        subscriber.until_ = until
        if subscriber.ending == EXPIRES:
            subscriber.ending = EXPIRES_SOON
        if subscriber.place_ending >= 0:
            self._settle(subscriber.place_ending, subscriber)

    cdef void _put(self, Py_ssize_t at, Subscriber subscriber) noexcept:
        self._heap[at] = subscriber
        subscriber.place_ending = <int>at

    cdef void _settle(self, Py_ssize_t at, Subscriber subscriber) noexcept:
        """Put it where it belongs, from a place on that is free: up, or down."""
        cdef Py_ssize_t size = PyList_GET_SIZE(self._heap), below
        cdef double its = moment(subscriber)
        cdef Subscriber other
        while at > 0:
            other = <Subscriber>PyList_GET_ITEM(self._heap, (at - 1) >> 1)
            if moment(other) <= its:
                break
            self._put(at, other)
            at = (at - 1) >> 1
        while True:
            below = 2 * at + 1
            if below >= size:
                break
            other = <Subscriber>PyList_GET_ITEM(self._heap, below)
            if below + 1 < size and moment(<Subscriber>PyList_GET_ITEM(self._heap, below + 1)) < moment(other):
                below += 1
                other = <Subscriber>PyList_GET_ITEM(self._heap, below)
            if moment(other) >= its:
                break
            self._put(at, other)
            at = below
        self._put(at, subscriber)
