"""What publishers hand in -> what the log takes: the one gate, and every event that enters goes through it.

The law of this file: an event that passes has a channel and a type that publishers may use, fields of the right types,
and a frame within the limit; whatever does not pass is refused in words that say what would be right, and the refusal
of one event of many is a refusal of all. Nothing here knows a hub, a request or a loop.

It is native for the sake of bulk: as plain Python these same lines cost twice what parsing and encoding do.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

import orjson

from sse_fast._native.frame cimport frame_of

from sse_fast.errors import EventTooLarge, InvalidEvent
from sse_fast.event import FIELDS, MAX_EVENT_TYPE, MAX_RETRY_MS, brief, channel_name as channel_name_function, kind_of

cdef object channel_name = channel_name_function
cdef object loads = orjson.loads
cdef object JSONDecodeError = orjson.JSONDecodeError

cdef Py_ssize_t AT_ONCE = 1024  # lines or items in a piece: about a millisecond
cdef Py_ssize_t BYTES_AT_ONCE = 128 * 1024  # of lines: a few large ones are as much work as many small ones


def encode_publication(channel, data, *, event=None, retry=None, Py_ssize_t limit):
    """The channel's name as the log keeps it, and the frame without its id line. `limit`: bytes of the frame.

    Raises InvalidEvent (EventTooLarge past the limit), or TypeError for data that is no JSON value.
    """
    return encoded(channel, data, event, retry, limit)


def from_json_value(value, Py_ssize_t limit):
    """One publication from `{"channel", "data", "event"?, "retry"?}`; null is as good as left out. InvalidEvent."""
    return from_value(value, limit)


def from_json_array(list values not None, Py_ssize_t limit):
    """Publications from the items of a JSON array, in pieces, so that others can have the loop in between.

    Raises InvalidEvent that names the item; the first is 0.
    """
    cdef Py_ssize_t number = 0, size = len(values), end
    cdef list events
    while number < size:
        events = []
        end = min(number + AT_ONCE, size)
        while number < end:
            try:
                events.append(from_value(values[number], limit))
            except InvalidEvent as error:
                raise type(error)(f"event {number} of the array: {error}") from None
            number += 1
        yield events


def from_ndjson(bytes body not None, Py_ssize_t limit):
    """Publications from newline-delimited JSON, in pieces, so that others can have the loop in between.

    One event a line; blank lines are passed over. Raises InvalidEvent that names the line; the first is 1.
    """
    cdef Py_ssize_t start = 0, size = PyBytes_GET_SIZE(body), length, number = 0, enough
    cdef const char* line
    cdef const char* end
    cdef list events
    while start < size:
        events = []
        enough = start + BYTES_AT_ONCE
        while start < size:
            number += 1
            line = PyBytes_AS_STRING(body) + start
            end = <const char*>memchr(line, b"\n", size - start)
            length = end - line if end != NULL else size - start
            start += length + 1
            # Escapes make JSON up to six times longer than what it says.
            if length > 8 * limit + 4096:
                raise EventTooLarge(f"line {number} has {length} bytes; an event of {limit} bytes needs fewer")
            if not is_blank(line, length):
                try:
                    events.append(from_value(loads(PyBytes_FromStringAndSize(line, length)), limit))
                except JSONDecodeError as error:
                    raise InvalidEvent(f"line {number} is not JSON: {error}") from None
                except InvalidEvent as error:
                    raise type(error)(f"line {number}: {error}") from None
            if number % AT_ONCE == 0 or start >= enough:
                break
        yield events


cdef tuple from_value(object parsed, Py_ssize_t limit):
    cdef dict value
    cdef object channel, data, event, retry
    if type(parsed) is not dict:
        raise InvalidEvent(f"an event is a JSON object with 'channel' and 'data', not {kind_of(parsed)}")
    value = parsed
    try:
        channel, data = value["channel"], value["data"]
    except KeyError as missing:
        raise InvalidEvent(f"the field {missing} is missing") from None
    event, retry = value.get("event"), value.get("retry")
    # Counting is cheaper than comparing names, and enough where nothing is strange.
    if len(value) != 2 + (event is not None) + (retry is not None) and not value.keys() <= FIELDS:
        unknown = next(name for name in value if name not in FIELDS)
        raise InvalidEvent(f"unknown field {brief(unknown)}; the fields are 'channel', 'data', 'event' and 'retry'")
    try:
        return encoded(channel, data, event, retry, limit)
    except TypeError as error:
        raise InvalidEvent(f"{error}; arrays and objects nest at most 254 deep") from None


cdef tuple encoded(object channel, object data, object event, object retry, Py_ssize_t limit):
    cdef bytes name, frame
    if not isinstance(channel, str):
        raise InvalidEvent(f"'channel' is a string, not {kind_of(channel)}")
    name = channel_name(channel)
    if PyBytes_AS_STRING(name)[0] == c"$":
        raise InvalidEvent(f"channels that begin with '$' belong to the server; {brief(channel)} is one")
    if event is not None:
        check_type(event)
    if retry is not None and (type(retry) is not int or not 0 <= retry <= MAX_RETRY_MS):
        raise InvalidEvent(f"'retry' is a whole number of milliseconds from 0 to {MAX_RETRY_MS}, not {brief(retry)}")
    # What the format forbids in a field, the encoder refuses.
    frame = frame_of(data, event, None, retry, None)
    if PyBytes_GET_SIZE(frame) > limit:
        raise EventTooLarge(f"the event takes {len(frame)} bytes when encoded; at most {limit} are allowed")
    return name, frame


cdef int check_type(object event) except -1:
    if not isinstance(event, str):
        raise InvalidEvent(f"'event' is a string, not {kind_of(event)}")
    if len(<str>event) > MAX_EVENT_TYPE:
        raise InvalidEvent(f"'event' has at most {MAX_EVENT_TYPE} characters; this one has {len(event)}")
    if event and (<str>event)[0] == "$":
        raise InvalidEvent(f"event types that begin with '$' belong to the server; {brief(event)} is one")
    return 0


cdef bint is_blank(const char* line, Py_ssize_t length) noexcept nogil:
    """Whether a line has nothing but the white space of JSON (RFC 8259, section 2)."""
    cdef Py_ssize_t i
    for i in range(length):
        if line[i] != c" " and line[i] != c"\t" and line[i] != c"\r":
            return False
    return True
