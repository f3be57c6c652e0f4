"""What publishers hand in -> what the log takes; every event that is published is checked here.

The law of this file: an event that passes has channels and a type that publishers may use, fields of the right types,
and a frame within the limit; what does not pass is refused in words that say what would be right, and the refusal
of one event of many is a refusal of all. Nothing here knows a hub, a request or a loop.

It is native for the sake of bulk: as plain Python these same lines cost twice what parsing and encoding do.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Sequence

import orjson

from sse_fast._native.wire.control cimport gap as gap_frame
from sse_fast._native.wire.frame cimport frame_of
from sse_fast._native.wire.templates cimport TypedChannels

from sse_fast._native.wire.control import GAP as GAP_TYPE
from sse_fast.datastar import fields_of as fields_of_function
from sse_fast.errors import EventTooLarge, InvalidEvent
from sse_fast.event_rules import (
    FIELDS, FRAGMENT, MAX_CHANNELS, MAX_EVENT_TYPE, MAX_ID_BYTES, RETRY, SHORT_NAME, Keyed, brief,
    conflate_key as conflate_key_of, hidden, idempotency_key, kind_of, long_name as long_name_function, publisher_id,
    short_name as short_name_function,
)
from sse_fast.serialization import DEEPEST as DEEPEST_JSON

cdef object fields_of = fields_of_function
cdef object check_retry = RETRY.check
cdef object short_name = short_name_function
cdef object long_name = long_name_function
cdef Py_ssize_t SHORT = SHORT_NAME
cdef bytes FRAGMENT_LINE = f"id: {FRAGMENT}\n".encode()
cdef object loads = orjson.loads
cdef object JSONDecodeError = orjson.JSONDecodeError
cdef object MISSING = object()
cdef str GAP = GAP_TYPE

cdef int DEEPEST = DEEPEST_JSON
cdef Py_ssize_t AT_ONCE = 1024  # lines or items in a piece: about a millisecond
cdef Py_ssize_t TYPED_AT_ONCE = 128  # as well, where they may have to be checked
cdef Py_ssize_t BYTES_AT_ONCE = 128 * 1024  # of both: a few large ones are as much work as many small ones


def encode_publication(
    channel, data, *, event=None, retry=None, conflate_key=None, id=None, bint fragment=False,
    bint private=False, Py_ssize_t limit, TypedChannels typed=None
):
    """The channel's name as the log keeps it, and the frame without its id line. `limit`: bytes of the frame. `typed`:
    the channels whose events have to fit, here and below.

    `channel` may be a sequence of names: then theirs, as a tuple; of one, that name alone. It may be a typed channel
    (`schema.definitions`), or have some: then `data` is an event of theirs. With a `conflate_key` they are Keyed. `id`: the
    publisher's own, which its readers see; `fragment`: it has the log's, as a relative reference. `private`:
    of streams with matchers those get it that may see one of its channels; then the names are a tuple, the first of them
    hidden. Raises InvalidEvent (EventTooLarge past the limit).
    """
    cdef tuple made
    if not isinstance(channel, str):
        channel, data, event = of_typed(channel, data, event)
    if id is None and not fragment:
        made = encoded(channel, data, event, retry, limit, typed)
    else:
        if id is not None and fragment:
            raise InvalidEvent("an event has an id of its publisher's, or one of the log's")
        made = identified(encoded(channel, data, event, retry, limit, typed), id, limit)
    if private:
        made = made_private(made)
    return made if conflate_key is None else keyed(made, conflate_key)


def from_json_object(bytes body not None, Py_ssize_t limit, dict keys=None, TypedChannels typed=None):
    """One publication from `{"channel", "data", "event"?, "id"?, "retry"?, "private"?, "conflate_key"?}`; null is as good as left out. In
    place of `channel` it may have `channels`, an array of names. An idempotency `key` is put into `keys`, at 0; without
    `keys` it is refused.
    Raises InvalidEvent."""
    cdef const char* start = PyBytes_AS_STRING(body)
    return from_value(parsed(body), start, start + PyBytes_GET_SIZE(body), limit, keys, 0, typed)


def from_json_array(bytes body not None, Py_ssize_t limit, dict keys=None, TypedChannels typed=None):
    """Publications from the items of a JSON array, in pieces, so that others can have the loop in between.

    Idempotency keys are put into `keys`, at the places of their events. Raises InvalidEvent that names the item; the
    first is 0.
    """
    found = parsed(body)
    if type(found) is not list:
        raise InvalidEvent(f"several events are a JSON array of them, not {kind_of(found)}")
    cdef list values = found
    cdef Py_ssize_t number = 0, size = len(values), enough, at_once = AT_ONCE if typed is None else TYPED_AT_ONCE
    cdef const char* end = PyBytes_AS_STRING(body) + PyBytes_GET_SIZE(body)
    cdef const char* item = behind_space(PyBytes_AS_STRING(body), end) + 1
    cdef const char* behind
    cdef const char* first
    cdef Span span
    cdef list events
    while number < size:
        events = []
        enough = min(number + at_once, size)
        first = item
        while number < enough and item - first < BYTES_AT_ONCE:
            item = behind_space(item, end)
            behind = behind_value(item, end, &span)
            try:
                events.append(from_value(values[number], item, behind, limit, keys, number, typed))
            except InvalidEvent as error:
                raise type(error)(f"event {number} of the array: {error}") from None
            item = behind_space(behind, end) + 1  # the comma
            number += 1
        yield events


def from_ndjson(bytes body not None, Py_ssize_t limit, dict keys=None, TypedChannels typed=None):
    """Publications from newline-delimited JSON, in pieces, so that others can have the loop in between.

    One event a line; blank lines are passed over. Idempotency keys are put into `keys`, at the places of their events,
    the first 0. Raises InvalidEvent that names the line; the first is 1.
    """
    cdef Py_ssize_t start = 0, size = PyBytes_GET_SIZE(body), length, number = 0, taken = 0, enough
    cdef Py_ssize_t at_once = AT_ONCE if typed is None else TYPED_AT_ONCE
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
                    value = loads(PyBytes_FromStringAndSize(line, length))
                    events.append(from_value(value, line, line + length, limit, keys, taken, typed))
                    taken += 1
                except JSONDecodeError as error:
                    raise_no_memory(error)
                    raise InvalidEvent(f"line {number} is not JSON: {error.msg} at column {error.colno}") from None
                except InvalidEvent as error:
                    raise type(error)(f"line {number}: {error}") from None
            if number % at_once == 0 or start >= enough:
                break
        yield events


cdef int raise_no_memory(error) except -1:
    """orjson has one error for a document that is wrong and for memory that has run out."""
    if error.msg.startswith("Not enough memory"):
        raise MemoryError("the server has no memory to read this; try again later") from None
    return 0


cdef object parsed(bytes body):
    try:
        return loads(body)
    except JSONDecodeError as error:
        raise_no_memory(error)
        raise InvalidEvent(f"the body is not JSON: {error}; for NDJSON send 'application/x-ndjson'") from None


cdef tuple made_private(tuple event):
    channels, frame = event
    cdef tuple names = channels if type(channels) is tuple else (channels,)
    return (hidden(names), *names), frame


cdef tuple identified(tuple event, object id, Py_ssize_t limit):
    """An event that has its publisher's id; None: the log's, as a relative reference. The line stands first here, where
    `log/ring` finds it; in the log it is the last, as any."""
    channels, frame = event
    cdef bytes line = b"id: %b\n" % publisher_id(id).encode() if id is not None else FRAGMENT_LINE
    if PyBytes_GET_SIZE(frame) + PyBytes_GET_SIZE(line) > limit:
        raise EventTooLarge(
            f"the event takes {len(frame) + len(line)} bytes when encoded, its id among them; at most {limit} are allowed"
        )
    return channels, line + <bytes>frame


cdef tuple from_value(
    object parsed, const char* text, const char* end, Py_ssize_t limit, dict keys, Py_ssize_t place, TypedChannels typed
):
    """`parsed` from the JSON between `text` and `end`, the event at this place of its batch."""
    cdef dict value
    cdef object channel, data, event, retry
    cdef tuple made
    if type(parsed) is not dict:
        raise InvalidEvent(f"an event must be a JSON object with 'channel' and 'data'; this is {kind_of(parsed)}")
    value = parsed
    channel, data, event, retry = value.get("channel"), value.get("data", MISSING), value.get("event"), value.get("retry")
    # Counting is cheaper than comparing names, and enough where nothing is strange.
    if type(channel) is not str or data is MISSING or len(value) != 2 + (event is not None) + (retry is not None):
        channel = looked_through(value)
        key = value.get("key")
        if key is not None:
            if keys is None:
                raise InvalidEvent("no idempotency keys are taken here; leave 'key' out")
            keys[place] = idempotency_key(key)
        key, id, private = value.get("conflate_key"), value.get("id"), value.get("private")
        if private is not None and type(private) is not bool:
            raise InvalidEvent(f"'private' must be true or false; this is {kind_of(private)}")
        if key is not None or id is not None or private:
            if type(data) is not str:
                data = as_it_stands(text, end)
            made = encoded(channel, data, event, retry, limit, typed)
            if id is not None:
                made = identified(made, id, limit)
            if private:
                made = made_private(made)
            return keyed(made, key) if key is not None else made
    if type(data) is not str:
        data = as_it_stands(text, end)
    return encoded(channel, data, event, retry, limit, typed)


cdef tuple keyed(tuple event, object key):
    """An event that has a conflation key."""
    channels, frame = event
    return Keyed.of(channels, conflate_key_of(key)), frame


cdef object looked_through(dict value):
    """The channel of an event that has not the plain fields alone, or its channels."""
    for name in value:
        if name not in FIELDS:
            raise InvalidEvent(
                f"unknown field {brief(name)}; the fields are 'channel' or 'channels', 'data', 'event', 'id', 'retry', "
                "'private', 'key' and 'conflate_key'"
            )
    cdef object channel = value.get("channel"), channels = value.get("channels")
    if channel is not None and channels is not None:
        raise InvalidEvent("an event has 'channel' or 'channels', not both")
    if channels is None and "channel" not in value:
        raise InvalidEvent("'channel' or 'channels' is missing")
    if "data" not in value:
        raise InvalidEvent("the field 'data' is missing")
    if channels is None:
        if type(channel) is list:
            raise InvalidEvent("'channel' must be a string; this is an array. Several are 'channels'")
        if type(channel) is not str:
            raise InvalidEvent(f"'channel' must be a string; this is {kind_of(channel)}")
        return channel
    if type(channels) is not list:
        raise InvalidEvent(f"'channels' must be an array of strings; this is {kind_of(channels)}")
    return channels


cdef tuple encoded(
    object channel, object data, object event, object retry, Py_ssize_t limit, TypedChannels typed
):
    cdef object name
    cdef bytes frame
    if isinstance(data, str) and type(data) is not str:
        given = fields_of(data)
        if given is not None:
            if given.id is not None or given.data is None or (event is not None or retry is not None):
                raise InvalidEvent("a DatastarEvent is published as it is: with data, without event_id, and nothing beside")
            data, event, retry = given.data, given.event, given.retry
    name = name_of(channel) if isinstance(channel, str) else names_of(channel)
    cdef bint is_gap = event is not None and is_gap_type(event)
    if retry is not None:
        check_retry(retry)
    if is_gap:
        frame, typed = gap_of(data), None
    else:
        # What the format forbids in a field, the encoder refuses.
        frame = frame_of(data, event, None, retry, None)
    if PyBytes_GET_SIZE(frame) > limit:
        raise EventTooLarge(f"the event takes {len(frame)} bytes when encoded; at most {limit} are allowed")
    if typed is not None:
        typed.look(name, frame)
    return name, frame


cdef tuple of_typed(object channel, object data, object event):
    """Of a typed channel, or of several channels of which some are, the names, the data and the event's type."""
    cdef object said = None
    cdef list names
    if hasattr(channel, "encode_event"):
        said = encode_event(channel, data, event)
        return channel.channel, said[1], said[0]
    if not isinstance(channel, Sequence) or not any(hasattr(each, "encode_event") for each in channel):
        return channel, data, event
    names = []
    for each in channel:
        if hasattr(each, "encode_event"):
            told = encode_event(each, data, event)
            if said is not None and told != said:
                raise InvalidEvent(f"{each} and {names[len(names) - 1]} have different forms of this event; publish it to each")
            said, each = told, each.channel
        names.append(each)
    return names, said[1], said[0]


