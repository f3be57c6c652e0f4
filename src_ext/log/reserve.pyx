"""What a log keeps of the channels of some patterns beyond the rest, so that nobody else's events take its place.

Each reserve is a ring of its own behind the log's, in the same segment. What the log gives up to make room goes there
first, as it stands, if one of its channels is of the reserve's pattern; a reserve gives up its own oldest. So a reserve has
nothing that the log still keeps, but for what a dead writer had not given up yet, and all before it; positions rise through
both, and to append costs nothing more before the log is full.

A writer may die between any two stores. It gives a record to a reserve before it moves the log's tail past it: then the
next writer gives it up again, and the reserve knows by its position that it has it (`kept`: the entry that counts is the
one whose head is the reserve's, so it changes with the head).

The first pattern of the list that has a channel says where it goes; one that reserves nothing (`size` 0) sends it nowhere.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.base.atomics cimport fence_release, store_release
from sse_fast._native.base.siphash cimport number_of
from sse_fast._native.log.layout cimport FLAG_MARK, LogHeader, Record, largest_of
from sse_fast._native.log.names cimport FLAG_KEYED, FLAG_SEVERAL, KEY_ROOM, name_length
from sse_fast._native.log.patterns cimport covers, fits, meet
from sse_fast._native.log.sources cimport HIDDEN

cdef const unsigned char* NO_SECRET = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


@cython.final
cdef class Reserves:
    """Reserves(given): of (pattern, size) of a log, in their order, the pattern well formed, size 0: nothing is reserved."""

    def __cinit__(self, given):
        self._given = tuple([(bytes(pattern), int(size)) for pattern, size in given])
        self.given = len(self._given)
        self.all = <Reserve*>PyMem_RawCalloc(self.given + 1, sizeof(Reserve))
        if self.all == NULL:
            raise MemoryError
        for i in range(self.given):
            pattern, size = self._given[i]
            self.all[i].pattern = PyBytes_AS_STRING(pattern)
            self.all[i].length = PyBytes_GET_SIZE(pattern)
            self.count += size > 0

    def __dealloc__(self):
        PyMem_RawFree(self.all)

    cdef uint64_t whose(self, int which) except? 0:
        """A hash of what says which channels are one's: its pattern, and those before it."""
        cdef bytes said = repr(self._given[:which + 1]).encode()
        return number_of(NO_SECRET, PyBytes_AS_STRING(said), PyBytes_GET_SIZE(said)) | 1

    cdef int open(self, int which, LogHeader* header, char* data, uint64_t missing) except -1:
        """One is there, laid out. A new one has nothing that the log gave up before it was there: up to `missing`."""
        cdef uint64_t whose = self.whose(which)
        if header.whose != whose:
            header.missing = missing
            header.kept[0].position = missing
            fence_release()
            header.whose = whose
        self.all[which].header, self.all[which].data = header, data
        return 0

    cdef uint32_t of(self, bytes name) noexcept:
        """The number of a channel's reserve, from 1 on; 0: it has none."""
        cdef int i
        cdef uint32_t number = 0
        for i in range(self.given):
            number += self.all[i].header != NULL
            if fits(self.all[i].pattern, self.all[i].length, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
                return number if self.all[i].header != NULL else 0
        return 0

    cdef bint cover(self, bytes pattern) noexcept:
        """Whether each channel of a pattern has a reserve, one or another."""
        cdef int i
        for i in range(self.given):
            if self.all[i].header == NULL and meet(<bytes>(<tuple>self._given[i])[0], pattern):
                return False
            if covers(<bytes>(<tuple>self._given[i])[0], pattern):
                return True
        return False


    cdef bint meets(self, uint32_t number, bytes pattern) noexcept:
        """Whether a channel of a pattern can have the reserve of that number."""
        cdef int i
        for i in range(self.given):
            number -= self.all[i].header != NULL
            if number == 0:
                return meet(<bytes>(<tuple>self._given[i])[0], pattern)
        return False


cdef inline uint64_t kept_until(const LogHeader* header) noexcept nogil:
    """Position of what a reserve was given last."""
    return header.kept[0 if header.kept[0].head == header.head else 1].position


cdef void put(Reserve* reserve, const Record* record) noexcept nogil:
    """Under the log's lock: a record goes into a reserve, unless it is there."""
    cdef LogHeader* header = reserve.header
    cdef uint64_t head = header.head, start
    cdef int other = header.kept[0].head == head
    if record.position <= kept_until(header):
        return
    if record.length > largest_of(header.capacity):     # of before there was the reserve: others are refused
        header.missing = record.position
        return
    start = make_way(header, reserve.data, head, record.length, NULL, 0)
    memcpy(reserve.data + (start & (header.capacity - 1)), record, record.length)
    header.kept[other].head = start + record.length
    header.kept[other].position = record.position
    fence_release()
    header.next_position = record.position + 1
    fence_release()
    store_release(&header.head, start + record.length)


cdef void keep_of(Reserve* reserves, int given, const char* name, size_t length, const Record* record) noexcept nogil:
    cdef int i
    if length and name[0] == HIDDEN:        # its topics stand behind it
        return
    for i in range(given):
        if fits(reserves[i].pattern, reserves[i].length, name, length):
            if reserves[i].header != NULL:
                put(&reserves[i], record)
            return


cdef void keep(Reserve* reserves, int given, const Record* record) noexcept nogil:
    """Under the log's lock: a record is about to be given up."""
    cdef const char* name = <const char*>record + sizeof(Record)
    cdef const char* end = name + record.names_length
    if record.flags & FLAG_MARK:
        return
    if record.flags & FLAG_KEYED:
        end -= KEY_ROOM
    if not record.flags & FLAG_SEVERAL:
        keep_of(reserves, given, name, end - name, record)
        return
    while name < end:
        keep_of(reserves, given, name + 2, name_length(name), record)
        name += 2 + name_length(name)
