"""Where a subscriber's bytes leave: what the fan-out hands over, and the ways it can go.

A `Sink` takes a `Batch`, as it is or as gzip, and says whether it can take more. `SteppedSink` calls an ASGI `send`; `SocketSink` is a socket
that the fan-out may write to itself, many of them in one loop without the GIL.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from sse_fast._native.base.sockets cimport errno, kernel_memory_of, look_in_flight, passing, send_at_once
from sse_fast._native.wire.gzip cimport check_of, ending, joined, shift_of, stored
from sse_fast._native.wire.gzip import HEAD

cdef extern from *:
    """
    #include <Python.h>
    /* One step of what an awaitable does. PYGEN_RETURN: it is finished. PYGEN_NEXT: it waits; *iterator has the rest. */
    static PySendResult step_awaitable(PyObject *awaitable, PyObject **iterator, PyObject **yielded) {
        PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
        *iterator = NULL;
        *yielded = NULL;
        if (PyCoro_CheckExact(awaitable)) {
            *iterator = Py_NewRef(awaitable);
        } else if (async != NULL && async->am_await != NULL) {
            *iterator = async->am_await(awaitable);
            if (*iterator == NULL) return PYGEN_ERROR;
        } else {
            PyErr_Format(PyExc_TypeError, "send() returned a '%.100s', which cannot be awaited",
                         Py_TYPE(awaitable)->tp_name);
            return PYGEN_ERROR;
        }
        return PyIter_Send(*iterator, Py_None, yielded);
    }
    """
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult step_awaitable(PyObject* awaitable, PyObject** iterator, PyObject** yielded) except PYGEN_ERROR


cdef dict message_of(bytes data):
    return {"type": "http.response.body", "body": data, "more_body": True}


cdef bytes chunk_of(bytes data):
    return b"%x\r\n%b\r\n" % (len(data), data)


@cython.final
cdef class Gzipped:
    """A batch in the form that gzip streams have, made once for all of them."""

    cdef message_(self):
        if self._message is None:
            self._message = message_of(self.data)
        return self._message

    cdef bytes chunk_(self):
        if self._chunk is None:
            self._chunk = chunk_of(self.data)
        return self._chunk


@cython.final
cdef class Batch:
    """Bytes that one or many subscribers are handed: whole frames of `events` events."""

    @property
    def message(self):
        """The ASGI message that carries the bytes; the same dict for everybody, so nobody may change it."""
        return self.message_()

    cdef message_(self):
        if self._message is None:
            self._message = message_of(self.data)
        return self._message

    cdef bytes chunk_(self):
        """The bytes as one chunk (RFC 9112, section 7.1); the same object for everybody."""
        if self._chunk is None:
            self._chunk = chunk_of(self.data)
        return self._chunk

    cdef Gzipped gzipped_(self):
        cdef Gzipped form
        if self._gzipped is None:
            form = Gzipped.__new__(Gzipped)
            if self.deflater is None:
                form.data = stored(self.data)
            else:
                form.data = self.deflater.deflated(self.data, self.apart, self.quick)
            form.size = <uint32_t>PyBytes_GET_SIZE(self.data)
            form.check, form.shift = check_of(self.data), shift_of(form.size)
            self._gzipped = form
        return self._gzipped

    cdef bint has_chunk(self, bint gzipped) noexcept:
        """Whether the chunk of a form is made."""
        if gzipped:
            return self._gzipped is not None and self._gzipped._chunk is not None
        return self._chunk is not None


cdef Batch batch_of(bytes data, uint32_t events):
    cdef Batch batch = Batch.__new__(Batch)
    batch.data = data
    batch.events = events
    return batch


cdef class Sink:
    """Where one subscriber's bytes leave. Override `write`, and `ended` to be told why the fan-out let it go."""

    cdef int prepare(self, Batch batch) except -1:
        """Make of the batch what `deliver` will need. What is raised here, unlike there, is not the sink's end."""
        if self.gzipped:
            batch.gzipped_()
        return 0

    cdef int deliver(self, Batch batch) except -1:
        cdef bytes data = batch.data
        if self.gzipped:
            self.count_in(batch.gzipped_())
            data = batch.gzipped_().data
        return WRITTEN if self.write(data) else BLOCKED

    cdef void count_in(self, Gzipped form) noexcept:
        self.check = joined(self.check, form.shift, form.check)
        self.size += form.size

    def gzip(self, bytes opening not None):
        """All that it is handed is gzip, from its beginning on. Returns the stream's first bytes, which have `opening`
        in them; they are the caller's to send."""
        first = HEAD + stored(opening)
        self.check, self.size = check_of(opening), <uint32_t>PyBytes_GET_SIZE(opening)
        self.gzipped = True
        return first

    def gzip_end(self, bytes words not None):
        """The last bytes of a gzip stream, with `words` in them and the check of all that it was handed."""
        cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(words)
        return stored(words) + ending(joined(self.check, shift_of(size), check_of(words)), self.size + size)

    cdef bint moves(self) except -1:
        """Whether a blocked one has been taking bytes since this was last asked, though not enough to go on."""
        return False

    cdef uint32_t held(self) noexcept:
        """Bytes of kernel memory that wait for its client; 0 where it cannot know."""
        return 0

    def write(self, data):
        """Take these bytes. True: they are out. False: taken, but take no more until `FanOut.unblock`. Raises: gone."""
        raise NotImplementedError

    def ended(self, reason, error):
        """The fan-out has let the subscriber go, for a reason of `EndReason`; `error` is what its write raised, if it did."""

    def close(self):
        """The subscriber has left by itself: let go of whoever was to be called."""