cdef tuple encode_event(object channel, object data, object event):
    if event is not None:
        raise InvalidEvent("an event of a typed channel is called as its class; leave 'event' out")
    return channel.encode_event(data)


cdef bytes name_of(object channel):
    cdef bytes name = short_name(channel) if len(<str>channel) <= SHORT else long_name(channel)
    if PyBytes_AS_STRING(name)[0] == c"$":
        raise InvalidEvent(f"channels that begin with '$' belong to the server; {brief(channel)} is one")
    return name


cdef object names_of(object channels):
    """The names of several channels as a tuple, in their order; of one, that name alone."""
    cdef list names = []
    cdef bytes name
    cdef Py_ssize_t at
    if not isinstance(channels, Sequence) or isinstance(channels, (bytes, bytearray, memoryview)):
        raise InvalidEvent(f"'channel' must be a string, or a list of them; this is {kind_of(channels)}")
    if not 0 < len(channels) <= MAX_CHANNELS:
        raise InvalidEvent(f"'channels' names 1 to {MAX_CHANNELS} channels, not {len(channels)}")
    for at, channel in enumerate(channels):
        if not isinstance(channel, str):
            raise InvalidEvent(f"'channels'[{at}] must be a string; this is {kind_of(channel)}")
        try:
            name = name_of(channel)
        except InvalidEvent as error:
            raise InvalidEvent(f"'channels'[{at}]: {error}") from None
        if name in names:
            raise InvalidEvent(f"'channels'[{at}] names {brief(channel)} again")
        names.append(name)
    return tuple(names) if len(names) > 1 else names[0]


