"""Buckets: how often each of many keys was used lately, over all workers of a node, in one segment that all of them map.

The generic cell rate algorithm (ITU-T I.371, annex A), which says the same as a token bucket by one number. Of each key
there is one time, that at which all that it has spent would have come in again at its rate. To spend moves it on; who
would move it further than a burst ahead of now is refused, and told how long it is until then.
What it keeps: a key's hash and that time, 16 bytes. A time that is over says as much as none, so nothing is lost with it.
What it drops: in the set of WAYS places that a key may have, where all are taken, the key whose time is over first. It may
spend a whole burst again: `evicted` counts those.
Who is told: nobody.

Nobody waits, and no lock is left behind by who dies: a time is moved by compare-and-swap, and a place changes its key while
it says that it has none (TAKEN). Who moved the time of a place that was given away meanwhile takes that back and looks
again. Two workers that meet a key for the first time at once may give it two places; the second is never found again, so
such a key may spend one more.

What is hashed is keyed with a secret of this table: clients cannot choose keys that push out one another's. It knows no clock
but the machine's, and not what its keys are.
"""

import secrets

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from sse_fast._native.base.atomics cimport compare_exchange, load_acquire, load_relaxed, store_relaxed, store_release, subtract
from sse_fast._native.base.clock cimport monotonic_ns
from sse_fast._native.base.pages cimport private_memory
from sse_fast._native.base.siphash cimport KEY, number_of

cdef enum:
    LAYOUT = 1
    WAYS = 8                        # places that a key may have: two cache lines
    PATIENCE = 64                   # looks at a place that is just given away; who gives it may have died
    FREE = 0
    TAKEN = 1
    FIRST_KEY = 2

cdef bytes MAGIC = b"sse_rate"
cdef double FURTHEST = 1e17         # nanoseconds that one use moves a time at most: three years

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t unused
    uint64_t sets                   # a power of two
    uint64_t evicted
    char secret[KEY]
    char padding[16]                # sets begin at cache lines

cdef struct Bucket:
    uint64_t key
    uint64_t spent_until            # CLOCK_MONOTONIC, nanoseconds


