"""The epochs of a log: which names its ids have had, and what position each counts from.

Inside, a log counts its records by one number that only rises: its *position*. An id is `<epoch>-<position>`. In an epoch
of the log's own the two positions are one, and go on from one epoch to the next. In an epoch from outside (an engine's)
the id's counts from the position where the epoch begins here.

An epoch from outside begins with a *mark*: a record, and an entry in this table. It may have another past than the one
before it had: what that had after the *fork* is in no other node's log. Who resumes from before the fork is given what
there was up to it, and then the mark, which is the `$gap`; who resumes from behind the fork has seen what others will
never see, and stands behind the mark at once.

What a killed writer leaves. The entry of a mark is stored before its record is committed, and counts from the commit on
(`offset` below the head): so both are there, or neither is. What is left of one that was not committed is wiped by the
next who has the lock (`settle`). Entries are never changed while they count, and the place of the newest is not
that of any that is remembered. To whoever reads without the lock, that one is remembered, and whole, its number and its
checksum say (`copied`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sse_fast._native.base.atomics cimport fence_acquire, fence_release, load_acquire, store_release
from sse_fast._native.log.layout cimport EPOCH_ROOM, EPOCHS, MARKING, OUTSIDE, Epoch, LogHeader, checksum_of

cdef extern from "string.h" nogil:
    size_t strnlen(const char* text, size_t most)
    int strncmp(const char* one, const char* other, size_t most)


cdef enum:
    ENGINES_DIGITS = 13  # of milliseconds since 1970


cdef bint is_epoch(bytes name) noexcept:
    """Whether this can be an epoch's name: 1 to 20 characters of [a-z0-9]."""
    cdef unsigned char c
    for c in name:
        if not (c"a" <= c <= c"z" or c"0" <= c <= c"9"):
            return False
    return 0 < PyBytes_GET_SIZE(name) <= EPOCH_ROOM


cdef inline Epoch* place_of(LogHeader* header, uint64_t number) noexcept:
    return &header.epochs[number % EPOCHS]


cdef inline uint64_t oldest_of(uint64_t count) noexcept:
    return count - (EPOCHS - 1) if count > EPOCHS - 1 else 0


cdef uint32_t checksum_of_epoch(const Epoch* epoch) noexcept:
    cdef char raw[96]
    memset(raw, 0, sizeof(raw))     # the first 32 bytes stand for a record's header
    memcpy(raw + 32, epoch, sizeof(Epoch) - 4)
    return checksum_of(raw, sizeof(raw), 0)


cdef void put_epoch(
    LogHeader* header, uint64_t number, bytes name, uint64_t begins, uint64_t fork, uint64_t offset, bint outside
) noexcept:
    cdef Epoch epoch
    memset(&epoch, 0, sizeof(epoch))
    memcpy(epoch.name, PyBytes_AS_STRING(name), min(<size_t>EPOCH_ROOM, <size_t>PyBytes_GET_SIZE(name)))
    epoch.number = <uint32_t>number
    epoch.begins = begins
    epoch.fork = fork
    epoch.offset = offset
    epoch.outside = outside
    epoch.checksum = checksum_of_epoch(&epoch)
    place_of(header, number)[0] = epoch


cdef inline bint counts(const Epoch* epoch, uint64_t head) noexcept:
    return not epoch.outside or epoch.offset < head


cdef bytes name_of(const Epoch* epoch):
    return PyBytes_FromStringAndSize(epoch.name, strnlen(epoch.name, EPOCH_ROOM))


cdef uint64_t newest_epoch(LogHeader* header, Epoch* found) noexcept:
    """The epoch that the log is in, and how many there have been with it."""
    cdef uint64_t count
    while True:
        count = load_acquire(&header.epoch_count)
        found[0] = place_of(header, count - 1)[0]
        if not counts(found, load_acquire(&header.head)):
            found[0] = place_of(header, count - 2)[0]
            fence_acquire()
            if load_acquire(&header.epoch_count) == count:
                return count - 1
            continue
        fence_acquire()
        if load_acquire(&header.epoch_count) == count and memcmp(place_of(header, count - 1), found, sizeof(Epoch)) == 0:
            return count


cdef bint copied(LogHeader* header, uint64_t number, Epoch* found) noexcept:
    """Copy an earlier epoch's entry. False: there is, or comes, a later one in its place, or it is damaged."""
    found[0] = place_of(header, number)[0]
    fence_acquire()                     # who sees a later one in its place sees how many there are
    return found.number == <uint32_t>number and found.checksum == checksum_of_epoch(found)