cdef int is_gap_type(object event) except -1:
    """Whether it is the one type of the server's that a publisher may use. Raises InvalidEvent for what is no type."""
    if not isinstance(event, str):
        raise InvalidEvent(f"'event' must be a string; this is {kind_of(event)}")
    if len(<str>event) > MAX_EVENT_TYPE:
        raise InvalidEvent(f"'event' has at most {MAX_EVENT_TYPE} characters; this one has {len(event)}")
    if not event or (<str>event)[0] != "$":
        return False
    if event != GAP:
        raise InvalidEvent(f"event types that begin with '$' belong to the server; {brief(event)} is one")
    return True


cdef bytes gap_of(object data):
    """The frame of a `$gap` that is published: who publishes may know what the server does not, that events which should
    stand before it are missing."""
    cdef object said = data
    if isinstance(data, (str, bytes)):
        try:
            said = loads(data)
        except JSONDecodeError as error:
            raise_no_memory(error)
            said = MISSING
    if (
        not isinstance(said, dict) or said.keys() - {"after", "until"}
        or any(id is not None and (type(id) is not str or len(id) > MAX_ID_BYTES) for id in said.values())
    ):
        raise InvalidEvent(
            'the data of a \'$gap\' is {"after", "until"}: the ids between which events are missing, as far as they are known'
        )
    return gap_frame(said.get("after"), said.get("until"), False)


