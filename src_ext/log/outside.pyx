"""Positions from outside: an engine behind several nodes gives them out, and each node's log takes them as they are.

Epochs from outside begin with a mark (`epochs.pyx`), and in them nothing else is appended. A position that was not committed,
because its writer died, comes again: so what a dead writer left of `next_position` is no position taken, as it is where
the log numbers itself.

Of several processes one reads the engine and appends. Whoever takes that over, from one that is gone or hangs, is
counted in the header, and each append looks under the lock whether the count is still its own: one that was stopped, at
whatever place, appends nothing when it goes on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.base.atomics cimport fence_release, load_acquire, store_relaxed, store_release
from sse_fast._native.base.clock cimport monotonic_ns, wall_clock_ms
from sse_fast._native.log.epochs cimport had_epoch, is_epoch, put_epoch, settle
from sse_fast._native.log.layout cimport EPOCH_ROOM, FLAG_FORGET, FLAG_MARK, MARKING, OUTSIDE, LogHeader
from sse_fast._native.log.measure cimport refuse_oversize
from sse_fast._native.log.ring cimport Log
from sse_fast._native.wire.control cimport gap as gap_frame

from sse_fast.errors import Superseded

cdef uint64_t BEYOND = <uint64_t>1 << 62    # no log gets to this position


cdef uint64_t whole(str what, value) except? 0:
    """ValueError."""
    if not isinstance(value, int) or not 0 <= value < BEYOND:
        raise ValueError(f"{what} is a whole number from 0 to 2**62 - 1, not {value!r}")
    return value


cdef int refuse_beyond(log_position) except -1:
    if log_position >= BEYOND - 1:
        raise ValueError(f"no log gets to the position {log_position}; a new log begins with 1")
    return 0


cdef uint64_t next_of(const LogHeader* header) noexcept:
    """Under the lock: the least position that nobody has, or has left behind."""
    if header.mode & OUTSIDE and header.before_head == header.head:
        return header.before
    return header.next_position


cdef void commit(Log log, uint64_t next, uint64_t head, uint64_t next_position) noexcept:
    log.header.before = next
    store_release(&log.header.before_head, log.header.head)
    log._commit(head, next_position)


cdef int refuse_superseded(Log log) except -1:
    """Under the lock."""
    if log.header.reader != log.reader:
        raise Superseded(f"process {log.header.reader & 0xffffffff} appends to this log now; nothing was appended here")
    return 0


cdef uint64_t behind(Log log, uint64_t place) except? 0:
    """Under the lock: the least position that nobody has, in an epoch from outside. ValueError where there is none, or the
    place in it is taken."""
    cdef uint64_t next
    refuse_superseded(log)
    if not log.header.mode & OUTSIDE:
        raise ValueError("an epoch from outside begins with a mark, and this log is in one of its own")
    if load_acquire(&log.header.epoch_count) != log.epoch_count:
        log._look_at_epoch()
    next = next_of(log.header)
    if place + log.epoch_base < next:
        raise ValueError(f"positions rise, and {place} comes after {next - 1 - log.epoch_base}")
    return next


def end_of(Log log not None):
    """(epoch, position) of the newest that this log has, or passes over, of an epoch from outside; None: it is in one of
    its own. Raises LogBusy."""
    log._acquire()
    settle(log.header)
    cdef bint outside = log.header.mode & OUTSIDE
    cdef uint64_t next = next_of(log.header)
    log._release()
    if not outside:
        return None
    log._look_at_epoch()
    return log.epoch_name, next - 1 - log.epoch_base


def reader_of(Log log not None):
    """(turn, process, seconds): whose turn it is to append here, and how long ago it was there last. Process 0: it is
    nobody's."""
    cdef uint64_t turn = load_acquire(&log.header.reader), there = load_acquire(&log.header.reader_ns)
    cdef uint64_t now = monotonic_ns()      # after what it said was read
    return turn, turn & 0xffffffff, (now - min(now, there)) / 1e9


def take_turn(Log log not None, uint64_t turn, uint32_t process):
    """From here on this process alone appends, by this object, if it is still that `turn`. Returns whether. Raises LogBusy."""
    log._acquire()
    cdef bint free = log.header.reader == turn
    if free:
        log.reader = ((turn >> 32) + 1) << 32 | process
        store_relaxed(&log.header.reader_ns, <uint64_t>monotonic_ns())
        store_release(&log.header.reader, log.reader)
    log._release()
    return free


