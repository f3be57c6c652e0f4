"""The slots: what each worker of a node says of itself, in one segment that all of them and their parent map.

What it keeps: for each worker its wake-up flag, its process, its counters, its open streams, and how many of them each
client address has. A slot has one writer, the worker that holds its lock (see workers.py); the others read, and what
they read was true a moment ago. Only the wake-up flag is written by others: one that clears it wakes the worker.
What it drops: what a dead worker left, except its totals: the next worker in the slot counts on from them.

Why no wake-up is lost. A worker arms its flag and then looks at the log once more; a publisher appends and then looks
at the flags. Both put a sequentially consistent fence between the two, so one of them sees what the other did.

Why the limits hold. A worker counts a stream in first and adds up all slots then, with the same fence between. Of two
streams that come at once when there is room for one, both may be refused, but never are both let in.

The streams of an address are counted in a hash table of the slot: open addressing, linear probing, and backward-shift
deletion, so that no place is ever spent on an address that is gone.

It knows no socket, lock or loop, and not what the counters mean.
"""

import secrets
from typing import NamedTuple

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sse_fast._native.base.atomics cimport (
    exchange32, fence_seq_cst, load_acquire, load_acquire32, load_relaxed, load_relaxed32, store_relaxed,
    store_relaxed32, store_release, store_release32,
)
from sse_fast._native.base.clock cimport monotonic_ns

cdef enum:
    LAYOUT = 2
    TOTALS = 256
    GAUGES = 32
    WAKE_ADDRESS = 48

cdef bytes MAGIC = b"sse_node"

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t count
    uint64_t room                   # places in a slot's table of addresses, a power of two
    uint64_t born_ns                # CLOCK_MONOTONIC
    char secret[16]                 # the key of the hash of addresses: clients cannot choose addresses that collide
    char padding[80]

cdef struct Slot:
    uint32_t armed                  # this worker sleeps: a publisher swaps it for 0, and wakes it
    uint32_t pid                    # 0: the slot is free
    uint32_t was_ready              # the last process here that served; stays when it dies
    uint32_t unused
    uint64_t born_ns
    uint64_t beat_ns                # when its loop was last seen to turn; 0: it has not begun to serve
    uint64_t streams
    uint64_t held                   # bytes of kernel memory that wait for its clients
    uint64_t held_for_streams       # of those
    uint64_t waits_ns               # when it was last seen to wait for something else, before it began to serve
    char wake_address[WAKE_ADDRESS]         # the name of its socket; ends with a zero byte
    char more_padding[16]
    uint64_t totals[TOTALS]
    uint64_t gauges[GAUGES]

cdef struct Tally:                  # how many streams an address has here
    uint64_t address                # hashed; 0: a free place
    uint64_t streams


class Worker(NamedTuple):
    """A worker as its slot tells of it. `age`, `silent` and `waited` in seconds; `silent` is None until it serves. waited:
    since it said last that it cannot serve yet; None: it never did."""

    slot: int
    pid: int
    streams: int
    age: float
    silent: float | None
    waited: float | None = None


cdef inline uint64_t room_for(uint64_t addresses):
    """At most half of the places are taken, so what is looked for is near where its hash says."""
    return 1 << max(4, (2 * int(addresses) - 1).bit_length()) if addresses else 0