cdef class SteppedSink(Sink):
    """A sink over an ASGI `send`: calls it from the drain and steps what it returns once.

    Finished at the first step: the bytes are out. Suspended: `suspended` gets the rest; the subscriber is parked until
    somebody finishes it and calls `FanOut.unblock`. So a server's own back-pressure becomes the signal to park.
    """

    def __cinit__(self, send, *_):
        self.send = send

    cdef int prepare(self, Batch batch) except -1:
        if self.gzipped:
            batch.gzipped_().message_()
        elif batch._message is None:
            batch.message_()
        return 0

    cdef int deliver(self, Batch batch) except -1:
        cdef PyObject* iterator = NULL
        cdef PyObject* yielded = NULL
        cdef object awaitable
        if self.gzipped:
            self.count_in(batch.gzipped_())
            awaitable = self.send(batch.gzipped_().message_())
        else:
            awaitable = self.send(batch.message_())
        try:
            if step_awaitable(<PyObject*>awaitable, &iterator, &yielded) == PYGEN_RETURN:
                return WRITTEN
            self.suspended(<object>iterator, <object>yielded)
            return BLOCKED
        finally:
            Py_XDECREF(iterator)
            Py_XDECREF(yielded)

    def suspended(self, awaited, yielded):
        """Finish `awaited`, which has just yielded `yielded`, then call `FanOut.unblock`."""
        raise NotImplementedError


cdef class SocketSink(Sink):
    """A sink over a non-blocking socket. What it does not take at once is kept, shared with everybody else who was
    handed it, and is sent by `flush`; until that is done the subscriber is parked."""

    cdef int deliver(self, Batch batch) except -1:
        if self.gzipped:
            self.count_in(batch.gzipped_())
            return self.send_now(batch.gzipped_().data)
        return self.send_now(batch.data)

    cdef int send_now(self, bytes data) except -1:
        """Write what the socket takes and keep the rest. Raises OSError: the client is gone."""
        cdef Py_ssize_t taken = send_at_once(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if taken == PyBytes_GET_SIZE(data):
            return WRITTEN
        if taken < 0:
            if not passing(errno):
                raise ConnectionError(errno, "the client is gone")
            taken = 0
        self.keep_rest(data, taken)
        return BLOCKED

    cdef int keep_rest(self, bytes data, Py_ssize_t taken) except -1:
        """`data` was to be written, and `taken` bytes of it were. Override: ask to be told when the socket is writable."""
        self.rest = data
        self.rest_at = taken
        self.moves()
        return 0

    cdef bint moves(self) except -1:
        """A socket is writable again only when a third of a buffer of megabytes is free; a slow line needs minutes for
        that. So look at what is in flight."""
        cdef int before = self.in_flight
        if look_in_flight(self.fd, &self.in_flight) < 0:
            return False
        return self.in_flight != before

    cdef uint32_t held(self) noexcept:
        # The kernel's own structures included: of small writes they are most of it.
        return kernel_memory_of(self.fd)

    cdef int flush(self) except -1:
        """Go on with what is kept. Raises OSError: the client is gone."""
        cdef Py_ssize_t taken
        if self.rest is None:
            return WRITTEN
        taken = send_at_once(
            self.fd, PyBytes_AS_STRING(self.rest) + self.rest_at, PyBytes_GET_SIZE(self.rest) - self.rest_at
        )
        if taken < 0:
            if not passing(errno):
                raise ConnectionError(errno, "the client is gone")
            return BLOCKED
        self.rest_at += taken
        if self.rest_at < PyBytes_GET_SIZE(self.rest):
            return BLOCKED
        self.rest = None
        return WRITTEN
