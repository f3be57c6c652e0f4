"""Fields of an event -> bytes of `text/event-stream`.

The law of this file: what `encode` returns, a client that keeps the standard parses back into exactly the fields
that went in, and into nothing else; what cannot be carried so is refused, and nothing is returned. It is stateless, and
knows no socket, no loop, no log.

The standard (WHATWG HTML, 9.2.5), of which only the left-most choices are ever written:

    event         = *( comment / field ) end-of-line
    comment       = colon *any-char end-of-line
    field         = 1*name-char [ colon [ space ] *any-char ] end-of-line
    end-of-line   = LF                    ; CR and CRLF are legal, but some clients split only at LF LF
    any-char      = %x0000-0009 / %x000B-000C / %x000E-10FFFF      ; not LF, not CR

A parser ends a line at CRLF, CR or LF and at nothing else: VT, FF, U+0085, U+2028 are data, which is why
`str.splitlines` has no place here. It takes one space away after the colon, so one is always put there before text.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Check, PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_Check, PyList_GET_SIZE
from cpython.object cimport PyObject, PyObject_HasAttr, PyTypeObject, Py_TYPE
from cpython.tuple cimport PyTuple_GET_SIZE
from cpython.unicode cimport (
    PyUnicode_Check, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH, PyUnicode_READ_CHAR,
)
from libc.math cimport isfinite
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcpy

from dataclasses import fields
from datetime import date, datetime, time
from enum import EnumType
from uuid import UUID

import orjson

from sse_fast.datastar import fields_of as fields_of_function
from sse_fast.errors import InvalidEvent, MistypedEvent
from sse_fast.serialization import attributes as attributes_function, json_of as json_of_function

cdef extern from "Python.h":
    # Public since 3.3. No copy for ASCII; for other text the str keeps the UTF-8 form, so encoding it again is free.
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    bint PyLong_Check(object value)
    bint PyBool_Check(object value)
    bint PyType_HasFeature(PyTypeObject* kind, unsigned long features)
    unsigned long TEXT_OR_INT "(Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_LONG_SUBCLASS)"
    PyObject* _PyType_Lookup(PyTypeObject* kind, object name)  # borrowed; NULL where there is none, and no error
    PyObject* PyList_GET_ITEM(object value, Py_ssize_t at)  # borrowed, as is what follows
    PyObject* PyTuple_GET_ITEM(object value, Py_ssize_t at)

cdef object dumps = orjson.dumps
cdef object fields_of = fields_of_function
cdef object json_of = json_of_function
cdef object attributes = attributes_function
cdef object BEYOND_ORJSON = 1 << 64  # refused at once, where raising an error would cost a microsecond
cdef object DATACLASSES_BY_US = orjson.OPT_PASSTHROUGH_DATACLASS
cdef frozenset WRITTEN_BY_ORJSON = frozenset((datetime, date, time, UUID))
cdef object NO_DATA = object()  # None is taken: it is JSON null


cdef struct Text:
    const char* start  # UTF-8
    Py_ssize_t size
    bint one_line  # has no LF; CR is gone by then


def encode(data=NO_DATA, *, event=None, id=None, retry=None, comment=None):
    """The fields of one event as bytes, ready to send.

    `data`: `str` and `bytes` (UTF-8) go as they stand, one `data:` line for each line; line ends reach the client
    as LF, all else unchanged. Any other value goes as compact JSON, as `sse_fast.serialization` has it; `None` is
    therefore `null`, and what cannot become JSON whole is refused. A DatastarEvent of datastar-py is an event already:
    its fields are taken, and `event`, `id`, `retry` may only say what it doesn't.
    Left out, there is no `data:` line, and a client that keeps the standard delivers no event.

    `event`: the type; `id`: what the client sends as `Last-Event-ID` when it reconnects (an empty one clears it);
    neither may contain CR, LF or NUL. `retry`: milliseconds before a reconnect, an int from 0 to 2**63 - 1.
    `comment`: text that clients skip.

    The lines are comment, event, retry, data, id, then the blank line that ends the event. The id comes last because
    fetch-event-source takes it as soon as its line is there: a connection cut within an event that has it in front
    would resume behind that event, and lose it. A comment or `retry` alone gets no blank line: it is complete without,
    and at a bare blank line some clients deliver an empty event. So `encode(comment="")` is the heartbeat, and whatever
    was encoded may follow anything else that was.

    Raises `InvalidEvent` (a `ValueError`) where the format cannot carry a value: CR, LF or NUL in `event` or `id`, a
    negative or huge `retry`, lone surrogates, bytes that are not UTF-8, `data` that is no JSON value (it names the type
    and the place); fields of a wrong type, and none at all (these are a `TypeError` too).
    """
    return frame_of(data, event, id, retry, comment)


cdef bytes frame_of(object data, object event, object id, object retry, object comment):
    cdef:
        Text id_text, event_text, data_text, comment_text
        bytes digits = None
        bytes frame
        bint ends = data is not NO_DATA or event is not None or id is not None
        Py_ssize_t size = ends
        char* out

    if PyUnicode_Check(data) and type(data) is not str:
        given = fields_of(data)
        if given is not None:
            data = NO_DATA if given.data is None else given.data
            event = one_of("event", event, given.event)
            id = one_of("id", id, given.id)
            retry = one_of("retry", retry, given.retry)

    # Check and measure everything first; only then allocate, once and exactly.
    if comment is not None:
        comment = comment_of(comment, &comment_text)
        size += lines_size(2, &comment_text)
    if id is not None:
        name_of("id", id, &id_text)
        size += line_size(4, id_text.size)
    if event is not None:
        name_of("event", event, &event_text)
        size += line_size(7, event_text.size)
    if retry is not None:
        digits = b"%d" % milliseconds(retry)
        size += line_size(7, len(digits))
    if data is not NO_DATA:
        data = data_of(data, &data_text)
        size += lines_size(6, &data_text)
    if size == 0:
        raise MistypedEvent("encode() needs data, or at least one of event, id, retry and comment")

    frame = PyBytes_FromStringAndSize(NULL, size)
    out = PyBytes_AS_STRING(frame)
    if comment is not None:
        out = write_lines(out, ": ", 2, &comment_text)
    if event is not None:
        out = write_line(out, "event: ", 7, event_text.start, event_text.size)
    if digits is not None:
        out = write_line(out, "retry: ", 7, PyBytes_AS_STRING(digits), len(digits))
    if data is not NO_DATA:
        out = write_lines(out, "data: ", 6, &data_text)
    if id is not None:
        out = write_line(out, "id: ", 4, id_text.start, id_text.size)
    if ends:
        out[0] = b"\n"
        out += 1
    assert out == PyBytes_AS_STRING(frame) + size
    return frame


cdef object one_of(str field, object asked, object given):
    if asked is not None and given is not None:
        raise InvalidEvent(f"the DatastarEvent has its own {field}; leave out {field}={asked!r}")
    return given if asked is None else asked


# What goes in. Each function checks one value and leaves its UTF-8 form in `text`. The pointer lives as long as the
# value does, or where a function returns an object, as long as that: the caller holds it.

cdef object data_of(object data, Text* text):
    """str and bytes as they stand, anything else as JSON."""
    if PyUnicode_Check(data):
        utf8_of("data", data, text)
        return with_lf(data, text)
    if PyBytes_Check(data):
        text.start = PyBytes_AS_STRING(data)
        text.size = PyBytes_GET_SIZE(data)
        check_utf8(text)
        return with_lf(data, text)
    try:
        written = dumps(data, as_dict, DATACLASSES_BY_US)
    except TypeError:  # an int beyond 64 bits, a key that is no str, a lone surrogate: others say it, or say where
        written = None
    if written is None or (is_suspect(PyBytes_AS_STRING(written), PyBytes_GET_SIZE(written)) and not is_plain(<PyObject*>data, 0)):
        written = json_of(data)
        text.start = PyBytes_AS_STRING(written)
        text.size = PyBytes_GET_SIZE(written)
        check_utf8(text)  # models write themselves
        return with_lf(written, text)
    text.start = PyBytes_AS_STRING(written)
    text.size = PyBytes_GET_SIZE(written)
    text.one_line = True  # compact JSON has its control characters escaped
    return written


def as_dict(value):
    """A dataclass, for orjson, which dies of one that has a slot without a value (3.13.0). Raises AttributeError for that."""
    cdef object field, name
    cdef dict inside
    if _PyType_Lookup(Py_TYPE(value), "__dataclass_fields__") == NULL:
        return BEYOND_ORJSON
    if _PyType_Lookup(Py_TYPE(value), "__slots__") != NULL:
        inside = {}
        for field in fields(value):
            inside[field.name] = getattr(value, field.name)
    else:
        inside = value.__dict__
    for name in inside:
        if PyUnicode_Check(name) and PyUnicode_GET_LENGTH(name) and PyUnicode_READ_CHAR(name, 0) == c"_":
            return dict(attributes(value))
    return inside


cdef bint is_suspect(const char* json, Py_ssize_t size) noexcept nogil:
    """Whether what orjson wrote may have `null` for a float that is not finite, told from most text by its end, or
    bytes of a Fragment that are no UTF-8, or end lines."""
    cdef:
        Py_ssize_t i
        uint8_t found = 0
    for i in range(size - 2):
        found |= ((json[i] == c"u") & (json[i + 1] == c"l") & (json[i + 2] == c"l")) | ((<signed char>json[i]) < 0x20)
    for i in range(max(size - 2, 0), size):
        found |= (<signed char>json[i]) < 0x20
    return found


cdef bint is_plain(PyObject* borrowed, int depth) except -1:
    """Whether a value is whole as orjson writes it: it has no float that is not finite, no Fragment, nothing odd."""
    cdef:
        PyObject* item
        Py_ssize_t at = 0
        PyTypeObject* exactly = Py_TYPE(<object>borrowed)
    if borrowed == <PyObject*>None or PyType_HasFeature(exactly, TEXT_OR_INT):
        return True
    if PyFloat_CheckExact(<object>borrowed):
        return isfinite(PyFloat_AS_DOUBLE(<object>borrowed))
    if depth > 254:
        return False
    if PyDict_Check(<object>borrowed):
        while PyDict_Next(<object>borrowed, &at, NULL, &item):
            if not is_plain(item, depth + 1):
                return False
        return True
    if PyList_Check(<object>borrowed):
        while at < PyList_GET_SIZE(<object>borrowed):
            if not is_plain(PyList_GET_ITEM(<object>borrowed, at), depth + 1):
                return False
            at += 1
        return True
    return is_plain_too(<object>borrowed, depth)


cdef bint is_plain_too(object value, int depth) except -1:
    cdef:
        Py_ssize_t at = 0
        object kind = type(value)
        object inside
    if kind is tuple:
        while at < PyTuple_GET_SIZE(value):
            if not is_plain(PyTuple_GET_ITEM(value, at), depth + 1):
                return False
            at += 1
        return True
    if kind in WRITTEN_BY_ORJSON:
        return True
    if type(kind) is EnumType:
        inside = value._value_
        return is_plain(<PyObject*>inside, depth + 1)
    # A dataclass without slots is to orjson what is in its __dict__.
    if PyObject_HasAttr(kind, "__dataclass_fields__") and not PyObject_HasAttr(kind, "__slots__"):
        inside = value.__dict__
        return is_plain(<PyObject*>inside, depth)
    return False


cdef object comment_of(object comment, Text* text):
    utf8_of("comment", comment, text)
    return with_lf(comment, text)


cdef int name_of(str field, object value, Text* text) except -1:
    """`id` or `event`: one line. A NUL makes parsers drop an id; in an event type it would only make trouble."""
    cdef:
        Py_ssize_t i
        uint8_t found = 0
    utf8_of(field, value, text)
    for i in range(text.size):  # no early exit, so that compilers make vectors of it
        found |= (text.start[i] == 0) | (text.start[i] == 10) | (text.start[i] == 13)
    if found:
        for index, char in enumerate(value):
            if char in "\0\n\r":
                raise InvalidEvent(f"{field} has {char!r} at index {index}; it must be one line without CR, LF and NUL")
    return 0


cdef int utf8_of(str field, object value, Text* text) except -1:
    if not PyUnicode_Check(value):
        raise MistypedEvent(f"{field} must be str or None, not {type(value).__name__}")
    try:
        text.start = PyUnicode_AsUTF8AndSize(value, &text.size)
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"{field} has a lone surrogate, U+{ord(value[error.start]):04X}, at index {error.start}; "
            "UTF-8 cannot carry it, so it must be replaced before"
        ) from None
    return 0


cdef int check_utf8(const Text* text) except -1:
    cdef:
        Py_ssize_t i
        uint8_t seen = 0
    for i in range(text.size):
        seen |= <uint8_t>text.start[i]
    if seen < 0x80:
        return 0
    try:
        PyUnicode_DecodeUTF8(text.start, text.size, NULL)
    except UnicodeDecodeError as error:
        raise InvalidEvent(
            f"data is not valid UTF-8: {error.reason} at byte {error.start}; "
            "other encodings must be decoded before, binary written as text (base64)"
        ) from None
    return 0


cdef object with_lf(object value, Text* text):
    """The text with LF for every CRLF and CR, which is how a parser would hand it on."""
    cdef:
        const char* rest = text.start
        const char* end = text.start + text.size
        const char* cr = <const char*>memchr(rest, b"\r", text.size)
        char* out
    if cr != NULL:
        value = PyBytes_FromStringAndSize(NULL, text.size)  # scratch: the CRLFs leave its end unused
        out = PyBytes_AS_STRING(value)
        text.start = out
        while cr != NULL:
            memcpy(out, rest, cr - rest)
            out += cr - rest
            out[0] = b"\n"
            out += 1
            rest = cr + (2 if cr + 1 < end and cr[1] == b"\n" else 1)
            cr = <const char*>memchr(rest, b"\r", end - rest)
        memcpy(out, rest, end - rest)
        text.size = out + (end - rest) - text.start
    text.one_line = memchr(text.start, b"\n", text.size) == NULL
    return value


cdef long long milliseconds(object retry) except -1:
    cdef:
        long long value
        int overflow = 0
    if not PyLong_Check(retry) or PyBool_Check(retry):
        raise MistypedEvent(f"retry must be int (milliseconds) or None, not {type(retry).__name__}")
    value = PyLong_AsLongLongAndOverflow(retry, &overflow)
    if value < 0:
        wrong = "too large" if overflow > 0 else "negative"
        raise InvalidEvent(f"retry is {wrong}; it must be 0 to 2**63 - 1 (milliseconds)")
    return value


# What comes out. Each `write_*` returns the place after what it wrote; the `*_size` above it says how much that is.

cdef inline Py_ssize_t line_size(Py_ssize_t name_size, Py_ssize_t size) noexcept nogil:
    return name_size + size + (size != 0)  # an empty line goes without the space after the colon


cdef inline char* write_line(
    char* out, const char* name, Py_ssize_t name_size, const char* text, Py_ssize_t size
) noexcept nogil:
    memcpy(out, name, name_size)
    out += name_size - (size == 0)
    memcpy(out, text, size)
    out[size] = b"\n"
    return out + size + 1


cdef Py_ssize_t lines_size(Py_ssize_t name_size, const Text* text) noexcept nogil:
    cdef:
        const char* line = text.start
        const char* end = text.start + text.size
        const char* line_end
        Py_ssize_t size = 0
    if text.one_line:
        return line_size(name_size, text.size)
    while True:
        line_end = <const char*>memchr(line, b"\n", end - line)
        if line_end == NULL:
            return size + line_size(name_size, end - line)
        size += line_size(name_size, line_end - line)
        line = line_end + 1


cdef inline char* write_lines(char* out, const char* name, Py_ssize_t name_size, const Text* text) noexcept nogil:
    cdef:
        const char* line = text.start
        const char* end = text.start + text.size
        const char* line_end
    if text.one_line:
        return write_line(out, name, name_size, line, text.size)
    while True:
        line_end = <const char*>memchr(line, b"\n", end - line)
        if line_end == NULL:
            return write_line(out, name, name_size, line, end - line)
        out = write_line(out, name, name_size, line, line_end - line)
        line = line_end + 1