cdef inline uint64_t sets_for(uint64_t keys):
    """So that few sets are full when that many keys are there."""
    return 1 << (max(2 * int(keys) // WAYS, 1) - 1).bit_length()


@cython.final
cdef class Buckets:
    """Buckets(memory, keys=0): a segment of `Buckets.size(keys)` bytes.

    With `keys`, how many there are to be room for, a new one is laid out, else the one that is there is read. Raises
    ValueError for a segment that is none.
    """

    cdef:
        Py_buffer _view
        Header* _header
        Bucket* _buckets
        uint64_t _sets

    def __cinit__(self, memory, uint64_t keys=0):
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self._header = <Header*>self._view.buf
        cdef uint64_t length = self._view.len
        cdef bytes secret
        if length < sizeof(Header):
            raise ValueError("this memory is too small for buckets")
        if keys:
            if length < Buckets.size(keys):
                raise ValueError(f"buckets of {keys} keys take {Buckets.size(keys)} bytes, this memory has {length}")
            secret = secrets.token_bytes(KEY)
            self._header.layout = LAYOUT
            self._header.sets = sets_for(keys)
            memcpy(self._header.secret, PyBytes_AS_STRING(secret), KEY)
            memcpy(self._header.magic, PyBytes_AS_STRING(MAGIC), 8)
        elif memcmp(self._header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0 or self._header.layout != LAYOUT:
            raise ValueError("this memory does not hold the buckets of a node, or those of another version")
        self._sets = self._header.sets
        if (
            not self._sets
            or self._sets & (self._sets - 1)
            or self._sets > (length - sizeof(Header)) // (WAYS * sizeof(Bucket))
        ):
            raise ValueError(f"this memory does not hold the {self._sets} sets of buckets that it says it has")
        self._buckets = <Bucket*>(<char*>self._header + sizeof(Header))

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    @staticmethod
    def size(uint64_t keys):
        """Bytes that a segment takes."""
        return sizeof(Header) + sets_for(keys) * WAYS * sizeof(Bucket)

    @classmethod
    def private(cls, uint64_t keys):
        """Of this process alone."""
        return cls(private_memory(cls.size(keys)), keys)

    @property
    def room(self):
        """Keys that there are places for."""
        return self._sets * WAYS

    @property
    def evicted(self):
        """Keys that were dropped before their time was over."""
        return load_relaxed(&self._header.evicted)

    cdef Bucket* _find(self, uint64_t key) noexcept nogil:
        """The place of a key; NULL: it has none."""
        cdef Bucket* places = self._buckets + (key & (self._sets - 1)) * WAYS
        cdef int i
        for i in range(WAYS):
            if load_acquire(&places[i].key) == key:
                return &places[i]
        return NULL

    cdef Bucket* _open(self, uint64_t key, uint64_t now) noexcept nogil:
        """The place of a key, which may be given to it now."""
        cdef Bucket* places = self._buckets + (key & (self._sets - 1)) * WAYS
        cdef Bucket* first
        cdef uint64_t found, until, first_key, first_until
        cdef int i, looks = 0
        cdef bint waits
        while True:
            first, waits = NULL, False
            first_key = first_until = 0
            for i in range(WAYS):
                found = load_acquire(&places[i].key)
                if found == key:
                    return &places[i]
                waits = waits or found == TAKEN
                until = load_relaxed(&places[i].spent_until) if found >= FIRST_KEY else 0
                if first == NULL or until < first_until:
                    first, first_key, first_until = &places[i], found, until
            looks += 1
            if waits and looks < PATIENCE:      # it may become this key's
                continue
            if compare_exchange(&first.key, first_key, TAKEN):
                if first_until > now:
                    subtract(&self._header.evicted, <uint64_t>-1)
                store_relaxed(&first.spent_until, 0)
                store_release(&first.key, key)
                return first

    cdef int64_t _spend(self, uint64_t key, uint64_t amount, uint64_t room, uint64_t burst, uint64_t now) noexcept nogil:
        """Move the key's time on by `amount`, if then, or were it by `room`, it is no more than `burst` ahead. Returns
        0, or how long it is until that is so. All in nanoseconds."""
        cdef Bucket* bucket
        cdef uint64_t until, begin
        while True:
            bucket = self._open(key, now)
            until = load_acquire(&bucket.spent_until)
            begin = max(until, now)
            if begin - now > burst - room:
                if load_acquire(&bucket.key) == key:
                    return <int64_t>min(begin - now - (burst - room), <uint64_t>FURTHEST)
            elif compare_exchange(&bucket.spent_until, until, begin + amount):
                if load_acquire(&bucket.key) == key:
                    return 0
                subtract(&bucket.spent_until, amount)


@cython.final
cdef class Limit:
    """Limit(buckets, kind, count, seconds, burst): of each key, `count` in so many seconds, `burst` of them at once.

    `kind`: up to 255; limits of one kind share their keys' buckets, so they must be alike.
    """

    cdef:
        Buckets _buckets
        unsigned char _key[KEY]
        double _interval            # nanoseconds that one takes to come in again
        uint64_t _burst             # in nanoseconds
        readonly uint64_t most      # at once

    def __cinit__(self, Buckets buckets not None, unsigned char kind, double count, double seconds, uint64_t burst):
        if not (count > 0 and seconds > 0 and burst > 0 and burst * (1e9 * seconds / count) < FURTHEST):
            raise ValueError(f"{count:g} in {seconds:g} s, {burst} at once, is no rate")
        self._buckets = buckets
        memcpy(self._key, buckets._header.secret, KEY)
        self._key[0] ^= kind
        self._interval = 1e9 * seconds / count
        self._burst = max(<uint64_t>(burst * self._interval), 1)
        self.most = burst

    def spend(self, bytes name not None, uint64_t cost=1, now=None):
        """Use so much of the key of this name. Returns 0.0; or in how many seconds there will be so much, and then nothing
        was used. More than comes at once may be used when nothing is owed; then the rest is owed. `now`: nanoseconds, for
        tests."""
        cdef uint64_t at = monotonic_ns() if now is None else now
        cdef uint64_t amount = self._amount(cost)
        return self._buckets._spend(self._hashed(name), amount, min(amount, self._burst), self._burst, at) / 1e9

    def give_back(self, bytes name not None, uint64_t cost=1):
        """What was used was not."""
        cdef Bucket* bucket = self._buckets._find(self._hashed(name))
        cdef uint64_t amount = self._amount(cost), until
        while bucket != NULL:
            until = load_acquire(&bucket.spent_until)
            if compare_exchange(&bucket.spent_until, until, until - min(amount, until)):
                return

    cdef inline uint64_t _hashed(self, bytes name) noexcept:
        return max(number_of(self._key, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)), <uint64_t>FIRST_KEY)

    cdef inline uint64_t _amount(self, uint64_t cost) noexcept:
        """Rounded down, as the burst is: so many really fit."""
        return max(<uint64_t>min(cost * self._interval, FURTHEST), <uint64_t>(cost > 0))