@cython.final
cdef class Slots:
    """Slots(memory, count=0, addresses=0): a segment of `Slots.size(count, addresses)` bytes.

    With a `count` a new node is laid out, else the one that is there is read. `addresses`: how many a worker may have
    streams of at once; 0 if nobody counts them. Raises ValueError for a segment that is none.
    """

    cdef:
        Py_buffer _view
        Header* _header
        Slot* _slots
        Tally* _tallies
        Slot* _own
        Tally* _own_tallies
        uint64_t _room
        readonly int count
        readonly int mine
        uint64_t _base[TOTALS]

    def __cinit__(self, memory, uint32_t count=0, uint64_t addresses=0):
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self._header = <Header*>self._view.buf
        cdef uint64_t length = self._view.len
        cdef bytes secret
        if length < sizeof(Header):
            raise ValueError("this memory is too small for the slots of a node")
        if count:
            if length < Slots.size(count, addresses):
                raise ValueError(f"{count} slots take {Slots.size(count, addresses)} bytes, this memory has {length}")
            secret = secrets.token_bytes(16)
            self._header.layout = LAYOUT
            self._header.count = count
            self._header.room = room_for(addresses)
            self._header.born_ns = monotonic_ns()
            memcpy(self._header.secret, PyBytes_AS_STRING(secret), 16)
            memcpy(self._header.magic, PyBytes_AS_STRING(MAGIC), 8)
        elif memcmp(self._header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0 or self._header.layout != LAYOUT:
            raise ValueError("this memory does not hold the slots of a node, or those of another version")
        cdef uint64_t slots = self._header.count
        self._room = self._header.room
        # Each by itself, for the sum below could come round.
        if slots > length // sizeof(Slot) or self._room > length // sizeof(Tally) or self._room & (self._room - 1):
            raise ValueError(f"this memory does not hold {slots} slots with {self._room} addresses each")
        self.count = <int>slots
        self.mine = -1
        self._slots = <Slot*>(<char*>self._header + sizeof(Header))
        self._tallies = <Tally*>(<char*>self._slots + <uint64_t>self.count * sizeof(Slot))
        if length < sizeof(Header) + self.count * (sizeof(Slot) + self._room * sizeof(Tally)):
            raise ValueError(f"this memory is too small for the {self.count} slots it says it has")

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    @staticmethod
    def size(uint64_t count, uint64_t addresses=0):
        """Bytes that a segment takes."""
        return sizeof(Header) + count * (sizeof(Slot) + room_for(addresses) * sizeof(Tally))

    @property
    def age(self):
        """Seconds since the node was made."""
        return (monotonic_ns() - self._header.born_ns) / 1e9

    @property
    def secret(self):
        return self._header.secret[:16]

    # ---- coming and going: who calls these holds the slot's lock ----------------------------------------------------

    def claim(self, int number, uint32_t pid, bytes wake_address not None):
        """Become the worker of this slot; what an earlier one left is cleared."""
        if len(wake_address) >= WAKE_ADDRESS or self.mine >= 0:
            raise ValueError("a worker has one slot, and a wake_address's name is short")
        self.clear(number)
        self._own = &self._slots[number]
        self._own_tallies = self._tallies + <uint64_t>number * self._room
        memcpy(self._base, self._own.totals, sizeof(self._base))
        memset(self._own.wake_address, 0, WAKE_ADDRESS)
        memcpy(self._own.wake_address, PyBytes_AS_STRING(wake_address), len(wake_address))
        self._own.born_ns = monotonic_ns()
        store_release(&self._own.beat_ns, 0)
        store_release(&self._own.waits_ns, 0)
        store_release32(&self._own.pid, pid)
        self.mine = number

    def clear(self, int number):
        """Drop what a dead worker left, but for its totals."""
        if not 0 <= number < self.count:
            raise IndexError(f"there is no slot {number}")
        cdef Slot* slot = &self._slots[number]
        if not load_acquire32(&slot.pid):
            return              # who cleared it has written here last; a large table is not touched in vain
        store_relaxed32(&slot.armed, 0)
        store_relaxed(&slot.streams, 0)
        store_relaxed(&slot.held, 0)
        store_relaxed(&slot.held_for_streams, 0)
        memset(slot.gauges, 0, sizeof(slot.gauges))
        memset(self._tallies + <uint64_t>number * self._room, 0, self._room * sizeof(Tally))
        store_release32(&slot.pid, 0)         # last: if this worker dies before it, another clears the slot again

    # ---- wake-ups ---------------------------------------------------------------------------------------------------

    def arm(self):
        """From here on a publisher wakes this worker. Look at the log after this, and before going to sleep."""
        store_relaxed32(&self._own.armed, 1)
        fence_seq_cst()

    def disarm(self):
        """This worker is awake."""
        store_relaxed32(&self._own.armed, 0)

    def sleepers(self):
        """After an append: the wake-up sockets of those who sleep. Each is given to one caller, which notifies it."""
        cdef list found = None
        cdef int number
        cdef Slot* slot
        fence_seq_cst()
        for number in range(self.count):
            slot = &self._slots[number]
            if number != self.mine and load_relaxed32(&slot.armed) and exchange32(&slot.armed, 0):
                if found is None:
                    found = []
                found.append(slot.wake_address)
        return found if found is not None else ()

    def others_busy(self, double alive_within):
        """Whether another worker is awake: it has not handed out all of the log. One that hangs for so long is not."""
        cdef uint64_t now = monotonic_ns(), beat
        cdef int number
        cdef Slot* slot
        for number in range(self.count):
            slot = &self._slots[number]
            if number != self.mine and load_relaxed32(&slot.pid) and not load_relaxed32(&slot.armed):
                beat = load_relaxed(&slot.beat_ns)
                if beat and (beat > now or (now - beat) / 1e9 < alive_within):
                    return True
        return False

    # ---- who is there -----------------------------------------------------------------------------------------------

    def beat(self):
        """The loop of this worker turns."""
        store_relaxed32(&self._own.was_ready, load_relaxed32(&self._own.pid))
        store_release(&self._own.beat_ns, monotonic_ns())

    def wait(self):
        """The loop of this worker turns, and it cannot serve yet: what it waits for is not its own."""
        store_release(&self._own.waits_ns, monotonic_ns())

    def was_ready(self, uint32_t pid):
        """Whether this process got as far as to serve."""
        cdef int number
        for number in range(self.count):
            if self._slots[number].was_ready == pid:
                return True
        return False

    def workers(self):
        """Those who are there, by slot."""
        cdef uint64_t now, beat, waits
        cdef int number
        cdef uint32_t pid
        cdef Slot* slot
        found = []
        for number in range(self.count):
            slot = &self._slots[number]
            pid = load_acquire32(&slot.pid)
            if pid:
                beat, waits = load_acquire(&slot.beat_ns), load_acquire(&slot.waits_ns)
                now = monotonic_ns()            # after the beat was read: time goes on meanwhile, not back
                silent = (now - min(now, beat)) / 1e9 if beat else None
                waited = (now - min(now, waits)) / 1e9 if waits else None
                age = (now - slot.born_ns) / 1e9
                found.append(Worker(number, pid, load_relaxed(&slot.streams), age, silent, waited))
        return found

    # ---- counters ---------------------------------------------------------------------------------------------------

    def publish(self, totals, gauges):
        """Say this worker's counters: totals since it began, and gauges as they are."""
        cdef uint64_t value
        cdef int which
        if len(totals) > TOTALS or len(gauges) > GAUGES:
            raise ValueError(f"a slot has room for {TOTALS} totals and {GAUGES} gauges")
        for which, value in enumerate(totals):
            store_relaxed(&self._own.totals[which], self._base[which] + value)
        for which, value in enumerate(gauges):
            store_relaxed(&self._own.gauges[which], value)

    def totals(self, int length):
        """The first `length` totals, each added up over all that ever were workers here."""
        if length > TOTALS:
            raise ValueError(f"a slot has room for {TOTALS} totals")
        return [self._sum(&self._slots[0].totals[which]) for which in range(length)]

    def gauges(self, int length):
        """The first `length` gauges, each added up over the workers."""
        if length > GAUGES:
            raise ValueError(f"a slot has room for {GAUGES} gauges")
        return [self._sum(&self._slots[0].gauges[which]) for which in range(length)]

    cdef uint64_t _sum(self, uint64_t* first) noexcept:
        """The sum over the slots of what is at `first` in slot 0."""
        cdef uint64_t total = 0
        cdef int number
        for number in range(self.count):
            total += load_relaxed(<uint64_t*>(<char*>first + number * sizeof(Slot)))
        return total

    # ---- streams and addresses --------------------------------------------------------------------------------------

    def enter(self):
        """Count a stream in; how many the node has with it."""
        store_relaxed(&self._own.streams, self._own.streams + 1)
        fence_seq_cst()
        return self._sum(&self._slots[0].streams)

    def leave(self):
        store_relaxed(&self._own.streams, self._own.streams - 1)

    def hold(self, uint64_t held, uint64_t for_streams):
        """Say how many bytes of kernel memory wait for the clients of this worker, and for streams' among them."""
        store_relaxed(&self._own.held, held)
        store_relaxed(&self._own.held_for_streams, for_streams)

    def held_by_others(self):
        return self._sum(&self._slots[0].held) - load_relaxed(&self._own.held)

    def held_for_streams_by_others(self):
        return self._sum(&self._slots[0].held_for_streams) - load_relaxed(&self._own.held_for_streams)

    def enter_from(self, uint64_t address):
        """Count a stream of an address (hashed, not 0) in; how many it has on the node with it."""
        cdef uint64_t place, at, total = 0
        cdef int number
        if not self._room or not address:
            raise ValueError("this node does not count addresses, or the address is 0")
        place = self._place(self._own_tallies, address)
        if place == self._room:
            raise OverflowError("the table of addresses is full")
        store_relaxed(&self._own_tallies[place].streams, self._own_tallies[place].streams + 1)
        store_release(&self._own_tallies[place].address, address)
        fence_seq_cst()
        for number in range(self.count):
            at = self._place(self._tallies + <uint64_t>number * self._room, address)
            if at < self._room:
                total += load_relaxed(&self._tallies[<uint64_t>number * self._room + at].streams)
        return total

    def leave_from(self, uint64_t address):
        """Count a stream of an address out; its last one frees the place.

        Backward-shift deletion: entries behind it that would not be found any more move up. Another worker that looks
        at that moment may miss one, and let in a stream too many of that address.
        """
        cdef Tally* table = self._own_tallies
        cdef uint64_t mask = self._room - 1, hole = self._place(table, address), at, home
        if hole == self._room or not table[hole].streams:
            raise ValueError("no stream of this address was counted in")
        store_relaxed(&table[hole].streams, table[hole].streams - 1)
        if table[hole].streams:
            return
        at = hole
        for _ in range(mask):           # a sound table has free places, a damaged one may have none
            at = (at + 1) & mask
            if not table[at].address:
                break
            home = table[at].address & mask
            if (at - home) & mask >= (at - hole) & mask:
                table[hole].streams = table[at].streams
                store_release(&table[hole].address, table[at].address)
                hole = at
        store_relaxed(&table[hole].streams, 0)
        store_release(&table[hole].address, 0)

    cdef uint64_t _place(self, Tally* table, uint64_t address) noexcept:
        """Where the address is, or the free place it would have; `_room` if there is neither."""
        cdef uint64_t mask = self._room - 1, at = address & mask, found, steps
        for steps in range(self._room):
            found = load_acquire(&table[at].address)
            if found == address or not found:
                return at
            at = (at + 1) & mask
        return self._room
