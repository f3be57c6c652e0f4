"""A frame of the log -> the same event in an envelope, which says where and when it was published.

The law of this file: the enveloped frame has the fields of the one it was made of, its id, type and retry byte for byte,
but for its data: that is one line of JSON, out of which the event can be put together again as it was.

    data: {"channel":"news","event":"message","time":"2026-11-22T13:35:09.123Z","data":"hello"}

Where the event has its publisher's id, `at` is the server's own, and of a private event `private` is true.
`channel` is the first of the event's channels that the stream listens to. Where it listens to more of them, `channels`
has them all, in the event's order: never one that it does not listen to, which may be no business of its client's.
`event` is the type as a client has it. `data` is the text, whatever it is: a string carries any, and loses no digit of
JSON's numbers. A frame without data is no event to any client, and stays as it is; so does one whose type begins with
`$`: it speaks of the stream, whoever put it into the log. But a `$gap` in the log was published to channels, and is no
gap of whoever reads others; so its own data, which is an object, has their names and its time as further fields.

It is stateless, and knows no log, no stream.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from sse_fast._native.base.text cimport tm, utc_of
from sse_fast._native.wire.grammar cimport DATA, EVENT, Line, read_line

cdef enum:
    TIME_SIZE = 24  # of 2026-11-22T13:35:09.123Z

cdef uint64_t LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999: there are no others in RFC 3339


def envelope(bytes frame not None, channels, uint64_t milliseconds):
    """`enveloped`, of names of channels as the log has them. ValueError where there is none."""
    cdef tuple names = tuple(channels)
    if not names:
        raise ValueError("an event in an envelope has at least one channel")
    return enveloped(PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), names, milliseconds)


cdef bytes enveloped(const char* frame, Py_ssize_t size, tuple channels, uint64_t milliseconds, bytes further=None):
    """`frame`: whole, with lines that end in LF. `channels`: those of the event that the stream listens to, at least one.
    `milliseconds`: when it was published, since 1970. `further`: members of its JSON object, a comma before each."""
    cdef:
        const char* end = frame + size
        const char* at
        const char* eol
        const char* kind = b"message"
        Py_ssize_t kind_size = 7, around = 0, lines = 0, room
        bytes out
        char* to
        bint written = False
        Line line
    if further is None:
        further = b""
    # Check and measure first; then allocate once, and exactly.
    room = len(b'data: {"channel":,"event":"","time":"","data":""}\n') + TIME_SIZE + channels_size(channels)
    room += PyBytes_GET_SIZE(further)
    at = frame
    while at < end:
        eol = line_end(at, end)
        read_line(&line, at, eol - at)
        if line.field == DATA:
            room += json_size(line.value, line.length) + (2 if lines else 0)  # behind the line before, an escaped LF
            lines += 1
        else:
            around += min(eol + 1, end) - at
            if line.field == EVENT and line.length:
                kind, kind_size = line.value, line.length
        at = eol + 1
    if not lines or kind[0] == c"$":
        if lines == 1 and kind_size == 4 and memcmp(kind, b"$gap", 4) == 0:
            return published_gap(frame, size, channels, milliseconds)
        return PyBytes_FromStringAndSize(frame, size)
    out = PyBytes_FromStringAndSize(NULL, around + room + json_size(kind, kind_size))
    to = PyBytes_AS_STRING(out)
    at = frame
    while at < end:
        eol = line_end(at, end)
        read_line(&line, at, eol - at)
        if line.field != DATA:
            to = put(to, at, min(eol + 1, end) - at)
        elif not written:
            written = True
            to = put(to, b'data: {"channel":', 17)
            to = put_channels(to, channels)
            to = put(to, b',"event":"', 10)
            to = put_json(to, kind, kind_size)
            to = put(to, b'","time":"', 10)
            to = put_time(to, milliseconds)
            to = put(to, b'"', 1)
            to = put(to, PyBytes_AS_STRING(further), PyBytes_GET_SIZE(further))
            to = put(to, b',"data":"', 9)
            to = put_data(to, at, end)
            to = put(to, b'"}\n', 3)
        at = eol + 1
    assert to == PyBytes_AS_STRING(out) + PyBytes_GET_SIZE(out)
    return out


cdef bytes published_gap(const char* frame, Py_ssize_t size, tuple channels, uint64_t milliseconds):
    """With `channel`, `channels` and `time` behind what its data has."""
    cdef:
        const char* end = frame + size
        const char* at = frame
        const char* eol
        char* to
        bytes out
        Line line
    while True:
        eol = line_end(at, end)
        read_line(&line, at, eol - at)
        if line.field == DATA:
            break
        at = eol + 1
    if eol - at < 8 or (eol - 1)[0] != c"}" or (eol - 2)[0] == c"{":  # it is not as publications are encoded
        return PyBytes_FromStringAndSize(frame, size)
    out = PyBytes_FromStringAndSize(
        NULL, size + len(b',"channel":,"time":""') + TIME_SIZE + channels_size(channels)
    )
    to = put(PyBytes_AS_STRING(out), frame, eol - 1 - frame)
    to = put(to, b',"channel":', 11)
    to = put_channels(to, channels)
    to = put(to, b',"time":"', 9)
    to = put_time(to, milliseconds)
    to = put(to, b'"', 1)
    to = put(to, eol - 1, end - eol + 1)
    assert to == PyBytes_AS_STRING(out) + PyBytes_GET_SIZE(out)
    return out


cdef inline const char* line_end(const char* at, const char* end) noexcept nogil:
    cdef const char* eol = <const char*>memchr(at, b"\n", end - at)
    return eol if eol != NULL else end


cdef inline char* put(char* to, const char* text, Py_ssize_t size) noexcept nogil:
    memcpy(to, text, size)
    return to + size


cdef Py_ssize_t channels_size(tuple channels) except -1:
    cdef bytes name = channels[0]
    cdef Py_ssize_t size = quoted_size(name)
    if len(channels) > 1:
        size += len(b',"channels":[]') + len(channels) - 1
        for name in channels:
            size += quoted_size(name)
    return size


cdef char* put_channels(char* to, tuple channels):
    cdef bytes name = channels[0]
    cdef Py_ssize_t number
    to = put_quoted(to, name)
    if len(channels) > 1:
        to = put(to, b',"channels":', 12)
        for number in range(len(channels)):
            to = put(to, b"," if number else b"[", 1)
            name = channels[number]
            to = put_quoted(to, name)
        to = put(to, b"]", 1)
    return to


cdef inline Py_ssize_t quoted_size(bytes name) noexcept:
    return json_size(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) + 2


cdef char* put_quoted(char* to, bytes name) noexcept:
    to = put(to, b'"', 1)
    to = put_json(to, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return put(to, b'"', 1)


cdef char* put_data(char* to, const char* at, const char* end) noexcept nogil:
    """The data lines from `at` on, as a client puts them together."""
    cdef const char* eol
    cdef Line line
    cdef bint more = False
    while at < end:
        eol = line_end(at, end)
        read_line(&line, at, eol - at)
        if line.field == DATA:
            if more:
                to = put(to, b"\\n", 2)
            to = put_json(to, line.value, line.length)
            more = True
        at = eol + 1
    return to


cdef char* put_time(char* to, uint64_t milliseconds) noexcept nogil:
    """RFC 3339, section 5.6, in UTC: what `new Date` and `datetime.fromisoformat` read."""
    cdef tm parts
    milliseconds = min(milliseconds, LAST_MILLISECOND)
    utc_of(<int64_t>(milliseconds // 1000), &parts)
    to = put_digits(to, parts.tm_year + 1900, 4, c"-")
    to = put_digits(to, parts.tm_mon + 1, 2, c"-")
    to = put_digits(to, parts.tm_mday, 2, c"T")
    to = put_digits(to, parts.tm_hour, 2, c":")
    to = put_digits(to, parts.tm_min, 2, c":")
    to = put_digits(to, parts.tm_sec, 2, c".")
    return put_digits(to, <int>(milliseconds % 1000), 3, c"Z")


cdef inline char* put_digits(char* to, int number, int digits, char behind) noexcept nogil:
    cdef int at
    to[digits] = behind
    for at in range(digits - 1, -1, -1):
        to[at] = <char>(c"0" + number % 10)
        number //= 10
    return to + digits + 1


# Strings of JSON (RFC 8259, section 7): what must be escaped is, all else stands as it is, UTF-8.

cdef inline bint is_short(unsigned char c) noexcept nogil:
    return c == c'"' or c == c"\\" or c == c"\t" or c == c"\n" or c == c"\r"


cdef Py_ssize_t json_size(const char* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at, more = 0
    cdef unsigned char c
    for at in range(size):  # without a branch, so that compilers make vectors of it
        c = <unsigned char>text[at]
        more += is_short(c) + 5 * ((c < 0x20) & (not is_short(c)))
    return size + more


cdef char* put_json(char* to, const char* text, Py_ssize_t size) noexcept nogil:
    cdef const char* end = text + size
    cdef const char* begun = text
    cdef unsigned char c
    while text < end:
        c = <unsigned char>text[0]
        if c >= 0x20 and c != c'"' and c != c"\\":
            text += 1
            continue
        to = put(to, begun, text - begun)
        to[0] = c"\\"
        if is_short(c):
            to[1] = c"t" if c == c"\t" else c"n" if c == c"\n" else c"r" if c == c"\r" else <char>c
            to += 2
        else:
            to = put(to + 1, b"u00", 3)
            to[0] = c"1" if c >= 0x10 else c"0"
            to[1] = b"0123456789abcdef"[c & 15]
            to += 2
        text += 1
        begun = text
    return put(to, begun, text - begun)