cdef bint is_blank(const char* line, Py_ssize_t length) noexcept nogil:
    """Whether a line has nothing but the white space of JSON (RFC 8259, section 2)."""
    cdef Py_ssize_t i
    for i in range(length):
        if line[i] != c" " and line[i] != c"\t" and line[i] != c"\r":
            return False
    return True


# JSON as text. Numbers are to arrive digit for digit, and no parser keeps their digits: so `data` is passed on as it
# stands, only without the white space between. What is read here has been parsed, and so is known to be JSON (RFC 8259);
# the bounds are looked at all the same.

cdef struct Span:
    bint spaced  # has white space between its parts
    int depth  # of arrays and objects


cdef bytes as_it_stands(const char* text, const char* end):
    """The value of the member "data" of an object, compact; of several the last, as parsers have it."""
    cdef const char* data = NULL
    cdef const char* data_end = NULL
    cdef const char* at = behind_space(text, end) + 1
    cdef const char* name
    cdef const char* name_end
    cdef Span span, skipped
    while True:
        name = behind_space(at, end)
        name_end = behind_value(name, end, &skipped)
        at = behind_space(behind_space(name_end, end) + 1, end)  # the colon
        if is_data(name, name_end):
            data = at
            at = data_end = behind_value(at, end, &span)
        else:
            at = behind_value(at, end, &skipped)
        at = behind_space(at, end)
        if at >= end or at[0] != c",":
            break
        at += 1
    if data == NULL:
        raise InvalidEvent("the field 'data' was parsed and cannot be found")
    if span.depth > DEEPEST:
        raise InvalidEvent(f"arrays and objects nest at most {DEEPEST} deep; these nest {span.depth} deep")
    if span.spaced:
        return without_space(data, data_end)
    return PyBytes_FromStringAndSize(data, data_end - data)


