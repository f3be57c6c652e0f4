# POSTs whose header block is known, for C callers: a connection hands `take` what came, and gets back what is left.

from sse_fast._native.base.siphash cimport KEY
from sse_fast._native.wire.templates cimport TypedChannels


cdef enum:
    ROOM = 16384                    # bytes of answers that go out in one send


cdef class Known:                   # what is known of a header block
    cdef:
        bytes before, behind        # the answer's head, up to its Content-Length and from there to its date
        object allows               # whether a channel, by its name's bytes, may be published to; None: any may
        double until                # when what is known ends
        object publisher            # who sends it, for `admits`
        object form                 # publishes a body; None: it is of one event
        object request              # for who answers it in another way


cdef class Posts


cdef class Waiting:                 # a request whose event is on its way to an engine
    cdef:
        Posts posts
        object connection           # None: it has gone, or was answered
        Known known
        bytes channel
        object address

    cdef Posts _over(self)


cdef class Posts:
    cdef:
        object append, _hand_out
        public object later, failed
        Waiting waits               # of the request that `take` has just taken, if its answer comes later
        readonly Py_ssize_t waiting
        public object admits, undo
        public TypedChannels typed      # None: there are none
        bint news                   # something may have been published since it was handed out
        bytes start                 # "POST /publish/"
        Py_ssize_t limit            # bytes of an encoded event
        Py_ssize_t most
        dict known                  # digest of a header block, but for its length -> Known
        dict forms                  # the same, of forms
        public bytes form_line      # "POST /... HTTP/1.1\r\n"; empty: there are none
        public Py_ssize_t most_form
        unsigned char key[KEY]
        public bytes date
        public double now
        public bint enabled
        char room[ROOM]
        Py_ssize_t filled           # bytes of it
        readonly unsigned long long taken

    cdef Py_ssize_t take(self, const char* data, Py_ssize_t size, int* most, address, connection) except -1
    cdef bytes _digest(self, const char* block, Py_ssize_t size, Py_ssize_t* length)
    cdef int hand_out(self) except -1
    cdef Py_ssize_t _take_one(self, const char* data, Py_ssize_t size, address, connection) except -1
    cdef Py_ssize_t _take_form(self, const char* data, Py_ssize_t size) except -1
    cdef Py_ssize_t _take_event(self, const char* data, Py_ssize_t size, address, connection) except -1
    cdef bytes _channel(self, const char* name, Py_ssize_t length)
    cdef int _answer(self, Known known, str id) except -1
