"""Handing over: one piece to one subscriber, or to many sockets in one loop without the GIL, and letting go.

What it keeps: sockets that are to get the same piece are gathered into a *volley*. One subscriber's pieces stay in order:
it stands in one volley at a time, and the rest of a short write is kept in the sink, whose subscriber is parked. Before
anything is called that may look at subscribers, the volley is fired.
What it drops: subscribers that cannot be written to.
Who is told: the sink of each that leaves, when the rest of all short writes is kept: it may write to any of the others.
One that could not be told, because memory had run out, is told again.
"""

from asyncio import CancelledError

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.base.clock cimport wall_clock_ms
from sse_fast._native.base.histogram cimport Histogram
from sse_fast._native.base.queue cimport Queue
from sse_fast._native.base.sockets cimport errno, passing, send_at_once
from sse_fast._native.fanout.deadlines cimport Deadlines
from sse_fast._native.fanout.endings cimport Endings
from sse_fast._native.fanout.groups cimport CLOSED, READY, Groups, Subscriber
from sse_fast._native.fanout.sinks cimport BLOCKED, Batch, Gzipped, Sink, SocketSink
from sse_fast.errors import EndReason

cdef object CLIENT = EndReason.CLIENT, ERROR = EndReason.ERROR      # to look one up allocates


