"""Idempotency keys: which were given lately, what came with them, and the position that it got.

What it keeps: digests of the newest keys, up to as many as there is room for, each for `window` after its first use.
What it drops: the oldest, when room is needed. Who is told: `forgotten` counts those whose window had not ended.

How it is laid out. The entries are a ring, numbered from 1 in the order in which keys came; the newest overwrites the
oldest. Each knows the one before it in its hash chain, and a chain is entered at its newest. So numbers fall along a
chain, and it ends where they are no longer in the ring, or too old: nothing is ever taken out of a chain.

How an append and its keys are one step. Both are done under the log's lock, and the log's header has the number of the
last key that counts, `keys`. A writer fills entries beyond it, which count for nothing, writes its records beyond
`head`, then notes in the header what `keys` will be and which `head` it began at, and stores `head`. That store
decides: the next writer that has the lock and finds such a note compares `head` (`Log._settle_keys`), so that a writer that
dies at any instruction leaves its events with their keys, or neither. Entries that count are put into their chains
after that, by their writer or by the next user of the table; to do it again changes nothing.

What is hashed is keyed with a secret of this table: publishers cannot choose keys that collide in one chain. No key is in
here as it was given. It knows no clock but the machine's, and not what a key looks like.
"""

import secrets

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sse_fast._native.base.atomics cimport fence_release, store_release
from sse_fast._native.base.clock cimport monotonic_ns, wall_clock_ms
from sse_fast._native.base.pages cimport prefetch, private_memory
from sse_fast._native.log.ring cimport Log

from sse_fast.errors import BatchTooLarge, KeyReused

cdef enum:
    LAYOUT = 1
    AHEAD = 16                      # keys: so long before its turn the memory of one is asked for, as each is elsewhere
    DONE = -1
    BEYOND_LIMIT = -2

cdef uint64_t MOST_ROOM = <uint64_t>1 << 32

cpdef enum:
    DIGEST = 16                     # bytes of the digest of a key, and of what came with it

cdef uint64_t NO_LIMIT = <uint64_t>-1

cdef bytes MAGIC = b"sse_keys"

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t unused
    uint64_t room                   # entries, a power of two
    uint64_t window                 # milliseconds
    char secret[16]
    uint64_t linked                 # entries up to this number are in their chains
    uint64_t forgotten              # keys that were overwritten within their window
    char padding[64]

cdef struct Entry:
    uint64_t number                 # which one this is; any other than its place's: it is not whole
    uint64_t previous               # in its chain
    uint64_t key[2]
    uint64_t body[2]
    uint64_t position               # of the first event
    uint64_t milliseconds           # CLOCK_MONOTONIC
    uint64_t count                  # events, at consecutive positions


cdef inline uint64_t room_for(uint64_t keys):
    return 1 << max(4, (int(keys) - 1).bit_length())


@cython.final
cdef class KeysOfEvents:
    """KeysOfEvents(count): the keys of those of so many events that have one, each with a digest of its event.

    Packed before the log's lock is taken, in as many turns as it likes: under the lock nothing is left but to look.
    """

    cdef:
        readonly Py_ssize_t count
        readonly Py_ssize_t different
        """Keys, of which each may have come several times."""
        char* _digests
        uint32_t* _firsts           # of each event: the number, from 1, of the first with its key; 0: it has none
        uint32_t* _slots            # those numbers by their keys, in the next place that was free
        uint64_t _mask

    def __cinit__(self, Py_ssize_t count):
        if not 0 < count <= 1 << 30:
            raise ValueError(f"{count} events have no keys")
        cdef uint64_t slots = room_for(2 * count)
        self.count = count
        self._mask = slots - 1
        self._digests = <char*>PyMem_Calloc(count, 2 * DIGEST)
        self._firsts = <uint32_t*>PyMem_Calloc(count, sizeof(uint32_t))
        self._slots = <uint32_t*>PyMem_Calloc(slots, sizeof(uint32_t))
        if self._digests == NULL or self._firsts == NULL or self._slots == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._digests)
        PyMem_Free(self._firsts)
        PyMem_Free(self._slots)

    def put(self, Py_ssize_t place, digest not None):
        """The key of the event at `place`: its digest and, behind it, that of the event, 32 bytes. Raises KeyReused where
        another event of these has it."""
        cdef const char* given = whole_digest(digest)
        if not 0 <= place < self.count:
            raise IndexError(f"there are {self.count} events, none at {place}")
        if self._firsts[place]:
            raise ValueError(f"event {place} has a key")
        cdef uint64_t hashed
        cdef uint32_t number = place + 1
        cdef const char* other
        memcpy(&hashed, given, sizeof(hashed))
        while self._slots[hashed & self._mask]:
            other = self._digests + 2 * DIGEST * (self._slots[hashed & self._mask] - 1)
            if memcmp(other, given, DIGEST) == 0:
                if memcmp(other + DIGEST, given + DIGEST, DIGEST) != 0:
                    raise KeyReused.at(place, <Py_ssize_t>self._slots[hashed & self._mask] - 1)
                number = self._slots[hashed & self._mask]
                break
            hashed += 1
        if number == place + 1:
            self._slots[hashed & self._mask] = number
            self.different += 1
        memcpy(self._digests + 2 * DIGEST * place, given, 2 * DIGEST)
        self._firsts[place] = number


