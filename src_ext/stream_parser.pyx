"""A client's side of an HTTP/1.1 event stream: head, chunks, lines, events, checked payloads (see stream_parser.pxd).

What it keeps: an event is whole when the blank line that ends it is read, and only then counts. Lines end in LF, CRLF or
CR, and anything may be split anywhere (WHATWG HTML, section 9.2.6; RFC 9112, section 7.1). What it drops: event types,
retry, comments; the load client has its own timing. Who is told: everything that is wrong is counted in the harvest; a
stream that cannot be read on has a `fault` there.

The fast path: tens of thousands of streams are sent the same bytes, so the harvest remembers which bytes it is the
result of. The next stream that stands at the same place and reads the same bytes takes it as it is.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen

from sse_fast._native.board cimport (
    BAD_CHUNK, BAD_HEAD, EVENT_TOO_LONG, NO_CONTENT, NO_FAULT, NOT_EVENT_STREAM, REDIRECT, STATUS, Fault,
)
from sse_fast._native.board import FAULTS

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_length, const void* needle, size_t needle_length)

cdef extern from "strings.h" nogil:
    int strncasecmp(const char* one, const char* other, size_t length)

globals().update(PAYLOAD_LEAST=<int>PAYLOAD_LEAST)

cdef enum:
    CARRY_LEAST = 1024
    CHECK_AT = 49               # where the checksum of a payload stands
    PADDING_AT = 57

cdef const char* DIGITS = "0123456789abcdef"


# ---- the payload ----------------------------------------------------------------------------------------------------

cdef inline uint64_t stir(uint64_t hash, const char* at, size_t length) noexcept nogil:
    """Words of 8 bytes, little-endian, the last one padded with zeros. Any single change of a word changes the result."""
    cdef uint64_t word
    while length:
        word = 0
        memcpy(&word, at, 8 if length >= 8 else length)
        hash = (hash ^ word) * <uint64_t>0xff51afd7ed558ccd
        hash ^= hash >> 32
        if length <= 8:
            break
        at += 8
        length -= 8
    return hash


cdef inline uint32_t checksum(const char* payload, uint32_t length) noexcept nogil:
    cdef uint64_t hash = stir(<uint64_t>0x9e3779b97f4a7c15 ^ length, payload, CHECK_AT)
    return <uint32_t>stir(hash, payload + PADDING_AT, length - PADDING_AT)


cdef inline uint32_t eight_digits(const char* at) noexcept nogil:
    """Eight hexadecimal digits in lower case. What is none gives nonsense, which the checksum finds."""
    cdef uint64_t x
    memcpy(&x, at, 8)
    x = (x & <uint64_t>0x0f0f0f0f0f0f0f0f) + 9 * ((x >> 6) & <uint64_t>0x0101010101010101)
    x = ((x << 4) | (x >> 8)) & <uint64_t>0x00ff00ff00ff00ff
    x = ((x << 8) | (x >> 16)) & <uint64_t>0x0000ffff0000ffff
    return <uint32_t>((x << 16) | (x >> 32))


cdef inline void hexadecimal(char* at, int digits, uint64_t value) noexcept nogil:
    while digits:
        digits -= 1
        at[digits] = DIGITS[value & 15]
        value >>= 4


cdef void write_payload(
    char* at, uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent
) noexcept nogil:
    cdef uint32_t i
    memcpy(at, b"sw1:00000000:000000:00:00000000:0000000000000000:00000000:", 58)
    hexadecimal(at + 4, 8, run)
    hexadecimal(at + 13, 6, channel)
    hexadecimal(at + 20, 2, publisher)
    hexadecimal(at + 23, 8, n)
    hexadecimal(at + 32, 16, sent)
    for i in range(58, length - 1):
        at[i] = <char>(97 + (i + n) % 26)
    at[length - 1] = b";"
    hexadecimal(at + CHECK_AT, 8, checksum(at, length))


cdef inline void take_payloads(Harvest* harvest, const char* at, const char* end) noexcept nogil:
    """All payloads in one line of data; whatever wraps them is passed over."""
    cdef const char* found
    cdef Payload* payload
    cdef uint32_t length = harvest.payload_bytes
    while end - at >= MARK_BYTES:
        if memcmp(at, harvest.mark, MARK_BYTES) != 0:
            found = <const char*>memmem(at, end - at, harvest.mark, MARK_BYTES)
            if found == NULL:
                if memmem(at, end - at, b"sw1:", 4) != NULL:
                    harvest.bad[<int>BAD_FOREIGN] += 1
                return
            at = found
        if (
            end - at < length or at[19] != b":" or at[22] != b":" or at[31] != b":" or at[48] != b":"
            or at[57] != b":" or at[length - 1] != b";" or harvest.pending == MOST_PAYLOADS
        ):
            harvest.bad[<int>BAD_TORN] += 1
            blame(harvest, at, end - at)
            at += MARK_BYTES
            continue
        if eight_digits(at + CHECK_AT) != checksum(at, length):
            harvest.bad[<int>BAD_CHECKSUM] += 1
            blame(harvest, at, end - at)
        else:
            payload = &harvest.payloads[harvest.pending]
            payload.channel = eight_digits(at + 11) & 0xffffff
            payload.publisher = eight_digits(at + 14) & 0xff
            payload.n = eight_digits(at + 23)
            payload.sent = <uint64_t>eight_digits(at + 32) << 32 | eight_digits(at + 40)
            harvest.pending += 1
        at += length


# ---- lines and events -----------------------------------------------------------------------------------------------

cdef inline void blame(Harvest* harvest, const char* example, size_t length) noexcept nogil:
    harvest.example = example
    harvest.example_length = length


cdef inline const char* line_end(const char* at, const char* end, bint only_line_feeds) noexcept nogil:
    if only_line_feeds:
        return <const char*>memchr(at, b"\n", end - at)
    while at < end:
        if at[0] == b"\n" or at[0] == b"\r":
            return at
        at += 1
    return NULL


cdef inline void take_id(Stream* stream, Harvest* harvest, const char* id, size_t length, bint strictly) noexcept nogil:
    """The event that ended had this id. Where ids have an order that can be known, they rise: strictly, where the event
    carried a payload. An order is known between ids that differ only in a decimal number at their end."""
    cdef uint64_t number = 0, scale = 1
    cdef size_t prefix = length
    if length > ID_BYTES or length == 0:
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
            blame(harvest, id, length)
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


cdef const char* take_events(Stream* stream, Harvest* harvest, const char* at, const char* end) noexcept nogil:
    """Take the whole events; where the unfinished one begins."""
    cdef const char* start
    cdef const char* eol
    cdef const char* next
    cdef const char* value
    cdef const char* id = NULL
    cdef size_t id_length = 0
    cdef bint has_data = False, only_line_feeds
    if at == end:
        return at
    if stream.fresh and end - at >= 3:
        stream.fresh = False
        if memcmp(at, b"\xef\xbb\xbf", 3) == 0:
            at += 3
    start = at
    only_line_feeds = memchr(at, b"\r", end - at) == NULL
    while at < end:
        eol = line_end(at, end, only_line_feeds)
        if eol == NULL:
            break
        next = eol + 1
        if eol[0] == b"\r" and next < end and next[0] == b"\n":
            next += 1
        if eol == at:
            if id != NULL:
                take_id(stream, harvest, id, id_length, harvest.pending > harvest.count)
            harvest.count = harvest.pending
            harvest.events += has_data
            id = NULL
            has_data = False
        elif eol - at >= 4 and memcmp(at, b"data", 4) == 0 and (eol - at == 4 or at[4] == b":"):
            has_data = True
            if eol - at > 5:
                take_payloads(harvest, at + 5 + (at[5] == b" "), eol)
        elif eol - at >= 2 and at[0] == b"i" and at[1] == b"d" and (eol - at == 2 or at[2] == b":"):
            value = at + 2 if eol - at == 2 else at + 3 + (eol - at > 3 and at[3] == b" ")
            if memchr(value, 0, eol - value) == NULL:
                id = value
                id_length = eol - value
        if not has_data and id == NULL:
            # An ended event, or lines that say nothing: never looked at again. Where the LF of a CRLF is in the next
            # read it is an empty line there, which between events says nothing either.
            start = next
        at = next
    harvest.pending = harvest.count
    return start


cdef bint keep(Stream* stream, Harvest* harvest, const char* data, size_t length, size_t most, Fault fault) noexcept nogil:
    """Add to what is carried over to the next read."""
    cdef size_t needed = stream.carried + length
    cdef char* carry
    if needed > most:
        harvest.fault = fault
        return False
    if needed > stream.carry_room:
        needed = max(2 * needed, <size_t>CARRY_LEAST)
        carry = <char*>realloc(stream.carry, needed)
        if carry == NULL:
            harvest.fault = fault
            return False
        stream.carry = carry
        stream.carry_room = <uint32_t>needed
    memmove(stream.carry + stream.carried, data, length)
    stream.carried += <uint32_t>length
    return True


cdef void take_text(Stream* stream, Harvest* harvest, const char* at, const char* end) noexcept nogil:
    """Text of the stream, free of framing."""
    cdef const char* rest
    if stream.carried == 0:
        rest = take_events(stream, harvest, at, end)
        if rest < end:
            keep(stream, harvest, rest, end - rest, EVENT_BYTES, EVENT_TOO_LONG)
    elif keep(stream, harvest, at, end - at, EVENT_BYTES + READ_BYTES, EVENT_TOO_LONG):
        end = stream.carry + stream.carried
        rest = take_events(stream, harvest, stream.carry, end)
        stream.carried = <uint32_t>(end - rest)
        if stream.carried > EVENT_BYTES:
            harvest.fault = EVENT_TOO_LONG
        memmove(stream.carry, rest, stream.carried)


# ---- HTTP -----------------------------------------------------------------------------------------------------------

cdef const char* header(const char* head, const char* end, const char* name, size_t* length) noexcept nogil:
    """The first value of a header field, or NULL."""
    cdef size_t name_length = strlen(name)
    cdef const char* eol
    while True:
        head = <const char*>memchr(head, b"\n", end - head)
        if head == NULL:
            return NULL
        head += 1
        if <size_t>(end - head) > name_length and head[name_length] == b":" and not strncasecmp(head, name, name_length):
            head += name_length + 1
            while head < end and (head[0] == b" " or head[0] == b"\t"):
                head += 1
            eol = <const char*>memchr(head, b"\n", end - head)
            if eol == NULL:
                eol = end
            while eol > head and ((eol - 1)[0] == b"\r" or (eol - 1)[0] == b" "):
                eol -= 1
            length[0] = eol - head
            return head


cdef bint read_head(Stream* stream, Harvest* harvest, const char* head, const char* end) noexcept nogil:
    """A whole head, with its blank line: what the body is. False: it is no HTTP response."""
    cdef size_t length = 0, i
    cdef const char* value
    if end - head < 13 or memcmp(head, b"HTTP/1.", 7) != 0 or not (
        b"1" <= head[9] <= b"9" and b"0" <= head[10] <= b"9" and b"0" <= head[11] <= b"9"
    ):
        harvest.fault = BAD_HEAD
        blame(harvest, head, end - head)
        return False
    harvest.status = (head[9] - 48) * 100 + (head[10] - 48) * 10 + head[11] - 48
    if harvest.status < 200:
        harvest.status = 0              # an interim response; the real one follows
        return True
    value = header(head, end, b"connection", &length)
    harvest.closes = value != NULL and length == 5 and not strncasecmp(value, b"close", 5)
    stream.body = PLAIN
    value = header(head, end, b"transfer-encoding", &length)
    if harvest.status == 204 or harvest.status == 304:
        stream.body = OVER
    elif value != NULL and length >= 7 and not strncasecmp(value + length - 7, b"chunked", 7):
        stream.body = CHUNK_SIZE
        stream.left = 0
        stream.size_digits = 0
    else:
        value = header(head, end, b"content-length", &length)
        if value != NULL:
            stream.left = 0
            for i in range(min(length, 18)):
                if not b"0" <= value[i] <= b"9":
                    harvest.fault = BAD_HEAD
                    blame(harvest, value, length)
                    return False
                stream.left = stream.left * 10 + <uint64_t>(value[i] - 48)
            stream.body = LENGTH if stream.left else OVER
    return True


cdef void judge_head(Harvest* harvest, const char* head, const char* end) noexcept nogil:
    """Why this is not an event stream that a client would read."""
    cdef size_t length = 0
    cdef const char* value
    cdef const char* eol = <const char*>memchr(head, b"\r", end - head)
    if harvest.status != 200:
        blame(harvest, head, (eol if eol != NULL else end) - head)
    if harvest.status == 204:
        harvest.fault = NO_CONTENT
    elif 300 <= harvest.status < 400:
        harvest.fault = REDIRECT
    elif harvest.status != 200:
        harvest.fault = STATUS
    else:
        value = header(head, end, b"content-type", &length)
        if value == NULL or length < 17 or strncasecmp(value, b"text/event-stream", 17) != 0:
            harvest.fault = NOT_EVENT_STREAM
            if value != NULL:
                blame(harvest, value, length)
            else:
                blame(harvest, b"no Content-Type", 15)


cdef const char* take_head(
    Stream* stream, Harvest* harvest, const char* at, const char* end, bint events
) noexcept nogil:
    """Read on in the head. Where its rest begins; `end`, where more must come first."""
    cdef const char* text = at
    cdef const char* blank
    cdef size_t carried = stream.carried
    if carried:
        if not keep(stream, harvest, at, end - at, HEAD_BYTES + READ_BYTES, BAD_HEAD):
            return end
        text = stream.carry
        end = text + stream.carried
    blank = <const char*>memmem(text, end - text, b"\r\n\r\n", 4)
    if blank == NULL:
        if end - text > HEAD_BYTES or (end - text >= 5 and memcmp(text, b"HTTP/", 5) != 0):
            harvest.fault = BAD_HEAD
            blame(harvest, text, end - text)
        elif not carried:
            keep(stream, harvest, at, end - at, HEAD_BYTES, BAD_HEAD)
        return at + (end - text) - carried
    blank += 4
    if read_head(stream, harvest, text, blank) and harvest.status and events:
        judge_head(harvest, text, blank)
    stream.carried = 0
    return at + (blank - text) - carried


cdef const char* next_piece(
    Stream* stream, Harvest* harvest, const char* at, const char* end, const char** piece_end
) noexcept nogil:
    """Take framing until text is found, from the returned place to `piece_end`; both are `end` where there is none."""
    cdef char c
    cdef const char* eol
    cdef uint64_t length
    while at < end:
        if stream.body == PLAIN:
            piece_end[0] = end
            return at
        elif stream.body == CHUNK_DATA or stream.body == LENGTH:
            length = min(<uint64_t>(end - at), stream.left)
            stream.left -= length
            if stream.left == 0:
                stream.body = CHUNK_END if stream.body == CHUNK_DATA else OVER
            piece_end[0] = at + length
            return at
        elif stream.body == CHUNK_SIZE:
            c = at[0]
            at += 1
            if b"0" <= c <= b"9":
                stream.left = stream.left * 16 + <uint64_t>(c - 48)
            elif b"a" <= (c | 32) <= b"f":
                stream.left = stream.left * 16 + <uint64_t>((c | 32) - 87)
            elif stream.size_digits and (c == b";" or c == b"\r" or c == b" " or c == b"\t"):
                stream.body = CHUNK_EXTENSION
                continue
            else:
                return bad_chunk(harvest, at - 1, end, piece_end)
            stream.size_digits += 1
            if stream.size_digits > 15:
                return bad_chunk(harvest, at - 1, end, piece_end)
        elif stream.body == CHUNK_EXTENSION:
            eol = <const char*>memchr(at, b"\n", end - at)
            if eol == NULL:
                break
            at = eol + 1
            stream.size_digits = 0
            stream.line_is_empty = True
            stream.body = CHUNK_DATA if stream.left else TRAILER
        elif stream.body == CHUNK_END:
            c = at[0]
            at += 1
            if c == b"\n":
                stream.body = CHUNK_SIZE
            elif c != b"\r":
                return bad_chunk(harvest, at - 1, end, piece_end)
        elif stream.body == TRAILER:
            c = at[0]
            at += 1
            if c == b"\n":
                if stream.line_is_empty:
                    stream.body = OVER
                stream.line_is_empty = True
            elif c != b"\r":
                stream.line_is_empty = False
        else:                           # OVER: what comes after the end is nobody's
            break
    piece_end[0] = end
    return end


cdef const char* bad_chunk(Harvest* harvest, const char* at, const char* end, const char** piece_end) noexcept nogil:
    harvest.fault = BAD_CHUNK
    blame(harvest, at, end - at)
    piece_end[0] = end
    return end


# ---- what the load client calls -------------------------------------------------------------------------------------

cdef void set_up(Harvest* harvest, uint32_t run, uint32_t payload_bytes) noexcept nogil:
    memset(harvest, 0, sizeof(Harvest))
    memcpy(harvest.mark, b"sw1:00000000:", MARK_BYTES)
    hexadecimal(harvest.mark + 4, 8, run)
    harvest.payload_bytes = payload_bytes
    harvest.fault = NO_FAULT


cdef void begin(Stream* stream, bint resumes) noexcept nogil:
    """A connection begins. `resumes`: it goes on after the last id of the one before."""
    stream.body = HEAD
    stream.carried = 0
    stream.fresh = True
    if not resumes:
        stream.id_length = 0


cdef void forget(Stream* stream) noexcept nogil:
    free(stream.carry)
    stream.carry = NULL
    stream.carried = stream.carry_room = 0


cdef inline bint clean(Stream* stream) noexcept nogil:
    """Between two events and two chunks, where the same bytes mean the same to every stream."""
    return (
        stream.carried == 0 and not stream.fresh
        and (stream.body == PLAIN or (stream.body == CHUNK_SIZE and stream.size_digits == 0))
    )


cdef void feed(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil:
    """Take what one read gave. What it found is in the harvest until the next call."""
    cdef const char* at = data
    cdef const char* end = data + length
    cdef const char* piece_end
    cdef uint8_t body = stream.body
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
    harvest.status = 0
    harvest.fault = NO_FAULT
    harvest.example = NULL
    harvest.memo_length = <uint32_t>length if worth_remembering and length <= MEMO_BYTES else 0
    while stream.body == HEAD and at < end:
        at = take_head(stream, harvest, at, end, True)
        if harvest.fault != NO_FAULT:
            return
    while at < end:
        at = next_piece(stream, harvest, at, end, &piece_end)
        if at < piece_end:
            take_text(stream, harvest, at, piece_end)
        if harvest.fault != NO_FAULT:
            harvest.memo_length = 0
            return
        at = piece_end
    if harvest.memo_length and harvest.example == NULL and stream.body == body and clean(stream):
        memcpy(harvest.memo, data, length)
        harvest.memo_body = body
        memcpy(harvest.memo_id, stream.id, ID_BYTES)
        harvest.memo_id_length = stream.id_length
        harvest.memo_id_prefix = stream.id_prefix
        harvest.memo_id_number = stream.id_number
    else:
        harvest.memo_length = 0


cdef bint skip_body(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil:
    """The same for an answer that is no event stream; only its status matters. True: it is whole."""
    cdef const char* at = data
    cdef const char* end = data + length
    cdef const char* piece_end
    harvest.status = 0
    harvest.fault = NO_FAULT
    harvest.example = NULL
    harvest.memo_length = 0
    while stream.body == HEAD and at < end and harvest.fault == NO_FAULT:
        at = take_head(stream, harvest, at, end, False)
    while at < end and harvest.fault == NO_FAULT:
        next_piece(stream, harvest, at, end, &piece_end)
        at = piece_end
    return stream.body == OVER


# ---- for Python -----------------------------------------------------------------------------------------------------

def payload(uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent):
    """A payload of so many bytes (at least 59), as the load client publishes it."""
    if length < PAYLOAD_LEAST:
        raise ValueError(f"a payload has at least {PAYLOAD_LEAST} bytes")
    text = PyBytes_FromStringAndSize(NULL, length)
    write_payload(PyBytes_AS_STRING(text), length, run, channel, publisher, n, sent)
    return text


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
        self.status = self.harvest.status or self.status
        self.events += self.harvest.events
        for place, name in enumerate(self.bad):
            self.bad[name] += self.harvest.bad[<int>place]
        return [
            (one.channel, one.publisher, one.n, one.sent) for one in self.harvest.payloads[: self.harvest.count]
        ]

    @property
    def fault(self):
        return None if self.harvest.fault == NO_FAULT else FAULTS[<int>self.harvest.fault]

    @property
    def last_id(self):
        return self.stream.id[: self.stream.id_length]

    @property
    def over(self):
        return self.stream.body == OVER
