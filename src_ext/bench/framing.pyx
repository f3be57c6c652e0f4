"""How an HTTP/1.1 response is framed, as the load client reads it (see framing.pxd).

What is wrong with a response is its `fault`, with an example of what was read; nothing is read on after that.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy, strlen

from sse_fast._native.base.linux cimport memmem
from sse_fast._native.base.text cimport same_letters
from sse_fast._native.bench.board cimport (
    BAD_CHUNK, BAD_HEAD, EXAMPLE_BYTES, NO_CONTENT, NO_FAULT, NOT_EVENT_STREAM, REDIRECT, STATUS,
)
from sse_fast._native.wire.carry cimport drop, keep
from sse_fast._native.wire.grammar cimport is_event_stream


cdef void begin_response(Framing* framing) noexcept nogil:
    framing.body = HEAD
    framing.head.length = 0


cdef void forget_response(Framing* framing) noexcept nogil:
    drop(&framing.head)


cdef void begin_answer(Answer* answer) noexcept nogil:
    answer.status = 0
    answer.fault = NO_FAULT
    answer.example_length = 0


cdef void blame(Answer* answer, const char* example, size_t length) noexcept nogil:
    """Copied: what was read may be gone before anybody asks."""
    answer.example_length = min(length, <size_t>EXAMPLE_BYTES)
    memcpy(answer.example, example, answer.example_length)


cdef const char* header(const char* head, const char* end, const char* name, size_t* length) noexcept nogil:
    """The first value of a header field, or NULL."""
    cdef size_t name_length = strlen(name)
    cdef const char* eol
    while True:
        head = <const char*>memchr(head, b"\n", end - head)
        if head == NULL:
            return NULL
        head += 1
        if <size_t>(end - head) > name_length and head[name_length] == b":" and same_letters(head, name, name_length):
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


cdef bint read_head(Framing* framing, Answer* answer, const char* head, const char* end) noexcept nogil:
    """A whole head, with its blank line: what the body is. False: it is no HTTP response."""
    cdef size_t length = 0, i
    cdef const char* value
    if end - head < 13 or memcmp(head, b"HTTP/1.", 7) != 0 or not (
        b"1" <= head[9] <= b"9" and b"0" <= head[10] <= b"9" and b"0" <= head[11] <= b"9"
    ):
        answer.fault = BAD_HEAD
        blame(answer, head, end - head)
        return False
    answer.status = (head[9] - 48) * 100 + (head[10] - 48) * 10 + head[11] - 48
    if answer.status < 200:
        answer.status = 0              # an interim response; the real one follows
        return True
    value = header(head, end, b"connection", &length)
    answer.closes = value != NULL and length == 5 and same_letters(value, b"close", 5)
    framing.body = PLAIN
    value = header(head, end, b"transfer-encoding", &length)
    if answer.status == 204 or answer.status == 304:
        framing.body = OVER
    elif value != NULL and length >= 7 and same_letters(value + length - 7, b"chunked", 7):
        framing.body = CHUNK_SIZE
        framing.left = 0
        framing.size_digits = 0
    else:
        value = header(head, end, b"content-length", &length)
        if value != NULL:
            framing.left = 0
            for i in range(min(length, 18)):
                if not b"0" <= value[i] <= b"9":
                    answer.fault = BAD_HEAD
                    blame(answer, value, length)
                    return False
                framing.left = framing.left * 10 + <uint64_t>(value[i] - 48)
            framing.body = LENGTH if framing.left else OVER
    return True


cdef void judge_head(Answer* answer, const char* head, const char* end) noexcept nogil:
    """Why this is not an event stream that a client would read."""
    cdef size_t length = 0
    cdef const char* value
    cdef const char* eol = <const char*>memchr(head, b"\r", end - head)
    if answer.status != 200:
        blame(answer, head, (eol if eol != NULL else end) - head)
    if answer.status == 204:
        answer.fault = NO_CONTENT
    elif 300 <= answer.status < 400:
        answer.fault = REDIRECT
    elif answer.status != 200:
        answer.fault = STATUS
    else:
        value = header(head, end, b"content-type", &length)
        if value == NULL or not is_event_stream(value, length):
            answer.fault = NOT_EVENT_STREAM
            if value != NULL:
                blame(answer, value, length)
            else:
                blame(answer, b"no Content-Type", 15)


cdef const char* take_head(
    Framing* framing, Answer* answer, const char* at, const char* end, bint events
) noexcept nogil:
    """Read on in the head. Where its rest begins; `end`, where more must come first."""
    cdef const char* text = at
    cdef const char* blank
    cdef size_t carried = framing.head.length, searched
    if carried:
        if not keep(&framing.head, at, end - at):
            answer.fault = BAD_HEAD
            return end
        text = framing.head.bytes
        end = text + framing.head.length
    searched = carried - 3 if carried > 3 else 0
    blank = <const char*>memmem(text + searched, end - text - searched, b"\r\n\r\n", 4)
    if blank == NULL:
        if (
            end - text > HEAD_BYTES or (end - text >= 5 and memcmp(text, b"HTTP/", 5) != 0)
            or (not carried and not keep(&framing.head, at, end - at))
        ):
            answer.fault = BAD_HEAD
            blame(answer, text, end - text)
        return at + (end - text) - carried
    blank += 4
    if read_head(framing, answer, text, blank) and answer.status and events:
        judge_head(answer, text, blank)
    at += (blank - text) - carried
    drop(&framing.head)
    return at


cdef const char* next_piece(
    Framing* framing, Answer* answer, const char* at, const char* end, const char** piece_end
) noexcept nogil:
    """Take framing until text is found, from the returned place to `piece_end`; both are `end` where there is none."""
    cdef char c
    cdef const char* eol
    cdef uint64_t length
    while at < end:
        if framing.body == PLAIN:
            piece_end[0] = end
            return at
        elif framing.body == CHUNK_DATA or framing.body == LENGTH:
            length = min(<uint64_t>(end - at), framing.left)
            framing.left -= length
            if framing.left == 0:
                framing.body = CHUNK_END if framing.body == CHUNK_DATA else OVER
            piece_end[0] = at + length
            return at
        elif framing.body == CHUNK_SIZE:
            c = at[0]
            at += 1
            if b"0" <= c <= b"9":
                framing.left = framing.left * 16 + <uint64_t>(c - 48)
            elif b"a" <= (c | 32) <= b"f":
                framing.left = framing.left * 16 + <uint64_t>((c | 32) - 87)
            elif framing.size_digits and (c == b";" or c == b"\r" or c == b" " or c == b"\t"):
                framing.body = CHUNK_EXTENSION
                continue
            else:
                return bad_chunk(answer, at - 1, end, piece_end)
            framing.size_digits += 1
            if framing.size_digits > 15:
                return bad_chunk(answer, at - 1, end, piece_end)
        elif framing.body == CHUNK_EXTENSION:
            eol = <const char*>memchr(at, b"\n", end - at)
            if eol == NULL:
                break
            at = eol + 1
            framing.size_digits = 0
            framing.line_is_empty = True
            framing.body = CHUNK_DATA if framing.left else TRAILER
        elif framing.body == CHUNK_END:
            c = at[0]
            at += 1
            if c == b"\n":
                framing.body = CHUNK_SIZE
            elif c != b"\r":
                return bad_chunk(answer, at - 1, end, piece_end)
        elif framing.body == TRAILER:
            c = at[0]
            at += 1
            if c == b"\n":
                if framing.line_is_empty:
                    framing.body = OVER
                framing.line_is_empty = True
            elif c != b"\r":
                framing.line_is_empty = False
        else:                           # OVER: what comes after the end is not read
            break
    piece_end[0] = end
    return end


cdef const char* bad_chunk(Answer* answer, const char* at, const char* end, const char** piece_end) noexcept nogil:
    answer.fault = BAD_CHUNK
    blame(answer, at, end - at)
    piece_end[0] = end
    return end


cdef bint skip_body(Framing* framing, Answer* answer, const char* data, size_t length) noexcept nogil:
    """Take what one read gave of a response of which only the status matters. True: it is whole."""
    cdef const char* at = data
    cdef const char* end = data + length
    cdef const char* piece_end
    begin_answer(answer)
    while framing.body == HEAD and at < end and answer.fault == NO_FAULT:
        at = take_head(framing, answer, at, end, False)
    while at < end and answer.fault == NO_FAULT:
        next_piece(framing, answer, at, end, &piece_end)
        at = piece_end
    return framing.body == OVER