@cython.final
cdef class Volley:
    """Volley(groups, deadlines, endings, again): a subscriber that does not take all is parked in `deadlines`; one that
    has to be told again that it has left is put into the queue `again`."""

    def __cinit__(self, Groups groups not None, Deadlines deadlines not None, Endings endings not None,
                  Queue again not None):
        self._groups, self._deadlines, self._endings, self._again = groups, deadlines, endings, again
        self.latency = Histogram()

    cdef bint prepare(self, Subscriber subscriber, Batch batch) except -1:
        """Do all that may fail before `hand_over`. False: somebody who was told of an end has let it go, or parked it."""
        if (
            self._batch is batch
            and subscriber.sink.takes_chunks
            and self._size < VOLLEY
            and not subscriber.in_volley
            and batch.has_chunk(subscriber.sink.gzipped)
        ):
            return True
        if self._size:
            self.fire()
            if subscriber.state != READY:
                return False
        subscriber.sink.prepare(batch)
        return True

    cdef int hand_over(self, Subscriber subscriber, Batch batch, double now) except -1:
        cdef int delivery
        cdef Sink sink = subscriber.sink    # held: the subscriber may leave within its own write
        if sink.takes_chunks:
            self._batch = batch
            Py_INCREF(subscriber)
            self._subscribers[self._size] = <PyObject*>subscriber
            self._fds[self._size] = (<SocketSink>sink).fd
            self._gzipped[self._size] = sink.gzipped
            self._size += 1
            subscriber.in_volley = True
            subscriber.touched = now
            return 0
        try:
            delivery = sink.deliver(batch)
        except BaseException as error:
            # The cursor stands behind these bytes already, so whatever went wrong, it can't go on.
            if subscriber.state != CLOSED:
                self.leave(subscriber, ERROR, error if isinstance(error, Exception) else None)
            if not isinstance(error, (Exception, CancelledError)):
                raise
            return 0
        if batch.published and not subscriber.stepped:
            self.now = wall_clock_ms()      # a socket that takes no chunks
        self._count(batch, sink.gzipped, 1)
        subscriber.touched = now
        if delivery == BLOCKED:
            self._deadlines.park(subscriber)
        return 0

    cdef int fire(self) except -1:
        """Write the batch to all sockets that were gathered for it. Raises what `ended` raised, when all is done."""
        cdef int size = self._size, gone = 0, i, form
        if size == 0:
            return 0
        cdef PyObject* subscribers[VOLLEY]
        cdef int fds[VOLLEY]
        cdef Py_ssize_t results[VOLLEY]
        cdef Batch batch = self._batch
        # Made before, in the forms that are wanted: see `Sink.prepare`.
        cdef Gzipped gzipped = batch._gzipped
        cdef bytes plain = batch._chunk, packed = gzipped._chunk if gzipped is not None else None
        cdef const char* data[2]
        cdef Py_ssize_t lengths[2]
        cdef uint64_t written[2]
        cdef unsigned char forms[VOLLEY]
        cdef Subscriber subscriber
        written[0] = written[1] = 0
        if plain is not None:
            data[0], lengths[0] = PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain)
        if packed is not None:
            data[1], lengths[1] = PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed)
        memcpy(subscribers, self._subscribers, size * sizeof(PyObject*))
        memcpy(fds, self._fds, size * sizeof(int))
        memcpy(forms, self._gzipped, size)
        self._size = 0
        self._batch = None
        for i in range(size):
            if (<Subscriber>subscribers[i]).state == CLOSED:
                fds[i] = -1         # it may be somebody else's by now
        with nogil:
            for i in range(size):
                form = forms[i]
                results[i] = send_at_once(fds[i], data[form], lengths[form])
                if results[i] < 0:
                    results[i] = 0 if passing(errno) else -1
        if batch.published:
            self.now = wall_clock_ms()
        for i in range(size):
            subscriber = <Subscriber>subscribers[i]
            subscriber.in_volley = False
            if subscriber.state != CLOSED and results[i] >= 0:
                form = forms[i]
                written[form] += 1
                if form:
                    subscriber.sink.count_in(gzipped)
                if results[i] < lengths[form]:
                    try:
                        (<SocketSink>subscriber.sink).keep_rest(packed if form else plain, results[i])
                        self._deadlines.park(subscriber)
                    except BaseException:
                        results[i] = -1     # the rest is gone, so it can't go on
            if results[i] < 0:
                gone += 1
            else:
                Py_DECREF(subscriber)
        for form in range(2):
            if written[form]:
                self._count(batch, form, written[form])
        if gone:
            self._let_go(subscribers, results, size)
        return 0

    cdef int _let_go(self, PyObject** subscribers, const Py_ssize_t* results, int size) except -1:
        """Those of a volley whose write failed."""
        cdef Subscriber subscriber
        cdef int i
        failed = None
        for i in range(size):
            if results[i] < 0:
                subscriber = <Subscriber>subscribers[i]
                Py_DECREF(subscriber)
                try:
                    self.leave(subscriber, CLIENT, None)
                except BaseException as error:
                    failed = error          # the others are told first
        if failed is not None:
            raise failed
        return 0

    cdef void _count(self, Batch batch, bint gzipped, uint64_t writes) noexcept:
        cdef uint64_t size = <uint64_t>PyBytes_GET_SIZE(batch.data)
        self.writes += writes
        self.deliveries += writes * batch.events
        if gzipped:
            self.uncompressed_bytes += writes * size
            size = <uint64_t>PyBytes_GET_SIZE(batch._gzipped.data)
            self.compressed_bytes += writes * size
        self.delivered_bytes += writes * size
        if batch.published:
            self.latency.add(1_000_000 * <uint64_t>max(self.now - <int64_t>batch.published, 0), writes * batch.events)

    # ---- letting go -------------------------------------------------------------------------------------------------

    cdef int leave(self, Subscriber subscriber, reason, error) except -1:
        """Let go of one, and tell it; of one that has left: nothing happens."""
        cdef Sink sink
        try:
            self.fire()
        finally:
            if subscriber.state != CLOSED:
                sink = subscriber.sink
                self.remove(subscriber)
                self._tell_end(subscriber, sink, reason, error)
        return 0

    cdef void remove(self, Subscriber subscriber) noexcept:
        subscriber.state = CLOSED
        self._deadlines.unpark(subscriber)
        self._endings.remove(subscriber)
        self._groups.remove(subscriber)
        subscriber.sink = None

    cdef int tell_again(self, Subscriber subscriber) except -1:
        sink, reason, subscriber.sink, subscriber.untold = subscriber.sink, subscriber.untold, None, None
        return self._tell_end(subscriber, sink, reason, None)

    cdef int _tell_end(self, Subscriber subscriber, Sink sink, reason, error) except -1:
        try:
            sink.ended(reason, error)
        except MemoryError:         # it does not know, and would wait for ever: tell it again
            subscriber.sink, subscriber.untold = sink, reason
            self._again.push(subscriber)
            raise
        return 0