cdef void epoch_of(LogHeader* header, uint64_t position, Epoch* found) noexcept:
    """The epoch that a position is of; of one from before all that are remembered, the oldest that is."""
    cdef uint64_t count = newest_epoch(header, found), number = count - 1, now
    cdef Epoch next = found[0]
    while position < found.begins and number > oldest_of(count):
        number -= 1
        if copied(header, number, &next):
            found[0] = next
            continue
        now = newest_epoch(header, &next)
        if now == count:
            return                      # damaged: no more is known
        found[0] = next
        count, number = now, now - 1


cdef bint had_epoch(LogHeader* header, bytes name) noexcept:
    """Under the lock: whether one of the epochs that are remembered, the newest included, has this name."""
    cdef uint64_t count = header.epoch_count, number
    for number in range(oldest_of(count), count):
        if strncmp(place_of(header, number).name, PyBytes_AS_STRING(name), EPOCH_ROOM) == 0:
            return True
    return False


cdef bint is_engines(bytes name):
    """Whether it is the number of an engine's epoch, of which a later one has a greater one."""
    return PyBytes_GET_SIZE(name) >= ENGINES_DIGITS and name.isdigit()


cdef object position_of_id(LogHeader* header, bytes name, position):
    """The log's own position of an id, or None: this log knows nothing of it.

    Of an id behind the fork: one that is behind it here, too, however far the other's count had got. Of one in an
    engine's epoch that has never come here, between two that have: one behind the earlier of them.
    """
    cdef bint rises = is_engines(name)
    cdef object between = None
    cdef bytes there
    cdef Epoch epoch
    cdef uint64_t count = newest_epoch(header, &epoch), number = count - 1, now
    cdef Epoch next = epoch
    cdef object own
    while True:
        there = name_of(&epoch)
        if there == name:
            own = position + epoch.begins if epoch.outside else position
            if number == count - 1 or own < next.begins and not next.outside:
                return own
            if next.outside and (epoch.outside or own < next.begins):
                return own if own <= next.fork else min(own, next.begins - 1)
            return None
        if rises and epoch.outside and is_engines(there):
            if (len(there), there) < (len(name), name):
                return between
            between = epoch.begins - 1
        if number == oldest_of(count):
            return None
        next = epoch
        number -= 1
        if not copied(header, number, &epoch):
            now = newest_epoch(header, &epoch)
            if now == count:
                return None             # damaged: no more is known
            count, number = now, now - 1


cdef void settle(LogHeader* header) noexcept:
    """Under the lock: what is left of a mark whose writer died goes, or else it is done."""
    cdef uint64_t count = header.epoch_count
    if not header.mode & MARKING:
        return
    if not counts(place_of(header, count - 1), header.head):
        count -= 1
        store_release(&header.epoch_count, count)
    fence_release()
    memset(place_of(header, count), 0, sizeof(Epoch))
    fence_release()
    header.mode = OUTSIDE if place_of(header, count - 1).outside else 0


cdef void forget_newest_if_empty(LogHeader* header) noexcept:
    """An epoch that gave no position is in no id, and need not be remembered."""
    if header.epoch_count and place_of(header, header.epoch_count - 1).begins == header.next_position:
        header.epoch_count -= 1


cdef str what_is_wrong_with_epochs(LogHeader* header):
    """Of a log that outlived its writers; None: nothing is."""
    cdef uint64_t count = header.epoch_count, number, begins = 0
    cdef Epoch* epoch
    if not 0 < count < <uint64_t>1 << 32:
        return f"its header counts {count} epochs"
    for number in range(oldest_of(count), count):
        epoch = place_of(header, number)
        if (
            epoch.number != number or epoch.checksum != checksum_of_epoch(epoch) or epoch.begins < begins
            or not is_epoch(name_of(epoch)) or not (epoch.fork < epoch.begins or epoch.fork == 0)
        ):
            return "its header has a wrong checksum"
        begins = epoch.begins
    epoch = place_of(header, count)
    if epoch.number == count and epoch.checksum == checksum_of_epoch(epoch) and counts(epoch, header.head):
        return "its header has fewer epochs than there were"
    epoch = place_of(header, count - 1)
    if header.mode & ~(MARKING | OUTSIDE) or not header.mode & MARKING and header.mode != (OUTSIDE if epoch.outside else 0):
        return "its header contradicts itself in whence positions come"
    if not epoch.outside and memcmp(epoch.name, header.epoch, 8) != 0:
        return "its header has two epochs"
    return None
