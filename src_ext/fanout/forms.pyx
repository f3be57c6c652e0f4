"""Another form of a piece that was cut from the log; so far there is one, events in envelopes.

The law of this file: a form is made once for all who want it (law 1). So streams of the same channels in another form are
a group of their own: they share its pieces as any group does, and cost the others nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.index cimport Channel, Entry, Index
from sse_fast._native.log.names cimport unpack_names
from sse_fast._native.log.ring cimport READ_OK, Record
from sse_fast._native.wire.envelope cimport enveloped


cdef bytes in_envelopes(Index index, tuple channels, bytes piece, uint32_t events):
    """The piece of so many events that `index.cut` has just returned, each of them in an envelope.

    None if the log took them away meanwhile; then `evict` has run, and `lost_after` knows.
    """
    cdef:
        list records = [], made = []
        const char* frame = PyBytes_AS_STRING(piece)
        uint64_t offset, first = index.entry(index._merged[0]).offset
        uint32_t i
        Entry* entry
        Record record
        bytes names
        tuple only = ((<Channel>channels[0]).name,) if len(channels) == 1 else None
        object listened = None if only is not None else {(<Channel>channel).name for channel in channels}
    # First copy, then look whether it was real (see ring), then read what was copied.
    for i in range(events):
        entry = index.entry(index._merged[i])
        offset = entry.offset
        if index.log.read_record(&offset, &record) != READ_OK:
            index.evict()
            return None
        names = None
        if only is None:
            names = PyBytes_FromStringAndSize(index.log.names_at(offset), entry.names_length)
        records.append((names, record.flags, record.milliseconds))
    if not index.log.still_holds(first):
        index.evict()
        return None
    for i in range(events):
        named, flags, milliseconds = <object>PyList_GET_ITEM(records, i)
        which = only
        if which is None:
            which = tuple([name for name in unpack_names(named, flags) if name in listened])
        entry = index.entry(index._merged[i])
        made.append(enveloped(frame, entry.frame_length, which, milliseconds))
        frame += entry.frame_length
    made.append(PyBytes_FromStringAndSize(frame, PyBytes_AS_STRING(piece) + PyBytes_GET_SIZE(piece) - frame))   # a mark's `$gap`
    return b"".join(made)