def keep_turn(Log log not None):
    """Say that it is there. Returns whether it is its turn."""
    if not log.reader or load_acquire(&log.header.reader) != log.reader:
        return False
    store_release(&log.header.reader_ns, <uint64_t>monotonic_ns())
    return True


def end_turn(Log log not None):
    """It is nobody's turn, if it was its own. Raises LogBusy."""
    log._acquire()
    if log.header.reader == log.reader:
        store_release(&log.header.reader, log.reader & <uint64_t>0xffffffff00000000)
    log.reader = 1                          # nobody's: no process has this turn
    log._release()


def mark(Log log not None, str epoch not None, prev=None, *, position=0, body=None, milliseconds=None):
    """Begin an epoch from outside, whose events `append_at` takes from now on. Returns the log's position of the mark.

    epoch: 1 to 20 characters of [a-z0-9], and none that this log remembers: an id is given once. So a follower that
    starts again over a log that is still in the engine's epoch goes on with `append_at` behind `log.position`; one that
    has to fill its window again fills a new log. prev: the position in the epoch before up to which that is this one's past,
    too (the fork); None: it has no past here. position: where in its epoch the mark stands; what is before that
    is not in this log. body: a frame without its id line, for everybody who passes the mark; a `$gap` if it is None.
    Raises ValueError, LogBusy, Superseded or MemoryError, and then nothing was appended.
    """
    cdef bytes name = epoch.encode(), gap, packed
    cdef uint64_t next, begins, fork = 0, head, at, former = 0 if prev is None else whole("prev", prev)
    cdef uint64_t stands = whole("a position", position)
    cdef uint64_t now = wall_clock_ms() if milliseconds is None else whole("a time", milliseconds)
    if not is_epoch(name):
        raise ValueError(f"an epoch is 1 to {EPOCH_ROOM} characters of [a-z0-9], not {epoch!r}")
    if body is None:
        after = f"{log.epoch}-{prev}" if prev is not None else log.event_id(log.position)
        gap = gap_frame(after, f"{epoch}-{position}", False)
    else:
        gap = body
    refuse_oversize(log.smallest, NULL, 8, 0, PyBytes_GET_SIZE(gap))
    packed = PyBytes_FromStringAndSize(NULL, 8)
    log._acquire()
    settle(log.header)
    try:
        refuse_superseded(log)
        log._look_at_epoch()
        if had_epoch(log.header, name):
            raise ValueError(f"this log has been in the epoch {epoch!r}, whose ids would come twice")
        next = next_of(log.header)
        if prev is not None:
            fork = log.epoch_base + former
        begins = max(next, fork + 2)
        at = begins + stands
        answer = at
        refuse_beyond(answer)
    except BaseException:
        log._release()
        raise
    memcpy(PyBytes_AS_STRING(packed), &fork, 8)
    log.epoch_base = begins
    log._prefix(name)
    head = log._write(
        log.header.head, at, PyBytes_AS_STRING(packed), 8, FLAG_MARK,
        PyBytes_AS_STRING(gap), PyBytes_GET_SIZE(gap), now,
    )
    # See `epochs`: from the commit on both are there.
    log.header.mode |= MARKING
    fence_release()
    put_epoch(log.header, log.header.epoch_count, name, begins, fork, log.header.head, True)
    store_release(&log.header.epoch_count, log.header.epoch_count + 1)
    commit(log, next, head, at + 1)
    log.header.mode = OUTSIDE
    log._release()
    try:
        log._look_at_epoch()
    except MemoryError:
        pass                            # next time
    return answer


