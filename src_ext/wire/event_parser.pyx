"""An event stream as it comes, in pieces of any size -> its events (WHATWG HTML, sections 9.2.5 and 9.2.6).

What it keeps: the same events, in the same order, wherever the stream is split, each there with the very byte that ends it.
An event larger than `max_event_size` ends the stream at the same place, however it came. What it drops: as the standard
says, an unfinished event at the end. How lines are told is the grammar's affair (grammar.pxd).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

from sse_fast._native.wire.carry cimport Carry, drop, keep, tidy
from sse_fast._native.wire.grammar cimport (
    BLANK, COMMENT, DATA, EVENT, ID, LINE, NO_MEMORY, RETRY, USED_UP, Line, Lines, Outcome, Reading, begin_lines,
    begin_read, is_event_stream, next_line,
)

import json
from collections import deque

from sse_fast.errors import EventTooLarge


cdef inline str text(const char* bytes, size_t length):
    return PyUnicode_DecodeUTF8(bytes, <Py_ssize_t>length, b"replace")


@cython.final
@cython.freelist(64)
cdef class ReceivedEvent:
    """An event as a browser would dispatch it (WHATWG HTML, section 9.2.6). A value: compared by its fields."""

    cdef readonly str data, event, id
    cdef readonly object retry

    __match_args__ = ("data", "event", "id", "retry")

    def __init__(self, str data not None, str event not None="message", str id not None="", retry=None):
        self.data, self.event, self.id, self.retry = data, event, id, retry

    def json(self):
        """The data, read as JSON. Raises ValueError where it is none."""
        return json.loads(self.data)

    def _fields(self):
        return (self.data, self.event, self.id, self.retry)

    def __eq__(self, other):
        return self._fields() == (<ReceivedEvent>other)._fields() if type(other) is ReceivedEvent else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __reduce__(self):
        return ReceivedEvent, self._fields()

    def __repr__(self):
        return f"ReceivedEvent(data={self.data!r}, event={self.event!r}, id={self.id!r}, retry={self.retry!r})"


@cython.final
cdef class EventParser:
    """The events of a stream that comes in pieces: `for event in parser.feed(piece)`. See event_parser.pyi."""

    cdef Lines lines
    cdef Reading reading
    cdef Carry data             # lines of data, each with an LF
    cdef bytes piece            # what `reading` reads
    cdef object pieces          # what was fed before that one was used up
    cdef str event, id_buffer
    cdef object on_comment, event_retry
    cdef readonly str last_event_id
    cdef readonly object retry
    cdef readonly size_t max_event_size
    cdef Outcome failed

    def __cinit__(self, *, size_t max_event_size=16 * 1024 * 1024, str last_event_id not None="", on_comment=None):
        begin_lines(&self.lines)
        self.max_event_size = max_event_size
        self.on_comment = on_comment
        self.event = ""
        self.id_buffer = self.last_event_id = last_event_id
        self.failed = LINE
        self.pieces = deque()
        self._take(b"")

    def __dealloc__(self):
        drop(&self.lines.unfinished)
        drop(&self.data)

    @staticmethod
    def reads(str content_type):
        """Whether a response of this Content-Type is an event stream: its parameters, charset too, mean nothing."""
        cdef bytes value = (content_type or "").encode(errors="replace")
        return is_event_stream(PyBytes_AS_STRING(value), <size_t>PyBytes_GET_SIZE(value))

    def feed(self, piece):
        """The next bytes of the stream, however many. Returns the parser, to be iterated."""
        cdef bytes given
        if type(piece) is bytes:
            given = <bytes>piece
        elif isinstance(piece, (bytes, bytearray, memoryview)):
            given = bytes(piece)
        else:
            raise TypeError(f"feed takes the bytes of a stream as they came, not {type(piece).__name__}")
        if self.reading.at == self.reading.end and not self.pieces:
            self._take(given)
        else:
            self.pieces.append(given)
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef Line line
        cdef Outcome outcome
        cdef ReceivedEvent made
        while True:
            outcome = self.failed
            if outcome == LINE:
                outcome = next_line(&self.lines, &self.reading, self.max_event_size, &line)
            if outcome == USED_UP:
                if not self.pieces:
                    raise StopIteration
                self._take(self.pieces.popleft())
            elif outcome != LINE:
                self.failed = outcome
                self._fail()
            elif line.field == DATA:
                if not keep(&self.data, line.value, line.length) or not keep(&self.data, b"\n", 1):
                    self.failed = NO_MEMORY
            else:
                try:
                    made = self._heed(&line)
                except MemoryError:
                    self.failed = NO_MEMORY     # the line is lost, and with it what it would have meant for others
                    raise
                if made is not None:
                    return made

    cdef ReceivedEvent _heed(self, Line* line):
        """The event that this line ends, or None."""
        cdef ReceivedEvent made
        if line.field == BLANK:
            made = self._dispatched() if self.data.length else None
            self.last_event_id = self.id_buffer     # now that nothing can fail: who resumes after it has got the event
            self.data.length = 0
            tidy(&self.data)
            self.event, self.event_retry = "", None
            return made
        if line.field == EVENT:
            self.event = text(line.value, line.length)
        elif line.field == ID:
            self.id_buffer = text(line.value, line.length)
        elif line.field == RETRY:
            self.retry = self.event_retry = line.milliseconds
        elif line.field == COMMENT and self.on_comment is not None:
            self.on_comment(text(line.value, line.length))
        return None

    cdef ReceivedEvent _dispatched(self):
        cdef ReceivedEvent made = ReceivedEvent.__new__(ReceivedEvent)
        made.data = text(self.data.bytes, self.data.length - 1)
        made.event = self.event or "message"
        made.id = self.id_buffer
        made.retry = self.event_retry
        return made

    cdef int _take(self, bytes piece) except -1:
        self.piece = piece
        begin_read(&self.reading, PyBytes_AS_STRING(piece), <size_t>PyBytes_GET_SIZE(piece))
        return 0

    cdef int _fail(self) except -1:
        if self.failed == NO_MEMORY:
            raise MemoryError("no memory for an event of the stream")
        raise EventTooLarge(
            f"an event of the stream is larger than max_event_size, {self.max_event_size:,} bytes; the stream cannot be "
            "read on"
        )