cdef bint is_data(const char* name, const char* end) except -1:
    """Whether a member's name, quotes and all, says "data"."""
    if end - name == 6:
        return memcmp(name, b'"data"', 6) == 0
    if end - name < 6 or memchr(name, b"\\", end - name) == NULL:
        return False
    return loads(PyBytes_FromStringAndSize(name, end - name)) == "data"


cdef inline bint is_space(char c) noexcept nogil:
    return c == c" " or c == c"\n" or c == c"\r" or c == c"\t"


cdef inline const char* behind_space(const char* at, const char* end) noexcept nogil:
    while at < end and is_space(at[0]):
        at += 1
    return at


cdef const char* behind_string(const char* at, const char* end) noexcept nogil:
    """Behind the string that begins at `at`."""
    cdef const char* quote
    cdef const char* last
    at += 1
    while at < end:
        quote = <const char*>memchr(at, b'"', end - at)
        if quote == NULL:
            break
        last = quote
        while last > at and (last - 1)[0] == c"\\":
            last -= 1
        at = quote + 1
        if (quote - last) % 2 == 0:
            return at
    return end


cdef const char* behind_value(const char* at, const char* end, Span* span) noexcept nogil:
    """Behind the value that begins at `at`."""
    cdef int depth = 0
    cdef char c
    span.spaced = False
    span.depth = 0
    while at < end:
        c = at[0]
        if c == c'"':
            at = behind_string(at, end)
            if depth == 0:
                return at
            continue
        if c == c"{" or c == c"[":
            depth += 1
            span.depth = max(span.depth, depth)
        elif c == c"}" or c == c"]":
            if depth <= 1:
                return at + depth  # its own end, or that of what a scalar stands in
            depth -= 1
        elif depth == 0 and (c == c"," or is_space(c)):
            return at  # a scalar's end
        elif is_space(c):
            span.spaced = True
        at += 1
    return end


cdef bytes without_space(const char* at, const char* end):
    cdef bytes compact = PyBytes_FromStringAndSize(NULL, end - at)
    cdef char* start = PyBytes_AS_STRING(compact)
    cdef char* out = start
    cdef const char* behind
    while at < end:
        if is_space(at[0]):
            at += 1
            continue
        behind = behind_string(at, end) if at[0] == c'"' else at + 1
        memcpy(out, at, behind - at)
        out += behind - at
        at = behind
    return compact[: out - start]
