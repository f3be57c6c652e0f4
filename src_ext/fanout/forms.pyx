"""Another form of a piece that was cut from the log; so far there is one, events in envelopes.

The law of this file: a form is made once for all who want it (law 1). So streams of the same channels in another form are
a group of their own: they share its pieces as any group does, and cost the others nothing. Those who stand at different
places, as after a restart, share what their pieces are made of: each event in its envelope is remembered for a while.

What is remembered is bounded in number and bytes, the oldest goes first, and all of it goes with the last group. To
remember allocates nothing; where there is no memory for the table, events are put into envelopes again and again.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Entry, Index, Piece
from sse_fast._native.log.layout cimport FLAG_NAMED
from sse_fast._native.log.names cimport unpack_names
from sse_fast._native.log.ring cimport READ_OK, Record
from sse_fast._native.log.selection cimport Selection
from sse_fast._native.log.sources cimport is_hidden
from sse_fast._native.wire.envelope cimport enveloped

cdef enum:
    BITS = 12
    SLOTS = 1 << BITS
    MOST_BYTES = 1 << 20            # remembered at once
    AROUND = 48                     # bytes that an object of bytes takes beside them


cdef inline uint64_t hash_of(uint64_t group, uint64_t event) noexcept:
    return ((event ^ (group << 32)) * <uint64_t>0x9E3779B97F4A7C15) >> (64 - BITS)


cdef class Envelopes:
    """Events in envelopes, for all groups of a fan-out that want them."""

    def __dealloc__(self):
        self._forget_all()

    cdef uint64_t begin(self) noexcept:
        """One more group wants envelopes. Returns what it is called here, and no other before or after it."""
        self._groups += 1
        self._begun += 1
        return self._begun

    cdef void end(self) noexcept:
        self._groups -= 1
        if self._groups == 0:
            self._forget_all()

    cdef bytes of_piece(
        self, Index index, uint64_t group, tuple channels, Selection selection, bytes plain, Piece* piece, uint32_t limit
    ):
        """The piece `plain` that has just been cut, each of its events in an envelope.

        Where that is longer than `limit` the piece becomes shorter, but for its first event. None if the log took events
        away meanwhile: then `piece.end` is 0, `evict` has run, and `lost_after` knows.
        """
        cdef:
            list made = []
            const char* begin = PyBytes_AS_STRING(plain)
            const char* frame = begin
            Py_ssize_t length = 0, rest
            uint64_t number
            uint32_t i, taken = 0
            bytes inside
            object listened = None
        for i in range(piece.events):
            number = index._merged[i]
            inside = self._find(group, number)
            if inside is None:
                if listened is None:
                    listened = names_of(channels) if selection is None else selection
                inside = make(index, number, listened, frame)
                if inside is None:
                    piece.end = 0
                    piece.more = False
                    return None
                self.made += 1
                self._remember(group, number, inside)
            if taken and length + PyBytes_GET_SIZE(inside) > limit:
                break
            made.append(inside)
            taken += 1
            length += PyBytes_GET_SIZE(inside)
            frame += index.entry(number).frame_length
        if taken == piece.events:
            rest = begin + PyBytes_GET_SIZE(plain) - frame      # a mark's `$gap`
            if rest == 0:
                return b"".join(made)
            if taken == 0 or length + rest <= limit:
                made.append(PyBytes_FromStringAndSize(frame, rest))
                return b"".join(made)
        piece.events = taken
        piece.length = <uint32_t>(frame - begin)
        piece.end = index.entry(index._merged[taken - 1]).position
        piece.at = 0
        piece.more = True
        return b"".join(made)

    # ---- what is remembered: a ring of slots, oldest first, and lists of those with the same hash, newest first ------

    cdef bytes _find(self, uint64_t group, uint64_t event):
        cdef Made* slot
        cdef uint64_t number
        if self._slots == NULL:
            return None
        number = self._newest[hash_of(group, event)]
        while number > self._forgotten:
            slot = &self._slots[number % SLOTS]
            if slot.event == event and slot.group == group:
                return <bytes>slot.frame
            number = slot.before
        return None

    cdef void _remember(self, uint64_t group, uint64_t event, bytes frame) noexcept:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame) + AROUND
        cdef Made* slot
        cdef uint64_t* newest
        if size > MOST_BYTES or not self._has_table():
            return
        while self._bytes + size > MOST_BYTES or self._remembered - self._forgotten == SLOTS:
            self._forget_oldest()
        self._remembered += 1
        newest = &self._newest[hash_of(group, event)]
        slot = &self._slots[self._remembered % SLOTS]
        slot.group, slot.event, slot.before, slot.frame = group, event, newest[0], <PyObject*>frame
        Py_INCREF(frame)
        newest[0] = self._remembered
        self._bytes += size

    cdef bint _has_table(self) noexcept:
        if self._slots == NULL:
            self._slots = <Made*>PyMem_RawCalloc(SLOTS, sizeof(Made))
            self._newest = <uint64_t*>PyMem_RawCalloc(SLOTS, sizeof(uint64_t))
            if self._slots == NULL or self._newest == NULL:
                self._forget_all()
        return self._slots != NULL

    cdef void _forget_oldest(self) noexcept:
        self._forgotten += 1
        cdef object frame = <object>self._slots[self._forgotten % SLOTS].frame
        self._bytes -= PyBytes_GET_SIZE(frame) + AROUND
        Py_DECREF(frame)

    cdef void _forget_all(self) noexcept:
        while self._forgotten < self._remembered:
            self._forget_oldest()
        PyMem_RawFree(self._slots)
        PyMem_RawFree(self._newest)
        self._slots = NULL
        self._newest = NULL


cdef object names_of(tuple channels):
    """What `make` asks, where there are no patterns: the one channel's name in a tuple, or the set of them."""
    if len(channels) == 1:
        return ((<Channel>channels[0]).name,)
    return {(<Channel>channel).name for channel in channels}


cdef bytes make(Index index, uint64_t number, object listened, const char* frame):
    """The event of an entry, whose frame this is, in an envelope; None if the log took it away, and `evict` has run."""
    cdef Entry* entry = index.entry(number)
    cdef uint64_t offset = entry.offset
    cdef Record record
    cdef bytes names = None
    # First copy, then look whether it was real (see ring), then read what was copied.
    cdef bint read = index.log.read_record(&offset, &record) == READ_OK
    if read and type(listened) is not tuple:
        names = PyBytes_FromStringAndSize(index.log.names_at(offset), entry.names_length)
    if not read or not index.log.still_holds(entry.offset):
        index.evict()
        return None
    if names is not None:
        named = unpack_names(names, record.flags)
        if is_hidden(<bytes>named[0]):
            named = named[1:]
        if type(listened) is set:
            listened = tuple([name for name in named if name in listened])
        else:
            listened = tuple([name for name in named if (<Selection>listened).has_name(name)])
    cdef bytes further = b',"at":"%b"' % index.log.event_id(record.position).encode() if record.flags & FLAG_NAMED else b""
    if index.is_private(number):
        further += b',"private":true'
    return enveloped(frame, entry.frame_length, listened, record.milliseconds, further)
