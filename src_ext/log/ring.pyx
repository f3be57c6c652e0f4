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

Writers take turns by a lock (`lock.pyx`), had for the copying only. Readers take none.

The segment may be private, shared between processes, or a mapped file; this file does not know which. What will outlive
its writers is given `checksums`, and then `verify.pyx` finds what became of it meanwhile; who goes on with it gives it a new
epoch (`go_on`), and the header remembers the earlier ones (`epochs.pyx`). Positions are given out here (`append`), or come
from outside, with epochs of their own (`outside.pyx`). Nothing here knows a channel index, subscriber, loop or socket.
"""

from typing import NamedTuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from sse_fast._native.base.atomics cimport fence_acquire, fence_release, load_acquire, store_release
from sse_fast._native.base.clock cimport wall_clock_ms
from sse_fast._native.base.mutex cimport mutex_unlock, robust_mutex
from sse_fast._native.base.pages cimport populate, private_memory
from sse_fast._native.log.epochs cimport epoch_of, name_of, newest_epoch, position_of_id, settle
from sse_fast._native.log.header cimport claim_for, go_on_with, is_log, new_lock, take_over
from sse_fast._native.log.layout cimport (
    FLAG_FORGET,
    FLAG_NAMED,
    FLAG_PAD,
    HEADER_ROOM,
    OUTSIDE,
    THIS_LAYOUT,
    Epoch,
    LogHeader,
    Record,
    checksum_of,
    largest_batch_of,
    largest_of,
    write_decimal,
)
from sse_fast._native.log.lock cimport PATIENCE_US, holder_of, take
from sse_fast._native.log.measure cimport ID_ROOM, measure_batch, record_length, refuse_oversize
from sse_fast._native.log.names cimport pack_names, unpack_names
from sse_fast._native.log.reserve cimport Reserves, make_way

LAYOUT = THIS_LAYOUT
HEADER_SIZE = HEADER_ROOM

cdef uint64_t NO_LIMIT = <uint64_t>-1

cdef str NOT_OURS = "the positions of this log come from outside: append_at"


class KeptRecord(NamedTuple):
    """A record of the log. `milliseconds`: when it was published, since 1970."""

    position: int
    milliseconds: int
    channels: tuple
    frame: bytes

    @property
    def channel(self):
        """The first of its channels, and most often the only one; None: it is a mark, which is for all."""
        return self.channels[0] if self.channels else None


def segment_size(log_size, reserves=()):
    """Bytes of memory a log needs that keeps `log_size` bytes of events: a power of two, and the header; and the same of
    each of `reserves`, see `Log`, that is larger than 0."""
    return _segment_size(log_size) + sum([_segment_size(size) for _, size in reserves if size])


def _segment_size(log_size):
    return HEADER_ROOM + (1 << max(12, (int(log_size) - 1).bit_length()))


def lock_holder(bytes header not None):
    """`Log.locked_by` of a header's bytes, for who must not look into a mapping; 0 of what is too short."""
    if len(header) < HEADER_ROOM:
        return 0
    return holder_of(<robust_mutex*>(<LogHeader*>PyBytes_AS_STRING(header)).lock)


