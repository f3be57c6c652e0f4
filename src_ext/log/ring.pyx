"""The log: a bounded byte ring of whole events over one segment of memory.

What it keeps: the newest events, as complete SSE frames, in the order they were appended, up to `capacity` bytes.
What it drops: the oldest, whole, when room is needed; nothing else, ever.
Who is told: nobody here. A reader that was overtaken finds out when it looks (`READ_OVERTAKEN`, `still_holds`).

Why it cannot tear. A writer moves `tail` past what it will overwrite *before* it overwrites, and stores `head` last.
A reader copies out first and looks at `tail` afterwards: if `tail` has not passed the record, no writer had begun to
overwrite it when the copy ended. Nothing is ever sent from the segment itself.

Why it survives a writer that dies. Until `head` is stored an append has not happened; the next writer starts at the
same `head` and takes the next position, so the worst that is left behind is positions nobody has, and a tail that gave
up more than it had to. A batch is one append: `head` is stored once, behind all of it, so it is there or it is not.

How writers take turns. A robust mutex in the segment, held for the copying only, never while its holder waits for the
GIL; if the holder dies, the kernel hands it on. A holder that is *stopped* can't be passed: it may go on at any time
and overwrite what others have appended since. So nobody waits for longer than PATIENCE_US: then LogBusy is raised,
nothing was appended, and until the lock is had again an append waits for IMPATIENCE_US only. Readers take no lock.

The segment may be private, shared between processes, or a mapped file; this file does not know which. What will outlive
its writers is given `checksums`, and then `verify.pyx` finds what became of it meanwhile; who goes on with it gives it a new
epoch (`go_on`), and the header remembers the earlier ones and where each of them ended. Nothing here knows a channel
index, subscriber, loop or socket.
"""

import mmap
import os
import secrets
import string
from typing import NamedTuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memcmp, memcpy, memmove, memset

from sse_fast._native.base.atomics cimport fence_acquire, fence_release, load_acquire, store_relaxed, store_release
from sse_fast._native.base.clock cimport monotonic_us, wall_clock_ms
from sse_fast._native.log.names cimport FLAG_SEVERAL, pack_names, unpack_names
from sse_fast.errors import BatchTooLarge, EventTooLarge, InvalidEvent, LogBusy

cdef extern from "errno.h" nogil:
    int EBUSY, EOWNERDEAD, ETIMEDOUT

cdef extern from "pthread.h" nogil:
    int pthread_mutex_trylock(pthread_mutex_t* lock)
    int pthread_mutex_unlock(pthread_mutex_t* lock)
    int pthread_mutex_consistent(pthread_mutex_t* lock)

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>

    static int init_lock(pthread_mutex_t* lock) {
        pthread_mutexattr_t kind;
        int failed = pthread_mutexattr_init(&kind);
        if (!failed) failed = pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        if (!failed) failed = pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        return failed ? failed : pthread_mutex_init(lock, &kind);
    }

    static int lock_until(pthread_mutex_t* lock, uint64_t deadline) {
        struct timespec until = {deadline / 1000000, deadline % 1000000 * 1000};
        return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
    }

    /* The word that the kernel reads when a thread dies: FUTEX_OWNER_DIED and so on above, the thread's id below. */
    static uint32_t holder_of(pthread_mutex_t* lock) {
    #ifdef __GLIBC__
        return __atomic_load_n((uint32_t*)lock, __ATOMIC_RELAXED) & 0x3fffffff;
    #else
        return __atomic_load_n((uint32_t*)lock + 1, __ATOMIC_RELAXED) & 0x3fffffff;
    #endif
    }

    /* Like a write to each page, but changes nothing, and a page that can't be had is an error and no signal. */
    static void populate(char* at, uint64_t length) {
        uintptr_t page = sysconf(_SC_PAGESIZE), start = (uintptr_t)at & ~(page - 1);
        (void)madvise((void*)start, (uintptr_t)at + length - start, 23 /* MADV_POPULATE_WRITE, Linux 5.14 */);
    }
    """
    int init_lock(pthread_mutex_t* lock)
    int lock_until(pthread_mutex_t* lock, uint64_t deadline)
    uint32_t holder_of(pthread_mutex_t* lock)
    void populate(char* at, uint64_t length)


cpdef enum:
    LAYOUT = 4
    HEADER_SIZE = 4096

cdef enum:
    LOCK_AT = 1024                  # a process-shared robust mutex
    PATIENCE_US = 100_000
    IMPATIENCE_US = 1_000
    BOOT_ROOM = 40
    ID_ROOM = 64                    # "id: " + epoch + "-" + 20 digits + LF, with room

cdef enum:
    SIGNED = 80 + 16 * PAST_EPOCHS  # bytes that the header's checksum is of

cdef uint64_t NO_LIMIT = <uint64_t>-1

cdef bytes MAGIC = b"sse_fast"
cdef str NO_EVENT = "an event is a pair of bytes, (channel, body), or has a tuple of channels"
cdef str EPOCH_ALPHABET = string.ascii_lowercase + string.digits


class KeptRecord(NamedTuple):
    """A record of the log. `milliseconds`: when it was published, since 1970."""

    position: int
    milliseconds: int
    channels: tuple
    frame: bytes

    @property
    def channel(self):
        """The first of its channels, and most often the only one."""
        return self.channels[0]


def segment_size(log_size):
    """Bytes of memory a log needs that keeps `log_size` bytes of events: a power of two, and the header."""
    return HEADER_SIZE + (1 << max(12, (int(log_size) - 1).bit_length()))


def lock_holder(bytes header not None):
    """`Log.locked_by` of a header's bytes, for who must not look into a mapping; 0 of what is too short."""
    if len(header) < HEADER_SIZE:
        return 0
    return holder_of(<pthread_mutex_t*>(PyBytes_AS_STRING(header) + LOCK_AT))