def skip_to(Log log not None, position, *, body=None, milliseconds=None):
    """What the epoch that was marked last has before `position`, and this log has not, is not in this log and never will
    be: its engine had let it go before it was read. Returns the log's position of the record that says so.

    Who resumes from what is left out is told at once, who comes from before it when it gets there. body: a frame without its
    id line, for everybody who passes it; a `$gap` if it is None. position: of the last that is not here, behind the
    newest that is. Raises as `append_at`, and then nothing was appended.
    """
    cdef bytes gap, packed = PyBytes_FromStringAndSize(NULL, 8)
    cdef uint64_t fork, next, head, at, stands = whole("a position", position)
    cdef uint64_t now = wall_clock_ms() if milliseconds is None else whole("a time", milliseconds)
    gap = gap_frame(log.event_id(log.position), f"{log.epoch}-{position}", False) if body is None else body
    refuse_oversize(log.smallest, NULL, 8, 0, PyBytes_GET_SIZE(gap))
    log._acquire()
    try:
        settle(log.header)
        next = behind(log, stands)
        at = stands + log.epoch_base
        answer = at
        refuse_beyond(answer)
    except BaseException:
        log._release()
        raise
    fork = next - 1
    memcpy(PyBytes_AS_STRING(packed), &fork, 8)
    head = log._write(
        log.header.head, at, PyBytes_AS_STRING(packed), 8, FLAG_MARK,
        PyBytes_AS_STRING(gap), PyBytes_GET_SIZE(gap), now,
    )
    commit(log, next, head, at + 1)
    log._release()
    return answer


def append_at(Log log not None, events not None):
    """Append (position, channels, body, milliseconds) at positions of the epoch that was marked last, which rise strictly,
    from one call to the next, too, and may leave some out. All or none.

    milliseconds: when it was published, since 1970. Returns the log's position of the last. Raises ValueError where
    positions don't rise, one of them or a time is no whole number from 0 to 2**62 - 1, or no epoch was marked, and else
    as `append_many`; then nothing was appended.
    """
    cdef list given = list(events), batch = [], positions = []
    cdef uint64_t position, at, next, head
    cdef Py_ssize_t i
    cdef object channel, body, newest
    if load_acquire(&log.header.epoch_count) != log.epoch_count:
        log._look_at_epoch()       # for the length of its ids
    for i in range(len(given)):
        number, channel, body, milliseconds = given[i]
        position, at = whole("a position", number), whole("a time", milliseconds)
        if i and number <= given[i - 1][0]:
            raise ValueError(f"positions rise, and {number} comes after {given[i - 1][0]}")
        batch.append((channel, body))
        positions.append((position, at))
    log._measure(batch, batch)
    log._acquire()
    try:
        settle(log.header)
        refuse_superseded(log)
        if not log.header.mode & OUTSIDE:
            raise ValueError("an epoch from outside begins with a mark, and this log is in one of its own")
        if load_acquire(&log.header.epoch_count) != log.epoch_count:
            log._look_at_epoch()
        next = next_of(log.header)
        if not given:
            newest = next - 1
        else:
            newest = positions[len(positions) - 1][0] + log.epoch_base
            position = positions[0][0]
            if position + log.epoch_base < next:
                raise ValueError(f"positions rise, and {position} comes after {next - 1 - log.epoch_base}")
            refuse_beyond(newest)
    except BaseException:
        log._release()
        raise
    head = log.header.head
    for i in range(PyList_GET_SIZE(batch)):
        position, at = <tuple>PyList_GET_ITEM(positions, i)
        head = log._write_event(<tuple>PyList_GET_ITEM(batch, i), head, position + log.epoch_base, at)
    if given:
        commit(log, next, head, newest + 1)
    log._release()
    return newest


def forget_at(Log log not None, position, bytes channel not None, bytes body not None, milliseconds):
    """`append_at` of one event of a channel of which nothing from before it is kept any more (see `Log.forget`)."""
    cdef uint64_t place = whole("a position", position), now = whole("a time", milliseconds), next, head
    refuse_oversize(
        log.smallest, PyBytes_AS_STRING(channel), PyBytes_GET_SIZE(channel), FLAG_FORGET, PyBytes_GET_SIZE(body)
    )
    log._acquire()
    try:
        settle(log.header)
        next = behind(log, place)
        answer = place + log.epoch_base
        refuse_beyond(answer)
    except BaseException:
        log._release()
        raise
    head = log._write(
        log.header.head, answer, PyBytes_AS_STRING(channel), PyBytes_GET_SIZE(channel), FLAG_FORGET,
        PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), now,
    )
    commit(log, next, head, answer + 1)
    log._release()
    return answer