@cython.final
cdef class KeyTable:
    """KeyTable(memory, keys=0, window=0): a table over a writable buffer of `KeyTable.size(keys)` bytes.

    With a number of `keys` a new one is laid out, that remembers each for `window` milliseconds; else the one that is
    there is read. It goes with one log, whose writers all use it. Raises ValueError for memory that is none.
    """

    cdef:
        Py_buffer _view
        Header* _header
        uint64_t* _chains           # the number of the newest entry of each
        Entry* _entries
        uint64_t _mask
        readonly int64_t repeated
        """Events that this process was given again, and did not publish again."""
        public int64_t ahead
        """Milliseconds that this process takes it to be later than it is: for tests."""

    def __cinit__(self, memory, keys=0, window=0):
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self._header = <Header*>self._view.buf
        if self._view.len < <Py_ssize_t>sizeof(Header):
            raise ValueError(f"this memory has {self._view.len} bytes, too few for a table of keys")
        if keys:
            self._lay_out(room_for(keys), window)
        elif memcmp(self._header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0 or self._header.layout != LAYOUT:
            raise ValueError("this memory is not a table of keys of this version")
        refuse_room(self._header.room)
        if self._view.len != <Py_ssize_t>size_of(self._header.room):
            raise ValueError(f"a table of {self._header.room} keys has {size_of(self._header.room)} bytes, not {self._view.len}")
        self._mask = self._header.room - 1
        self._chains = <uint64_t*>(<char*>self._header + sizeof(Header))
        self._entries = <Entry*>(self._chains + self._header.room)

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    cdef int _lay_out(self, uint64_t room, uint64_t window) except -1:
        refuse_room(room)
        if self._view.len != <Py_ssize_t>size_of(room):
            raise ValueError(f"a table of {room} keys has {size_of(room)} bytes, not {self._view.len}; use KeyTable.size()")
        cdef bytes secret = secrets.token_bytes(16)
        # Memory of a new segment is zero, and is left untouched: it is had when keys come.
        self._header.layout = LAYOUT
        self._header.room = room
        self._header.window = window
        memcpy(self._header.secret, PyBytes_AS_STRING(secret), 16)
        fence_release()
        memcpy(self._header.magic, PyBytes_AS_STRING(MAGIC), 8)
        return 0

    @staticmethod
    def size(keys):
        """Bytes of memory for so many keys, rounded up to a power of two: 80 for each, and 128."""
        return size_of(room_for(keys))

    @classmethod
    def private(cls, keys, window):
        """A table in this process's own memory. Raises ValueError for fewer than 1 key."""
        if keys < 1:
            raise ValueError(f"a table remembers 1 key or more, not {keys}")
        return cls(private_memory(cls.size(keys)), keys, window)

    @property
    def secret(self):
        """What keys are hashed with: 16 bytes."""
        return self._header.secret[:16]

    @property
    def room(self):
        """How many keys are remembered at most."""
        return self._header.room

    @property
    def window(self):
        """Milliseconds that a key is remembered."""
        return self._header.window

    @property
    def forgotten(self):
        """Keys that were forgotten within their window, for want of room: on all workers together."""
        return self._header.forgotten

    def append_once(self, Log log not None, events not None, keys not None, limit=None):
        """Append those events whose keys are new, as `Log.append_many`, and remember their keys: one step.

        `keys`: `KeysOfEvents`, or the key of all events together: its digest and, behind it, that of what comes with it,
        32 bytes. Returns (the positions of all events, those that were appended before included; how many those are;
        bytes of the others' frames as they are given; the lowest position), or None if something was to be appended and
        others have brought the head beyond `limit`.

        Raises KeyReused if a key was given before with something else, and as `append_many`: then nothing was appended.
        With MemoryError it may have been, and to come again with the same keys is right either way.
        """
        cdef list batch = list(events)      # nobody changes it under the lock, where nothing may fail
        cdef Py_ssize_t count = PyList_GET_SIZE(batch), i, found
        cdef KeysOfEvents each = None
        cdef const char* digests
        cdef const uint32_t* firsts = NULL
        if type(keys) is KeysOfEvents:
            each = keys
            if each.count != count:
                raise ValueError(f"{count} events have as many keys (or none), not {each.count}")
            if each.different > <Py_ssize_t>self._header.room:
                raise BatchTooLarge(
                    f"{each.different} keys came at once, and {self._header.room} are remembered; send them in several"
                )
            digests, firsts = each._digests, each._firsts
        else:
            digests = whole_digest(keys)
        if not count:
            raise ValueError("no events have no key")
        log._measure(batch, batch)
        cdef bytearray taken = bytearray(8 * count)
        cdef uint64_t* positions = <uint64_t*><char*>taken
        cdef Py_ssize_t repeated = 0
        cdef uint64_t size = 0, lowest
        log._acquire()
        log._refuse_if_outside()
        found = self._append(
            log, batch, digests, firsts, positions, NO_LIMIT if limit is None else limit, &repeated, &size
        )
        log._release()
        if found == BEYOND_LIMIT:
            return None
        if found != DONE:
            raise KeyReused.at(None if firsts == NULL else found)
        self.repeated += repeated
        lowest = positions[0]
        for i in range(1, count):
            lowest = min(lowest, positions[i])
        return memoryview(taken).cast("Q"), repeated, size, lowest

    # ---- under the log's lock ---------------------------------------------------------------------------------------

    cdef Py_ssize_t _append(
        self, Log log, list batch, const char* digests, const uint32_t* firsts, uint64_t* positions,
        uint64_t limit, Py_ssize_t* repeated, uint64_t* size,
    ) noexcept:
        """DONE, BEYOND_LIMIT, or the place of a key that was given before with something else. `firsts`: NULL where one
        key is of all events. A process may be killed between any two of these stores."""
        cdef uint64_t number = log.header.keys, head = log.header.head, position = log.header.next_position
        cdef uint64_t now = monotonic_ns() // 1_000_000 + self.ahead, milliseconds = wall_clock_ms()
        cdef Py_ssize_t count = PyList_GET_SIZE(batch), i
        cdef bint whole = firsts == NULL
        cdef const char* digest
        cdef Entry* entry
        cdef tuple event
        self._link(number)
        for i in range(1 if whole else count):
            if not whole and i + 2 * AHEAD < count:
                prefetch(self._chain_of(digests + 2 * DIGEST * (i + 2 * AHEAD)))
                prefetch(&self._entries[self._chain_of(digests + 2 * DIGEST * (i + AHEAD))[0] & self._mask])
            if not whole and firsts[i] != i + 1:
                continue
            digest = digests + 2 * DIGEST * i
            entry = self._find(digest, number, now)
            if entry == NULL:
                continue
            if memcmp(entry.body, digest + DIGEST, DIGEST) != 0 or entry.count != <uint64_t>(count if whole else 1):
                return i
            positions[i] = entry.position   # no event has the position 0
        if whole:
            for i in range(1, count):
                positions[i] = positions[0] + i if positions[0] else 0
        repeated[0] = 0
        for i in range(count):
            if positions[i] or (not whole and repeats(firsts, i)):
                repeated[0] += 1
        if repeated[0] == count:
            for i in range(count if not whole else 0):
                positions[i] = positions[firsts[i] - 1]
            return DONE
        if head > limit:
            return BEYOND_LIMIT

        for i in range(count):
            if not whole and repeats(firsts, i):
                positions[i] = positions[firsts[i] - 1]
            elif not positions[i]:
                event = <tuple>PyList_GET_ITEM(batch, i)
                size[0] += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(event, 1))
                head = log._write_event(event, head, position, milliseconds)
                if not whole and firsts[i]:
                    number += 1
                    self._fill(number, digests + 2 * DIGEST * i, position, 1, now)
                positions[i] = position
                position += 1
        if whole:
            number += 1
            self._fill(number, digests, positions[0], count, now)
        log._commit_with_keys(head, position, number)
        self._link(number)
        return DONE

    cdef Entry* _find(self, const char* digest, uint64_t newest, uint64_t now) noexcept nogil:
        """The entry of a key that is remembered, or NULL. `newest`: the number of the last that counts."""
        cdef uint64_t oldest = newest - self._header.room if newest > self._header.room else 0
        cdef uint64_t number = self._chain_of(digest)[0]
        cdef Entry* entry
        while oldest < number <= newest:
            entry = &self._entries[number & self._mask]
            # Where a writer that died was about to overwrite the oldest, these and all before them are gone.
            if entry.number != number or now - entry.milliseconds >= self._header.window:
                return NULL
            if memcmp(entry.key, digest, DIGEST) == 0:
                return entry
            if entry.previous >= number:    # which no writer leaves behind: but nobody looks for ever
                return NULL
            number = entry.previous
        return NULL

    cdef void _fill(self, uint64_t number, const char* digest, uint64_t position, uint64_t count, uint64_t now) noexcept nogil:
        cdef Entry* entry = &self._entries[number & self._mask]
        if entry.number and entry.number + self._header.room == number and now - entry.milliseconds < self._header.window:
            self._header.forgotten += 1
        entry.number = 0
        fence_release()
        memcpy(entry.key, digest, DIGEST)
        memcpy(entry.body, digest + DIGEST, DIGEST)
        entry.position = position
        entry.count = count
        entry.milliseconds = now
        store_release(&entry.number, number)

    cdef void _link(self, uint64_t newest) noexcept nogil:
        """Put all entries that count into their chains, in their order; those that are there stay where they are."""
        cdef uint64_t number = self._header.linked
        cdef Entry* entry
        cdef uint64_t* chain
        if newest > number and newest - number > self._header.room:
            number = newest - self._header.room
        while number < newest:
            number += 1
            if number + AHEAD <= newest:
                prefetch(self._chain_of(<const char*>self._entries[(number + AHEAD) & self._mask].key))
            entry = &self._entries[number & self._mask]
            if entry.number == number:
                chain = self._chain_of(<const char*>entry.key)
                if chain[0] < number:
                    entry.previous = chain[0]
                    store_release(chain, number)
            store_release(&self._header.linked, number)

    cdef uint64_t* _chain_of(self, const char* digest) noexcept nogil:
        cdef uint64_t hashed
        memcpy(&hashed, digest, sizeof(hashed))
        return &self._chains[hashed & self._mask]


cdef inline uint64_t size_of(uint64_t room) noexcept nogil:
    return sizeof(Header) + room * (sizeof(uint64_t) + sizeof(Entry))


cdef int refuse_room(uint64_t room) except -1:
    """Of any other the mask and the size would be wrong, and entries would lie outside the memory."""
    if room == 0 or room & (room - 1) or room > MOST_ROOM:
        raise ValueError(f"a table has room for a power of two of keys, up to {MOST_ROOM}, not for {room}")
    return 0


cdef inline bint repeats(const uint32_t* firsts, Py_ssize_t place) noexcept nogil:
    """Whether an event has the key of one before it in its batch."""
    return firsts[place] != 0 and firsts[place] != place + 1


cdef const char* whole_digest(digest) except NULL:
    if not PyBytes_CheckExact(digest) or PyBytes_GET_SIZE(digest) != 2 * DIGEST:
        raise TypeError(f"a key is {2 * DIGEST} bytes: its digest, and that of what comes with it")
    return PyBytes_AS_STRING(digest)
