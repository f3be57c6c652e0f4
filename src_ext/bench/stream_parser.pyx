"""What the load client makes of an event stream: checked payloads of whole events (see stream_parser.pxd).

What it keeps: an event is whole when the blank line that ends it is read, and only then counts; how lines and events are
told is the grammar's affair (grammar.pxd). What it drops: event types, retry, comments; the load client has its own
timing. Who is told: everything that is wrong is counted in the harvest; a stream that cannot be read on has a `fault` there.

The fast path: tens of thousands of streams are sent the same bytes, so the harvest remembers which bytes it is the
result of. The next stream that stands at the same place and reads the same bytes takes it as it is.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from sse_fast._native.base.linux cimport memmem
from sse_fast._native.bench.board cimport EVENT_TOO_LONG, NO_FAULT
from sse_fast._native.bench.board import FAULTS
from sse_fast._native.wire.carry cimport drop
from sse_fast._native.bench.framing cimport (
    CHUNK_SIZE, HEAD, OVER, PLAIN, begin_answer, begin_response, blame, forget_response, next_piece, take_head,
)
from sse_fast._native.bench.payload cimport (
    MARK_BYTES, SCHEME, SCHEME_BYTES, Payload, is_framed, is_sound, read_payload, write_mark,
)
from sse_fast._native.wire.grammar cimport (
    BLANK, DATA, EVENT, ID, LINE, USED_UP, Line, Outcome, Reading, begin_lines, begin_read, next_line,
)

# ---- payloads -------------------------------------------------------------------------------------------------------

cdef inline void take_payloads(Harvest* harvest, const char* at, const char* end) noexcept nogil:
    """All payloads in one line of data; whatever wraps them is passed over."""
    cdef const char* found
    cdef uint32_t length = harvest.payload_bytes
    while end - at >= MARK_BYTES:
        if memcmp(at, harvest.mark, MARK_BYTES) != 0:
            found = <const char*>memmem(at, end - at, harvest.mark, MARK_BYTES)
            if found == NULL:
                if memmem(at, end - at, SCHEME, SCHEME_BYTES) != NULL:
                    harvest.bad[<int>BAD_FOREIGN] += 1
                return
            at = found
        if end - at < length or harvest.pending == MOST_PAYLOADS or not is_framed(at, length):
            harvest.bad[<int>BAD_TORN] += 1
            blame(&harvest.answer, at, end - at)
            at += MARK_BYTES
            continue
        if not is_sound(at, length):
            harvest.bad[<int>BAD_CHECKSUM] += 1
            blame(&harvest.answer, at, end - at)
        else:
            read_payload(at, &harvest.payloads[harvest.pending])
            harvest.pending += 1
        at += length


# ---- lines and events -----------------------------------------------------------------------------------------------

cdef inline void take_id(Stream* stream, Harvest* harvest, const char* id, size_t length, bint strictly) noexcept nogil:
    """The event that ended had this id. Where ids have an order that can be known, they rise: strictly, where the event
    carried a payload. An order is known between ids that differ only in a decimal number at their end."""
    cdef uint64_t number = 0, scale = 1
    cdef size_t prefix = length
    if length > ID_BYTES or length == 0:        # it resets the id, or is too long to be kept
        stream.id_length = 0
        harvest.memo_length = 0
        return
    while prefix and b"0" <= id[prefix - 1] <= b"9" and length - prefix < 19:
        prefix -= 1
        number += scale * <uint64_t>(id[prefix] - 48)
        scale *= 10
    if stream.id_length and stream.id_prefix == prefix and memcmp(stream.id, id, prefix) == 0:
        if number < stream.id_number or (number == stream.id_number and strictly):
            harvest.bad[<int>BAD_IDS] += 1
            blame(&harvest.answer, id, length)
    elif harvest.ids_seen:
        harvest.memo_length = 0     # one piece with ids of two kinds: not worth remembering
    if harvest.ids_seen == 0:
        harvest.first_id_prefix = <uint8_t>prefix
        harvest.first_id_number = number
    harvest.ids_seen += 1
    memcpy(stream.id, id, length)
    stream.id_length = <uint8_t>length
    stream.id_prefix = <uint8_t>prefix
    stream.id_number = number


cdef void take_closing(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil:
    """Why the server ends this stream: the caller tells it when the end comes."""
    stream.closing_length = <uint8_t>min(length, <size_t>CLOSING_BYTES)
    memcpy(stream.closing_data, data, stream.closing_length)
    harvest.memo_length = 0         # not even the same bytes may be passed over: the next stream has to be told, too


cdef void take_text(Stream* stream, Harvest* harvest, const char* at, size_t length) noexcept nogil:
    """Text of the stream, free of framing."""
    cdef Reading reading
    cdef Line line
    cdef Outcome outcome
    begin_read(&reading, at, length)
    while True:
        outcome = next_line(&stream.lines, &reading, EVENT_BYTES, &line)
        if outcome != LINE:
            break
        if line.field == DATA:
            harvest.has_data = True
            if stream.closing:
                take_closing(stream, harvest, line.value, line.length)
            take_payloads(harvest, line.value, line.value + line.length)
        elif line.field == ID:
            harvest.id, harvest.id_length = line.value, line.length
            if not at <= line.value < reading.end:      # a line that was left unfinished: the next one takes its place
                harvest.id_length = min(line.length, <size_t>sizeof(harvest.own_id))
                harvest.id = <const char*>memcpy(harvest.own_id, line.value, harvest.id_length)
        elif line.field == EVENT:
            stream.closing = line.length == 8 and memcmp(line.value, b"$closing", 8) == 0
        elif line.field == BLANK:
            stream.closing = False
            if stream.held != NULL and stream.held.count:
                take_back(stream, harvest)
            if harvest.id != NULL:
                take_id(stream, harvest, harvest.id, harvest.id_length, harvest.pending > harvest.count)
                harvest.id = NULL
            harvest.count = harvest.pending
            harvest.events += harvest.has_data
            harvest.has_data = False
    if outcome != USED_UP:
        harvest.answer.fault = EVENT_TOO_LONG


cdef bint hold(Stream* stream, Harvest* harvest) noexcept nogil:
    """The read ends within an event: what of it outlives the read. False: there is no memory for it."""
    cdef uint32_t new = harvest.pending - harvest.count
    cdef uint32_t needed, room
    cdef Held* held = stream.held
    if held == NULL or held.count + new > held.room:
        needed = new + (held.count if held != NULL else 0)
        room = max(2 * needed, <uint32_t>2)
        held = <Held*>realloc(held, sizeof(Held) + room * sizeof(Payload))
        if held == NULL:
            return False
        if stream.held == NULL:
            held.count = 0
        held.room = room
        held.payloads = <Payload*>(held + 1)
        stream.held = held
    memcpy(held.payloads + held.count, harvest.payloads + harvest.count, new * sizeof(Payload))
    held.count += new
    harvest.pending = harvest.count
    held.has_data, held.has_id = harvest.has_data, harvest.id != NULL
    if held.has_id:
        held.id_length = <uint8_t>min(harvest.id_length, <size_t>sizeof(held.id))
        memcpy(held.id, harvest.id, held.id_length)
    return True


cdef void take_back(Stream* stream, Harvest* harvest) noexcept nogil:
    """The payloads that came with earlier reads. Their event is the first that ends in this one, so there is room: all
    of them are no more than an event and a read hold."""
    cdef uint32_t held = stream.held.count
    memmove(harvest.payloads + held, harvest.payloads, harvest.pending * sizeof(Payload))
    memcpy(harvest.payloads, stream.held.payloads, held * sizeof(Payload))
    harvest.pending += held
    stream.held.count = 0


# ---- what the load client calls -------------------------------------------------------------------------------------

cdef void set_up(Harvest* harvest, uint32_t run, uint32_t payload_bytes) noexcept nogil:
    memset(harvest, 0, sizeof(Harvest))
    write_mark(harvest.mark, run)
    harvest.payload_bytes = payload_bytes
    begin_answer(&harvest.answer)


cdef void begin(Stream* stream, bint resumes) noexcept nogil:
    """A connection begins. `resumes`: it goes on after the last id of the one before."""
    begin_response(&stream.framing)
    begin_lines(&stream.lines)
    if stream.held != NULL:
        stream.held.count = 0
    stream.closing = stream.closing_length = 0
    if not resumes:
        stream.id_length = 0


cdef void forget(Stream* stream) noexcept nogil:
    forget_response(&stream.framing)
    drop(&stream.lines.unfinished)
    free(stream.held)
    stream.held = NULL


cdef inline bint within_event(Stream* stream) noexcept nogil:
    return stream.lines.size != 0


cdef inline bint clean(Stream* stream) noexcept nogil:
    """Between two events and two chunks, where the same bytes mean the same to every stream."""
    return (
        stream.lines.unfinished.length == 0 and stream.lines.size == 0 and stream.lines.begun
        and not stream.lines.after_cr
        and (stream.framing.body == PLAIN or (stream.framing.body == CHUNK_SIZE and stream.framing.size_digits == 0))
    )


cdef void feed(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil:
    """Take what one read gave. What it found is in the harvest until the next call."""
    cdef const char* at = data
    cdef const char* end = data + length
    cdef const char* piece_end
    cdef uint8_t body = stream.framing.body
    cdef bint worth_remembering = clean(stream)
    if (
        worth_remembering and length == harvest.memo_length and body == harvest.memo_body
        and memcmp(data, harvest.memo, length) == 0
    ):
        if harvest.ids_seen == 0:
            return
        if stream.id_length and stream.id_prefix == harvest.first_id_prefix and (
            memcmp(stream.id, harvest.memo_id, stream.id_prefix) == 0 and stream.id_number < harvest.first_id_number
        ):
            memcpy(stream.id, harvest.memo_id, ID_BYTES)
            stream.id_length = harvest.memo_id_length
            stream.id_prefix = harvest.memo_id_prefix
            stream.id_number = harvest.memo_id_number
            return
    harvest.count = harvest.pending = harvest.events = harvest.ids_seen = 0
    memset(harvest.bad, 0, sizeof(harvest.bad))
    begin_answer(&harvest.answer)
    harvest.has_data = False
    harvest.id = NULL
    if within_event(stream) and stream.held != NULL:
        harvest.has_data = stream.held.has_data
        if stream.held.has_id:
            harvest.id_length = stream.held.id_length
            harvest.id = <const char*>memcpy(harvest.own_id, stream.held.id, harvest.id_length)
    harvest.memo_length = <uint32_t>length if worth_remembering and length <= MEMO_BYTES else 0
    while stream.framing.body == HEAD and at < end:
        at = take_head(&stream.framing, &harvest.answer, at, end, True)
        if harvest.answer.fault != NO_FAULT:
            return
    while at < end:
        at = next_piece(&stream.framing, &harvest.answer, at, end, &piece_end)
        if at < piece_end:
            take_text(stream, harvest, at, piece_end - at)
        if harvest.answer.fault != NO_FAULT:
            harvest.memo_length = 0
            return
        at = piece_end
    if within_event(stream) and not hold(stream, harvest):
        harvest.answer.fault = EVENT_TOO_LONG
    if harvest.memo_length and harvest.answer.example_length == 0 and stream.framing.body == body and clean(stream):
        memcpy(harvest.memo, data, length)
        harvest.memo_body = body
        memcpy(harvest.memo_id, stream.id, ID_BYTES)
        harvest.memo_id_length = stream.id_length
        harvest.memo_id_prefix = stream.id_prefix
        harvest.memo_id_number = stream.id_number
    else:
        harvest.memo_length = 0


# ---- for Python -----------------------------------------------------------------------------------------------------

@cython.final
cdef class StreamParser:
    """One stream with a harvest of its own: what tests feed by hand."""

    cdef Stream stream
    cdef Harvest* harvest
    cdef readonly int status
    cdef readonly long events
    cdef readonly dict bad

    def __cinit__(self, uint32_t run, uint32_t payload_bytes):
        self.harvest = <Harvest*>calloc(1, sizeof(Harvest))
        if self.harvest == NULL:
            raise MemoryError
        set_up(self.harvest, run, payload_bytes)
        begin(&self.stream, False)
        self.bad = {"torn": 0, "checksum": 0, "ids_fell": 0, "foreign": 0}

    def __dealloc__(self):
        forget(&self.stream)
        free(self.harvest)

    def feed(self, bytes data):
        """The payloads of the events that these bytes made whole: (channel, publisher, n, sent)."""
        feed(&self.stream, self.harvest, PyBytes_AS_STRING(data), len(data))
        self.status = self.harvest.answer.status or self.status
        self.events += self.harvest.events
        for place, name in enumerate(self.bad):
            self.bad[name] += self.harvest.bad[<int>place]
        return [
            (one.channel, one.publisher, one.n, one.sent) for one in self.harvest.payloads[: self.harvest.count]
        ]

    @property
    def fault(self):
        return None if self.harvest.answer.fault == NO_FAULT else FAULTS[<int>self.harvest.answer.fault]

    @property
    def last_id(self):
        return self.stream.id[: self.stream.id_length]

    @property
    def over(self):
        return self.stream.framing.body == OVER
