"""The names of a record's channels: of one its bytes as they stand, of several (FLAG_SEVERAL) each behind its length. A mark
has none: it is for all. Behind them stands the hash of the conflation key, if the event has one (FLAG_KEYED): the same in
every process and after every restart, so it is keyed with nothing. Who may publish to a channel gains nothing by keys
of one hash: what one of his events supersedes he could have superseded by its own key.

The lengths have two bytes, in the machine's order, as all of the log.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.string cimport memcpy, memset

from sse_fast._native.base.siphash cimport KEY, number_of
from sse_fast._native.log.layout cimport FLAG_MARK

from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import Keyed

cdef const unsigned char* NO_SECRET = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


cdef bytes pack_names(object channels, uint16_t* flags):
    """Names as a record has them, each once, and what its `flags` say of them. `channels`: a tuple, or Keyed."""
    cdef bytes packed = _packed(tuple(channels), flags)
    if type(channels) is Keyed:
        packed += _hash_of(channels.key)
        flags[0] |= FLAG_KEYED
        if PyBytes_GET_SIZE(packed) > 0xFFFF:
            raise InvalidEvent(f"the names of {len(channels)} channels take {len(packed)} bytes; a record has room for 65535")
    return packed


cdef bytes _hash_of(bytes key):
    cdef uint64_t hashed = number_of(NO_SECRET, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    return PyBytes_FromStringAndSize(<char*>&hashed, KEY_ROOM)


cdef bytes _packed(tuple channels, uint16_t* flags):
    cdef bytes name, packed
    cdef uint16_t length
    cdef char* to
    for name in channels:
        if name is None:
            raise TypeError("a channel's name is bytes, not None")
        if PyBytes_GET_SIZE(name) > 0xFFFF:
            raise InvalidEvent(f"the channel name has {len(name)} bytes; 65535 is the most a record can name")
    flags[0] = 0
    if PyTuple_GET_SIZE(channels) == 1:
        return channels[0]
    if PyTuple_GET_SIZE(channels) == 0:
        raise InvalidEvent("an event has at least one channel")
    cdef list once = list(dict.fromkeys(channels))
    if len(once) == 1:
        return once[0]
    packed = PyBytes_FromStringAndSize(NULL, sum([2 + len(name) for name in once]))
    to = PyBytes_AS_STRING(packed)
    for name in once:
        length = <uint16_t>PyBytes_GET_SIZE(name)
        memcpy(to, &length, 2)
        memcpy(to + 2, PyBytes_AS_STRING(name), length)
        to += 2 + length
    if PyBytes_GET_SIZE(packed) > 0xFFFF:
        raise InvalidEvent(f"the names of {len(once)} channels take {len(packed)} bytes; a record has room for 65535")
    flags[0] = FLAG_SEVERAL
    return packed


cdef tuple unpack_names(bytes packed, uint16_t flags):
    """The names that a record with these `flags` has. ValueError where these bytes are none."""
    cdef const char* at = PyBytes_AS_STRING(packed)
    cdef const char* end = at + PyBytes_GET_SIZE(packed)
    cdef list names
    if flags & FLAG_MARK:
        return ()
    if flags & FLAG_KEYED:
        if PyBytes_GET_SIZE(packed) < KEY_ROOM:
            raise ValueError("the names of a record's channels are shorter than the hash behind them")
        packed = packed[:PyBytes_GET_SIZE(packed) - KEY_ROOM]
        at, end = PyBytes_AS_STRING(packed), PyBytes_AS_STRING(packed) + PyBytes_GET_SIZE(packed)
    if not flags & FLAG_SEVERAL:
        return (packed,)
    if not are_names(at, PyBytes_GET_SIZE(packed)):
        raise ValueError("the names of a record's channels have contradictory lengths")
    names = []
    while at < end:
        names.append(PyBytes_FromStringAndSize(at + 2, name_length(at)))
        at += 2 + name_length(at)
    return tuple(names)


cdef bint are_names(const char* at, size_t length) noexcept nogil:
    """Whether these bytes, without a hash behind them, are the names of several channels."""
    cdef const char* end = at + length
    cdef size_t count = 0
    while end - at >= 2 and end - at - 2 >= name_length(at):
        at += 2 + name_length(at)
        count += 1
    return at == end and count > 1