cdef str random_epoch():
    return "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))


cdef inline uint32_t aligned(uint64_t length) noexcept nogil:
    return <uint32_t>((length + ALIGNMENT - 1) & ~<uint64_t>(ALIGNMENT - 1))


cdef inline uint64_t largest_of(uint64_t capacity) noexcept nogil:
    return min(capacity // 4, <uint64_t>1 << 30)    # a record and the pad before it are counted in 32 bits


cdef inline uint64_t largest_batch_of(uint64_t capacity) noexcept nogil:
    # With a pad before its largest record it is at most half of the log: its writing never reaches its own beginning.
    # And others wait for the lock meanwhile.
    return min(capacity // 4, <uint64_t>32 << 20)


cdef inline int write_decimal(char* to, uint64_t value) noexcept nogil:
    cdef char digits[20]
    cdef int n = 0, i
    while True:
        digits[n] = <char>(48 + value % 10)
        value //= 10
        n += 1
        if value == 0:
            break
    for i in range(n):
        to[i] = digits[n - 1 - i]
    return n


cdef class Log:
    """Log(memory, *, epoch=None, checksums=False): a log over a writable buffer of `segment_size` bytes.

    All zero, it is laid out as a new log; an existing one is taken over as it stands, whatever is asked for. Raises
    ValueError if it is not one, or of another layout.
    """

    def __cinit__(self, memory, *, epoch=None, bint checksums=False):
        # Held until the log dies: nobody can close the mapping under it.
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.header = <LogHeader*>self._view.buf
        self.lock = <pthread_mutex_t*>(<char*>self.header + LOCK_AT)
        cdef Py_ssize_t length = self._view.len
        if length < HEADER_SIZE + 4096:
            raise ValueError(f"a log segment has at least {HEADER_SIZE + 4096} bytes, this one has {length}")
        cdef char zeros[8]
        memset(zeros, 0, 8)
        if memcmp(self.header.magic, zeros, 8) == 0:
            self._lay_out(<uint64_t>(length - HEADER_SIZE), epoch, checksums)
        elif memcmp(self.header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0:
            raise ValueError("this memory is not an sse_fast log: its first eight bytes are not 'sse_fast'")
        elif self.header.layout != LAYOUT or self.header.header_size != HEADER_SIZE:
            raise ValueError(f"this log has layout {self.header.layout}, this version reads layout {LAYOUT}")
        elif self.header.capacity != <uint64_t>(length - HEADER_SIZE):
            raise ValueError(f"this log says {self.header.capacity} bytes of data, its segment has {length - HEADER_SIZE}")
        elif self.header.capacity & (self.header.capacity - 1):
            raise ValueError(f"the data area of a log is a power of two, {self.header.capacity} is not")
        self.patience = PATIENCE_US
        self.data = <char*>self.header + HEADER_SIZE
        self.mask = self.header.capacity - 1
        self._prepare_ids()

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    cdef void _prepare_ids(self) noexcept:
        memcpy(self.id_prefix, b"id: ", 4)
        memcpy(self.id_prefix + 4, self.header.epoch, 8)
        self.id_prefix[12] = c"-"
        self.id_prefix_length = 13

    cdef int _lay_out(self, uint64_t capacity, epoch, bint checksums) except -1:
        if capacity & (capacity - 1):
            raise ValueError(f"the data area of a log is a power of two, {capacity} is not; use segment_size()")
        name = epoch if epoch is not None else random_epoch()
        if len(name) != 8 or any(character not in EPOCH_ALPHABET for character in name):
            raise ValueError(f"an epoch is 8 characters of [a-z0-9], not {name!r}")
        cdef bytes raw = name.encode("ascii")
        memset(<void*>self.header, 0, HEADER_SIZE)
        memcpy(self.header.epoch, PyBytes_AS_STRING(raw), 8)
        self.header.layout = LAYOUT
        self.header.header_size = HEADER_SIZE
        self.header.capacity = capacity
        self.header.next_position = 1
        self.header.checksums = checksums
        self.header.checksum = self._checksum_of_header(self.header)
        self._new_lock()
        fence_release()
        memcpy(self.header.magic, PyBytes_AS_STRING(MAGIC), 8)
        return 0

    @classmethod
    def private(cls, size, *, epoch=None):
        """A log in this process's own memory that keeps at least `size` bytes (rounded up to a power of two)."""
        memory = mmap.mmap(-1, segment_size(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        cdef Log log = cls(memory, epoch=epoch)
        log.alone = True                # the GIL is lock enough
        return log

    def renew_epoch(self):
        """Give a private log another epoch, by which ids given out before mean nothing here: a fork goes its own way,
        and its positions will mean other events than its parent's. What was published before stays both's, under the
        ids it has. Of a log that others may have, nothing happens."""
        if self.alone:
            self.go_on(self.header.head)

    # ---- a segment that outlives its writers ------------------------------------------------------------------------

    cdef uint32_t _checksum_of_header(self, LogHeader* header) noexcept:
        """Of the fields that no append changes: what the segment is, and its past."""
        cdef char raw[SIGNED]
        memset(raw, 0, 80)              # the first 32 bytes stand for a record's header
        memcpy(raw + 40, <char*>header + 8, 24)    # but for the magic, which is written last
        memcpy(raw + 64, &header.checksums, 4)
        memcpy(raw + 68, &header.past_count, 4)
        memcpy(raw + 80, header.past, sizeof(header.past))
        return checksum_of(raw, sizeof(raw), 0)

    cdef int _new_lock(self) except -1:
        cdef int failed = init_lock(self.lock)
        if failed:
            raise OSError(failed, f"a lock for the log: {os.strerror(failed)}")
        return 0

    def claim(self, bytes boot not None):
        """Before any other process has this segment: a new lock, whoever held the old one, and under which boot."""
        cdef char raw[BOOT_ROOM]
        self._new_lock()
        memset(raw, 0, BOOT_ROOM)
        memcpy(raw, PyBytes_AS_STRING(boot), min(<size_t>BOOT_ROOM, <size_t>len(boot)))
        if memcmp(self.header.boot, raw, BOOT_ROOM) != 0:   # it was closed: half a boot's name is none, and does no harm
            memcpy(self.header.boot, raw, BOOT_ROOM)
            fence_release()
        self.header.closed = False
        self.header.keys = self.header.keys_next = 0    # those that a server remembers go with it

    def go_on(self, uint64_t head, store=None):
        """Go on with what was kept, up to the head that `verify` found, under another epoch.

        So no id is given out twice, whatever file this is: the newest, or a copy of some hour behind which another
        server has given out ids already. What this one has given out stays valid (`has_given`); an epoch that gave no
        position is in no id, and is not remembered. `store(raw)` writes the first bytes of a file all at once: whoever
        is killed in here leaves the header before or the one after.
        """
        cdef LogHeader header = self.header[0]
        cdef bytes raw = random_epoch().encode("ascii")
        if header.next_position != self.began:
            if header.past_count == PAST_EPOCHS:
                header.past_count -= 1
                memmove(header.past, &header.past[1], header.past_count * sizeof(PastEpoch))
            memcpy(header.past[header.past_count].epoch, header.epoch, 8)
            header.past[header.past_count].end = header.next_position
            header.past_count += 1
        memcpy(header.epoch, PyBytes_AS_STRING(raw), 8)
        header.head = head
        header.checksum = self._checksum_of_header(&header)
        if store is not None:
            store(PyBytes_FromStringAndSize(<char*>&header, sizeof(LogHeader)))
        memcpy(self.header, &header, sizeof(LogHeader))     # the same again, where the memory is the file
        self._prepare_ids()

    def has_given(self, str epoch not None, position):
        """Whether an id may be of this log: of its epoch, or of an earlier one before that ended."""
        cdef uint32_t number
        if epoch == self.epoch:
            return True
        for number in range(self.header.past_count):
            if self.header.past[number].epoch[:8] == epoch.encode():
                return position < self.header.past[number].end
        return False

    def is_whole_after(self, bytes boot not None):
        """Whether nothing that was appended can be missing: it was closed, or the machine has been up ever since."""
        return bool(self.header.closed) or self.header.boot[:sizeof(self.header.boot)].rstrip(b"\0") == boot

    def mark_closed(self):
        """All is stored where it outlives the machine's power, and nobody appends any more."""
        self.header.closed = True

    # ---- for Python -------------------------------------------------------------------------------------------------

    @property
    def epoch(self):
        """8 characters of [a-z0-9] that name this log; ids of another epoch mean nothing here."""
        return self.header.epoch[:8].decode("ascii")

    @property
    def began(self):
        """The first position of its epoch; those before have ids of earlier ones. 0: there is no earlier one."""
        return self.header.past[self.header.past_count - 1].end if self.header.past_count else 0

    @property
    def capacity(self):
        """Bytes of records that are kept at most."""
        return self.header.capacity

    @property
    def used(self):
        """Bytes of records that are kept now."""
        return self.load_head() - self.load_tail()

    @property
    def head(self):
        return self.load_head()

    @property
    def tail(self):
        return self.load_tail()

    @property
    def position(self):
        """Position that was given out last; 0 before the first. Its event may not be there yet, or never come."""
        return self.header.next_position - 1

    @property
    def overwritten(self):
        """Whether somebody has written over what the segment is."""
        cdef LogHeader* header = self.header
        return (
            memcmp(header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0
            or header.layout != LAYOUT
            or header.capacity != self.mask + 1
            or memcmp(header.epoch, self.id_prefix + 4, 8) != 0
        )

    @property
    def locked_by(self):
        """Id of the thread (of a process with one thread: of the process) that is appending; 0 is nobody."""
        return holder_of(self.lock)

    @property
    def largest_record(self):
        """Bytes one event may take, with its channel name and its bookkeeping: a quarter of the capacity, 1 GiB at most."""
        return largest_of(self.header.capacity)

    @property
    def largest_batch(self):
        """Bytes of the log that the events of one `append_many` may take: a quarter of the capacity, 32 MiB at most."""
        return largest_batch_of(self.header.capacity)

    def event_id(self, position):
        """`<epoch>-<position>`, the id a client sends back as Last-Event-ID; of the epoch that gave this position."""
        cdef uint32_t number
        cdef bytes epoch = self.header.epoch[:8]
        for number in range(self.header.past_count):
            if position < self.header.past[number].end:
                epoch = self.header.past[number].epoch[:8]
                break
        return f"{epoch.decode('ascii')}-{position}"

    def append(self, channel not None, bytes body not None):
        """Append one event to a channel, or to several (a tuple of names). `body` is an encoded frame without its id line,
        which becomes its last. Returns its position.

        Raises EventTooLarge, InvalidEvent, LogBusy or MemoryError, and then nothing was appended.
        """
        cdef uint16_t flags = 0
        cdef bytes names
        if type(channel) is tuple:
            names = pack_names(channel, &flags)
        else:
            names = channel
        return self.append_record(names, flags, body)

    def append_many(self, events not None, limit=None):
        """Append pairs as `append` takes them at consecutive positions. Returns the first (of an empty batch: the next).

        All become readable at once, or none: also when this process is killed meanwhile. If others have brought the
        head beyond `limit` meanwhile nothing is appended, and it returns 0. Raises BatchTooLarge, EventTooLarge,
        InvalidEvent, TypeError, LogBusy or MemoryError, and then nothing was appended.
        """
        cdef uint64_t most = NO_LIMIT if limit is None else limit
        cdef tuple event
        cdef object channel, body
        if type(events) is list and PyList_GET_SIZE(events) == 1 and most == NO_LIMIT:
            channel, body = <object>PyList_GET_ITEM(events, 0)
            return self.append(channel, body)
        cdef list batch = list(events)      # nobody changes it under the lock, where nothing may fail
        self._measure(batch, batch)
        cdef uint64_t milliseconds = wall_clock_ms()
        cdef object answer = self._begin()
        cdef uint64_t first = self.header.next_position, head = self.header.head
        cdef Py_ssize_t i
        if head > most:
            self._release()
            return 0
        for i in range(PyList_GET_SIZE(batch)):
            head = self._write_event(<tuple>PyList_GET_ITEM(batch, i), head, first + i, milliseconds)
        self._commit(head, first + PyList_GET_SIZE(batch))
        self._release()
        return answer

    def measure(self, list events not None):
        """What a batch takes: (bytes of its frames as they are given, bytes of the log). Raises as `append_many` does."""
        cdef uint64_t frames = 0, records = self._measure(events, None)
        cdef tuple event
        for event in events:
            frames += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(event, 1))
        return frames, records

    def fault_in(self, uint64_t start, uint64_t length):
        """Have the kernel bring in the memory of `length` bytes from `start` bytes behind the head on, so that an
        append of many meets no page fault while it has the lock. Where the kernel can't (before 5.14), nothing."""
        cdef uint64_t at, part
        start += self.load_head()
        length = min(length, self.header.capacity)
        while length:
            at = start & self.mask
            part = min(length, self.header.capacity - at)
            populate(self.data + at, part)
            start += part
            length -= part

    def records(self):
        """Every record that is kept, oldest first, each copied out and validated; for rebuilding and for tests."""
        cdef uint64_t offset = self.load_tail()
        cdef Record record
        cdef int status
        while True:
            status = self.read_record(&offset, &record)
            if status == READ_AT_HEAD:
                return
            if status == READ_OVERTAKEN:
                offset = self.load_tail()
                continue
            names = PyBytes_FromStringAndSize(self.names_at(offset), record.names_length)
            frame = PyBytes_FromStringAndSize(self.names_at(offset) + record.names_length, record.frame_length)
            if not self.still_holds(offset):
                offset = self.load_tail()
                continue
            yield KeptRecord(record.position, record.milliseconds, unpack_names(names, record.flags), frame)
            offset += record.length

    # ---- writing ----------------------------------------------------------------------------------------------------

    cdef int _refuse_oversize(self, size_t names_length, size_t body_length) except -1:
        if names_length > 0xFFFF:
            raise InvalidEvent(f"the channel name has {names_length} bytes; 65535 is the most a record can name")
        cdef uint64_t largest = largest_of(self.header.capacity)
        if sizeof(Record) + names_length + body_length + ID_ROOM > largest:
            raise EventTooLarge(
                f"the event takes {body_length} bytes; a log of {self.header.capacity} bytes takes events up to "
                f"{<long long>(largest - sizeof(Record) - names_length - ID_ROOM)} (a quarter of it)"
            )
        return 0

    cdef uint64_t _measure(self, list batch, list into) except? 0:
        """Bytes of the log that a batch takes; its largest record may need as much again for a pad before it.

        In `into`, which may be the same list, an event of several channels becomes (packed names, body, FLAG_SEVERAL).
        """
        cdef object pair, channel, body
        cdef uint64_t records = 0
        cdef uint16_t flags = 0
        cdef char digits[20]
        cdef Py_ssize_t i
        cdef size_t id_length = self.id_prefix_length + 1 + write_decimal(
            digits, self.header.next_position + PyList_GET_SIZE(batch)
        )
        for i in range(PyList_GET_SIZE(batch)):
            pair = <object>PyList_GET_ITEM(batch, i)
            if type(pair) is not tuple or PyTuple_GET_SIZE(pair) != 2:
                raise TypeError(NO_EVENT)
            channel = <object>PyTuple_GET_ITEM(pair, 0)
            body = <object>PyTuple_GET_ITEM(pair, 1)
            if type(channel) is tuple:
                channel = pack_names(channel, &flags)
                if into is not None:
                    into[i] = (channel, body, flags) if flags else (channel, body)
            if not PyBytes_Check(channel) or not PyBytes_Check(body):
                raise TypeError(NO_EVENT)
            self._refuse_oversize(PyBytes_GET_SIZE(channel), PyBytes_GET_SIZE(body))
            records += aligned(sizeof(Record) + PyBytes_GET_SIZE(channel) + PyBytes_GET_SIZE(body) + id_length)
        if records > largest_batch_of(self.header.capacity) and PyList_GET_SIZE(batch) > 1:
            raise BatchTooLarge(
                f"the batch takes {records} bytes of the log, and at most {largest_batch_of(self.header.capacity)} are "
                "appended at once (a quarter of the log, 32 MiB at most); send it in several"
            )
        return records

    cdef object append_record(self, bytes names, uint16_t flags, bytes body):
        self._refuse_oversize(PyBytes_GET_SIZE(names), PyBytes_GET_SIZE(body))
        cdef uint64_t milliseconds = wall_clock_ms()
        cdef object answer = self._begin()
        cdef uint64_t position = self.header.next_position
        self._commit(
            self._write(
                self.header.head, position, PyBytes_AS_STRING(names), PyBytes_GET_SIZE(names), flags,
                PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), milliseconds,
            ),
            position + 1,
        )
        self._release()
        return answer

    cdef object _begin(self):
        """Take the lock; the position of what is appended next, as what the append returns. Made before it, or an append
        could be done and raise for want of memory."""
        self._acquire()
        try:
            return self.header.next_position
        except MemoryError:
            self._release()
            raise

    cdef int _acquire(self) except -1:
        """Take the lock, holding the GIL; until `_release` nothing may raise, and nothing run Python's code."""
        cdef pthread_mutex_t* lock = self.lock
        cdef uint64_t deadline = 0
        cdef int status
        if self.alone:
            return 0
        while True:
            status = pthread_mutex_trylock(lock)
            if status == EBUSY:
                deadline = deadline or monotonic_us() + self.patience
                # What is waited for is that it becomes free: who has it must not wait for the GIL.
                with nogil:
                    status = lock_until(lock, deadline)
                    if status == EOWNERDEAD:
                        status = pthread_mutex_consistent(lock)
                    if status == 0:
                        pthread_mutex_unlock(lock)
                if status == 0:
                    continue
            if status == EOWNERDEAD:
                status = pthread_mutex_consistent(lock)
            if status == 0:
                self.patience = PATIENCE_US
                if self.header.keys_next:
                    self._settle_keys()
                return 0
            if status == ETIMEDOUT:
                self.patience = IMPATIENCE_US
                raise LogBusy(f"the log is locked by process {holder_of(lock)}, which does not go on; try again later")
            raise LogBusy(f"the log's lock cannot be had: {os.strerror(status)}; was its memory overwritten?")

    cdef void _release(self) noexcept:
        if not self.alone:
            pthread_mutex_unlock(self.lock)

    cdef uint64_t _write_event(
        self, tuple event, uint64_t head, uint64_t position, uint64_t milliseconds
    ) noexcept:
        """`_write`, of an event as `_measure` has put it."""
        channel = <object>PyTuple_GET_ITEM(event, 0)
        body = <object>PyTuple_GET_ITEM(event, 1)
        return self._write(
            head, position, PyBytes_AS_STRING(channel), PyBytes_GET_SIZE(channel),
            0 if PyTuple_GET_SIZE(event) == 2 else FLAG_SEVERAL,
            PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), milliseconds,
        )

    cdef uint64_t _write(
        self, uint64_t head, uint64_t position,
        const char* names, size_t names_length, uint16_t flags, const char* body, size_t body_length,
        uint64_t milliseconds,
    ) noexcept nogil:
        """Under the lock, write a record at `head`, which nobody sees before `_commit`. Returns the head behind it.

        A process may be killed between any two of these stores."""
        cdef LogHeader* header = self.header
        cdef uint64_t tail = header.tail, start = head, room_to_end
        cdef size_t ending = 1 if body_length else 0  # the blank line that ends a frame; the id line goes before it
        cdef char id_line[ID_ROOM]
        cdef size_t id_length = self.id_prefix_length
        memcpy(id_line, self.id_prefix, id_length)
        id_length += write_decimal(id_line + id_length, position)
        id_line[id_length] = c"\n"
        id_length += 1
        cdef uint32_t frame_length = <uint32_t>(id_length + body_length)
        cdef uint32_t length = aligned(sizeof(Record) + names_length + frame_length)

        room_to_end = header.capacity - (head & self.mask)
        if room_to_end < length:
            start = head + room_to_end

        # First give up what will be overwritten, then overwrite it: readers look in the opposite order.
        if start + length - tail > header.capacity:
            while start + length - tail > header.capacity:
                tail += (<Record*>(self.data + (tail & self.mask))).length
            store_relaxed(&header.tail, tail)
            fence_release()

        cdef Record* record
        if start != head:
            # What lies behind a pad may be the rest of a batch whose writer died before its commit: without its
            # beginning it must not look like what was appended.
            (<Record*>self.data).length = 0
            fence_release()
            record = <Record*>(self.data + (head & self.mask))
            record.length = <uint32_t>room_to_end
            record.flags = FLAG_PAD
            record.names_length = 0
            record.position = 0         # which no event has: neither becomes the other by a change of its flags
        record = <Record*>(self.data + (start & self.mask))
        record.length = length
        record.flags = flags
        record.names_length = <uint16_t>names_length
        record.position = position
        record.milliseconds = milliseconds
        record.frame_length = frame_length
        cdef char* to = <char*>record + sizeof(Record)
        memcpy(to, names, names_length)
        # The id comes last: fetch-event-source takes it as soon as its line is there, so with the id in front, a
        # connection cut within the event would resume behind it and lose it.
        to += names_length
        memcpy(to, body, body_length - ending)
        to += body_length - ending
        memcpy(to, id_line, id_length)
        memcpy(to + id_length, body + body_length - ending, ending)
        if header.checksums:
            to += id_length + ending
            memset(to, 0, <char*>record + length - to)
            record.checksum = checksum_of(<char*>record, length, frame_length)
        return start + length

    cdef void _commit(self, uint64_t head, uint64_t next_position) noexcept nogil:
        """What was written up to `head` is appended."""
        fence_release()                 # who finds positions given out finds their records whole
        self.header.next_position = next_position
        store_release(&self.header.head, head)

    cdef void _commit_with_keys(self, uint64_t head, uint64_t next_position, uint64_t keys) noexcept nogil:
        """`_commit`, and with it the idempotency keys up to this number count: both have happened, or neither."""
        self.header.keys_head = self.header.head
        store_release(&self.header.keys_next, keys)
        self._commit(head, next_position)
        self._settle_keys()

    cdef void _settle_keys(self) noexcept nogil:
        """Under the lock, and before anything is appended: whether the keys of the append that was begun last count,
        for its writer may have died. To be killed in here and do it again changes nothing."""
        fence_release()                 # after the head, wherever this is inlined
        if self.header.head != self.header.keys_head:
            self.header.keys = self.header.keys_next
        store_release(&self.header.keys_next, 0)

    # ---- reading ----------------------------------------------------------------------------------------------------

    cdef uint64_t load_head(self) noexcept nogil:
        return load_acquire(&self.header.head)

    cdef uint64_t load_tail(self) noexcept nogil:
        return load_acquire(&self.header.tail)

    cdef int read_record(self, uint64_t* offset, Record* record) noexcept nogil:
        """Copy the record header at `*offset`, stepping over a pad. READ_OK moves `*offset` onto the record."""
        while True:
            if offset[0] >= load_acquire(&self.header.head):
                return READ_AT_HEAD
            # A pad may be 16 bytes short of a whole header at the very end; its first 8 bytes are all that is read.
            memcpy(record, self.data + (offset[0] & self.mask), 8)
            if not self.still_holds(offset[0]):
                return READ_OVERTAKEN
            if record.flags & FLAG_PAD:
                offset[0] += record.length
                continue
            memcpy(record, self.data + (offset[0] & self.mask), sizeof(Record))
            return READ_OK if self.still_holds(offset[0]) else READ_OVERTAKEN

    cdef const char* names_at(self, uint64_t offset) noexcept nogil:
        """Where the names of the record at `offset` begin; the frame follows them."""
        return self.data + (offset & self.mask) + sizeof(Record)

    cdef bint still_holds(self, uint64_t offset) noexcept nogil:
        """Whether no writer had begun to overwrite the record at `offset` before this call."""
        fence_acquire()
        return load_acquire(&self.header.tail) <= offset
