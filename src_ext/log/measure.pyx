"""What events take of a log, and which are too large for it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint16_t, uint64_t

from sse_fast._native.log.layout cimport Record, largest_batch_of, largest_of
from sse_fast._native.log.names cimport pack_names

from sse_fast.errors import BatchTooLarge, EventTooLarge, InvalidEvent

cdef str NO_EVENT = "an event is a pair of bytes, (channel, body), or has a tuple of channels"


BATCH_NAMES = MOST_NAMES


def refuse_names_over_batch(Py_ssize_t count):
    """Raise BatchTooLarge for more than BATCH_NAMES channels, which the events of one batch may name in all."""
    if count > MOST_NAMES:
        raise BatchTooLarge(
            f"the batch names more than {MOST_NAMES} channels, of all its events together; send it in several"
        )


cdef int refuse(uint64_t capacity, size_t names_length, size_t body_length) except -1:
    if names_length > 0xFFFF:
        raise InvalidEvent(f"the channel name has {names_length} bytes; 65535 is the most a record can name")
    if sizeof(Record) + names_length + body_length + ID_ROOM <= largest_of(capacity):
        raise EventTooLarge(
            f"the event has more than {largest_of(capacity) // CHANNEL_ROOM} channels; each takes {CHANNEL_ROOM} bytes, and "
            f"a log of {capacity} bytes takes events up to {largest_of(capacity)} (a quarter of it)"
        )
    most = <long long>(largest_of(capacity) - sizeof(Record) - names_length - ID_ROOM)
    raise EventTooLarge(
        f"the event takes {body_length} bytes; a log of {capacity} bytes takes events up to {most} (a quarter of it)"
    )


cdef uint64_t measure_batch(uint64_t capacity, uint64_t smallest, size_t id_length, list batch, list into) except? 0:
    """Bytes that a batch takes of a log of this capacity, where one event takes a quarter of `smallest` at most; its largest
    record may need as much again for a pad before it.

    id_length: of the id line of its last event. In `into`, which may be the same list, an event of several channels
    or with a key becomes (packed names, body, flags). Raises TypeError, InvalidEvent, EventTooLarge or BatchTooLarge.
    """
    cdef object pair, channel, body
    cdef uint64_t records = 0
    cdef uint16_t flags
    cdef const char* names
    cdef size_t names_length
    cdef Py_ssize_t i, further = 0
    for i in range(PyList_GET_SIZE(batch)):
        pair = <object>PyList_GET_ITEM(batch, i)
        if type(pair) is not tuple or PyTuple_GET_SIZE(pair) != 2:
            raise TypeError(NO_EVENT)
        channel = <object>PyTuple_GET_ITEM(pair, 0)
        body = <object>PyTuple_GET_ITEM(pair, 1)
        flags = 0
        if PyTuple_Check(channel):
            further += PyTuple_GET_SIZE(channel) - 1
            if i + 1 + further > MOST_NAMES:  # before they are looked through
                refuse_names_over_batch(i + 1 + further)
            channel = pack_names(channel, &flags)
            if into is not None:
                into[i] = (channel, body, flags) if flags else (channel, body)
        if not PyBytes_Check(channel) or not PyBytes_Check(body):
            raise TypeError(NO_EVENT)
        names = PyBytes_AS_STRING(channel)
        names_length = PyBytes_GET_SIZE(channel)
        refuse_oversize(smallest, names, names_length, flags, PyBytes_GET_SIZE(body))
        records += record_length(names, names_length, flags, PyBytes_GET_SIZE(body) + id_length)
    if records > largest_batch_of(capacity) and PyList_GET_SIZE(batch) > 1:
        raise BatchTooLarge(
            f"the batch takes {records} bytes of the log, and at most {largest_batch_of(capacity)} are "
            "appended at once (a quarter of the log, 32 MiB at most); send it in several"
        )
    return records