cdef class Log:
    """Log(memory, *, epoch=None, checksums=False, reserves=()): a log over a writable buffer of `segment_size` bytes.

    All zero, it is laid out as a new log; an existing one is taken over as it stands, whatever is asked for. Raises
    ValueError if it is not one, or of another layout.
    `reserves`: of (pattern, bytes), see `reserve`; those who share a log say the same. One that has changed begins anew, so
    who says it first is alone with the log then.
    """

    def __cinit__(self, memory, *, epoch=None, bint checksums=False, reserves=(), within=None):
        # Held until the log dies: nobody can close the mapping under it.
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.header = <LogHeader*>self._view.buf
        self.reserves = ()
        cdef Py_ssize_t reserved = segment_size(1, reserves) - segment_size(1), start, length = self._view.len - reserved
        if within is not None:          # a reserve: where in the memory, and how much of it
            start, length = within
            self.header = <LogHeader*>(<char*>self.header + start)
        take_over(self.header, max(length, 0), epoch, checksums)
        self.lock = <robust_mutex*>self.header.lock
        self.patience = self.most_patience = PATIENCE_US
        self.data = <char*>self.header + HEADER_ROOM
        self.mask = self.header.capacity - 1
        memcpy(self.opened_as, self.header.epoch, 8)
        self._look_at_epoch()
        self.smallest = self.header.capacity
        if reserved:
            self._open_reserves(memory, reserves)

    cdef int _open_reserves(self, memory, reserves) except -1:
        cdef Reserves keeper = Reserves(reserves)
        cdef uint64_t offset = self.load_tail(), missing = self.header.next_position - 1, at = HEADER_ROOM + self.header.capacity
        cdef uint64_t length
        cdef LogHeader* header
        cdef Record record
        cdef Log log
        cdef list logs = []
        cdef int i
        if self.read_record(&offset, &record) == READ_OK:
            missing = record.position - 1
        for i in range(len(reserves)):
            if reserves[i][1] == 0:
                continue
            length = _segment_size(reserves[i][1])
            header = <LogHeader*>(<char*>self.header + at)
            if header.whose != keeper.whose(i):
                memset(header, 0, HEADER_ROOM)
            log = Log(memory, checksums=self.header.checksums, within=(at, length))
            keeper.open(i, log.header, log.data, missing)
            self.smallest = min(self.smallest, log.header.capacity)
            logs.append(log)
            at += length
        self.reserves = tuple(logs)
        self.keeper = keeper
        return 0

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    cdef int _look_at_epoch(self) except -1:
        """Learn which epoch the log is in, if that has changed: another process may have marked it."""
        cdef Epoch epoch
        cdef uint64_t count = newest_epoch(self.header, &epoch)
        cdef bytes name = name_of(&epoch)
        self.epoch_name = name.decode("ascii")
        self.epoch_begins = epoch.begins
        self.epoch_base = epoch.begins if epoch.outside else 0
        self.epoch_count = count
        self._prefix(name)
        return 0

    cdef void _prefix(self, bytes name) noexcept:
        cdef size_t length = PyBytes_GET_SIZE(name)
        memcpy(self.id_prefix, b"id: ", 4)
        memcpy(self.id_prefix + 4, PyBytes_AS_STRING(name), length)
        self.id_prefix[4 + length] = c"-"
        self.id_prefix_length = 5 + length

    @classmethod
    def private(cls, size, *, epoch=None, reserves=()):
        """A log in this process's own memory that keeps at least `size` bytes (rounded up to a power of two)."""
        memory = private_memory(segment_size(size, reserves))
        cdef Log log = cls(memory, epoch=epoch, reserves=reserves)
        log.alone = True                # the GIL is lock enough
        return log

    def renew_epoch(self):
        """Give a private log another epoch, by which ids given out before mean nothing here: a fork goes its own way,
        and its positions will mean other events than its parent's. What was published before stays both's, under the
        ids it has. Of a log that others may have, nothing happens."""
        if self.alone:
            self.go_on(self.header.head)

    # ---- a segment that outlives its writers ------------------------------------------------------------------------

    def claim(self, bytes boot not None):
        """Before any other process has this segment: a new lock, whichever thread held the old one, and under which boot."""
        new_lock(self.header)
        claim_for(self.header, boot)
        self.header.keys = self.header.keys_next = 0    # those that a server remembers go with it

    def go_on(self, uint64_t head, store=None):
        """Go on with what was kept, up to the head that `verify` found, under another epoch, of its own.

        So no id is given out twice, whatever file this is: the newest, or a copy of some hour behind which another
        server has given out ids already. What this one has given out stays valid (`cursor`); an epoch that gave no
        position is in no id, and is not remembered. `store(raw)` writes the first bytes of a file all at once: a
        process that is killed in here leaves the header before or the one after.
        """
        go_on_with(self.header, head, store)
        memcpy(self.opened_as, self.header.epoch, 8)
        self._look_at_epoch()

    def cursor(self, str epoch not None, position):
        """Where an id stands in this log: the position that `event_id` would make it of, or None if it can't be its.

        An id of an earlier epoch is known up to where that ended, or forked: one from behind the fork stands behind it.
        """
        if epoch == self.epoch_name and load_acquire(&self.header.epoch_count) == self.epoch_count:
            return position + self.epoch_base
        return position_of_id(self.header, epoch.encode(), position)

    def is_whole_after(self, bytes boot not None):
        """Whether nothing that was appended can be missing: it was closed, or the machine has been up ever since."""
        return bool(self.header.closed) or self.header.boot[:sizeof(self.header.boot)].rstrip(b"\0") == boot

    def mark_closed(self):
        """All is stored where it outlives the machine's power, and nobody appends any more."""
        self.header.closed = True

    # ---- for Python -------------------------------------------------------------------------------------------------

    @property
    def epoch(self):
        """What the newest ids begin with: 8 characters of [a-z0-9], or an epoch from outside."""
        if load_acquire(&self.header.epoch_count) != self.epoch_count:
            self._look_at_epoch()
        return self.epoch_name

    @property
    def began(self):
        """The first position of its epoch; those before have ids of earlier ones. 0: there is no earlier one."""
        if load_acquire(&self.header.epoch_count) != self.epoch_count:
            self._look_at_epoch()
        return self.epoch_begins

    @property
    def capacity(self):
        """Bytes of records that are kept at most."""
        return self.header.capacity

    @property
    def used(self):
        """Bytes of records that are kept now."""
        return self.load_head() - self.load_tail()

    @property
    def reserved(self):
        """Bytes of records that its reserves keep now, beyond what it keeps itself."""
        return sum([log.used for log in self.reserves])

    @property
    def head(self):
        return self.load_head()

    @property
    def tail(self):
        return self.load_tail()

    @property
    def position(self):
        """Position that was given out last; 0 before the first. Its event may not be there yet, or never come."""
        cdef uint64_t next = load_acquire(&self.header.next_position)     # if it is not committed, what follows knows
        if self.header.mode & OUTSIDE and load_acquire(&self.header.before_head) == self.load_head():
            next = self.header.before
        return next - 1

    @property
    def overwritten(self):
        """Whether somebody has written over what the segment is."""
        return (
            not is_log(self.header)
            or self.header.capacity != self.mask + 1
            or memcmp(self.header.epoch, self.opened_as, 8) != 0
        )

    @property
    def locked_by(self):
        """Id of the thread (of a process with one thread: of the process) that is appending; 0 is nobody."""
        return holder_of(self.lock)

    @property
    def longest_wait(self):
        """Microseconds that an append waits for another writer, until it raises LogBusy."""
        return self.most_patience

    @longest_wait.setter
    def longest_wait(self, int64_t most):
        self.patience = self.most_patience = most

    @property
    def largest_record(self):
        """Bytes one event may take, with its channel name and its bookkeeping: a quarter of the capacity, its own or that of
        the smallest of its reserves, 1 GiB at most."""
        return largest_of(self.smallest)

    @property
    def largest_batch(self):
        """Bytes of the log that the events of one `append_many` may take: a quarter of the capacity, 32 MiB at most."""
        return largest_batch_of(self.header.capacity)

    def event_id(self, uint64_t position):
        """`<epoch>-<position>`, the id a client sends back as Last-Event-ID; of the epoch that gave this position.

        Of one from before all epochs that are remembered, where the oldest is from outside: an id that is in no log, so
        who comes with it is told of a gap.
        """
        cdef Epoch epoch
        if load_acquire(&self.header.epoch_count) != self.epoch_count:
            self._look_at_epoch()
        if position >= self.epoch_begins:
            return f"{self.epoch_name}-{position - self.epoch_base}"
        epoch_of(self.header, position, &epoch)
        if epoch.outside and position < epoch.begins:
            return f"forgotten-{position}"
        return f"{name_of(&epoch).decode('ascii')}-{position - (epoch.begins if epoch.outside else 0)}"

    def append(self, channel not None, bytes body not None):
        """Append one event to a channel, or to several (a tuple of names, or `event_rules.Keyed`). `body` is an encoded frame without its id line,
        which becomes its last; one that begins with an id line has that, its publisher's, in its place: or, where the
        id is `#`, the log's with that before it. Returns its position.

        Raises EventTooLarge, InvalidEvent, LogBusy or MemoryError, and then nothing was appended.
        """
        cdef uint16_t flags = 0
        cdef bytes names
        if PyTuple_Check(channel):
            names = pack_names(channel, &flags)
        else:
            names = channel
        return self.append_record(names, flags, body)

    def forget(self, bytes channel not None, bytes body not None):
        """Append an event to a channel of which nothing from before it is kept any more: whoever reads the log, now or
        later, passes over that. Returns its position. Raises as `append`."""
        return self.append_record(channel, FLAG_FORGET, body)

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
        self._refuse_if_outside()
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

    cdef uint64_t _measure(self, list batch, list into) except? 0:
        """See `measure_batch`."""
        cdef char digits[20]
        cdef int length = write_decimal(digits, self.header.next_position + PyList_GET_SIZE(batch))
        return measure_batch(self.header.capacity, self.smallest, self.id_prefix_length + 1 + length, batch, into)

    cdef object append_record(self, bytes names, uint16_t flags, bytes body):
        refuse_oversize(
            self.smallest, PyBytes_AS_STRING(names), PyBytes_GET_SIZE(names), flags, PyBytes_GET_SIZE(body)
        )
        cdef uint64_t milliseconds = wall_clock_ms()
        cdef object answer = self._begin()
        self._refuse_if_outside()
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
        if not self.alone:
            take(self.lock, &self.patience, self.most_patience)
            if self.header.keys_next:
                self._settle_keys()
        return 0

    cdef inline int _refuse_if_outside(self) except -1:
        """Under the lock; it is given back if this raises."""
        if self.header.mode:
            settle(self.header)
            if self.header.mode:
                self._release()
                raise ValueError(NOT_OURS)
        return 0

    cdef void _release(self) noexcept:
        if not self.alone:
            mutex_unlock(self.lock)

    cdef uint64_t _write_event(
        self, tuple event, uint64_t head, uint64_t position, uint64_t milliseconds
    ) noexcept:
        """`_write`, of an event as `_measure` has put it."""
        channel = <object>PyTuple_GET_ITEM(event, 0)
        body = <object>PyTuple_GET_ITEM(event, 1)
        return self._write(
            head, position, PyBytes_AS_STRING(channel), PyBytes_GET_SIZE(channel),
            0 if PyTuple_GET_SIZE(event) == 2 else <uint16_t><object>PyTuple_GET_ITEM(event, 2),
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
        cdef uint64_t start
        cdef char id_line[ID_ROOM]
        cdef const char* line = id_line
        cdef size_t id_length = self.id_prefix_length, given = 0
        memcpy(id_line, self.id_prefix, id_length)
        if body_length > 4 and memcmp(body, b"id: ", 4) == 0:
            given = <const char*>memchr(body, c"\n", body_length) - body + 1
            if given == 6 and body[4] == c"#":
                memmove(id_line + 5, id_line + 4, id_length - 4)
                id_line[4] = c"#"
                id_length += 1
            else:
                line, id_length = body, given
                flags |= FLAG_NAMED
            body += given
            body_length -= given
        cdef size_t ending = 1 if body_length else 0  # the blank line that ends a frame; the id line goes before it
        if line == id_line:
            id_length += write_decimal(id_line + id_length, position - self.epoch_base)
            id_line[id_length] = c"\n"
            id_length += 1
        cdef uint32_t frame_length = <uint32_t>(id_length + body_length)
        cdef uint32_t length = <uint32_t>record_length(names, names_length, flags, frame_length)

        if self.keeper is None:
            start = make_way(header, self.data, head, length, NULL, 0)
        else:
            start = make_way(header, self.data, head, length, self.keeper.all, self.keeper.given)
        cdef Record* record = <Record*>(self.data + (start & self.mask))
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
        memcpy(to, line, id_length)
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

    cdef uint64_t published_at(self, uint64_t offset) noexcept nogil:
        """When the record at `offset` was: wall clock, in ms."""
        return (<Record*>(self.data + (offset & self.mask))).milliseconds

    cdef bint still_holds(self, uint64_t offset) noexcept nogil:
        """Whether no writer had begun to overwrite the record at `offset` before this call."""
        fence_acquire()
        return load_acquire(&self.header.tail) <= offset
