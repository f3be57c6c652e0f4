"""What has become of a log that outlived its writers: is it sound, and how far did it get?

A flipped bit, a hole, a stretch of another file: whatever the bytes are, nothing beyond them is read, and what is found
sound can be served. With checksums no change of a kept event goes unseen, nor one of what the header says of it.
"""

from typing import NamedTuple

from libc.stdint cimport uint64_t

from sse_fast._native.log.epochs cimport what_is_wrong_with_epochs
from sse_fast._native.log.header cimport checksum_of_header
from sse_fast._native.log.layout cimport (
    ALIGNMENT,
    FLAG_FORGET,
    FLAG_MARK,
    FLAG_NAMED,
    FLAG_PAD,
    LogHeader,
    Record,
    checksum_of,
)
from sse_fast._native.log.measure cimport record_length
from sse_fast._native.log.names cimport FLAG_KEYED, FLAG_SEVERAL, KEY_ROOM, are_names
from sse_fast._native.log.ring cimport Log

cdef uint64_t BEYOND = <uint64_t>1 << 62    # no log gets to this position, or has had so many bytes


class Verified(NamedTuple):
    """What is kept, found sound: the head behind it, how many events, and the positions of the first and the last."""

    head: int
    events: int
    first: int
    last: int


def verify(Log log not None):
    """Read all that is kept, and say what it is. Nobody may append meanwhile.

    A log with checksums proves where it ends: sound records beyond `head`, of positions that were given out, are
    there whatever `head` says. Raises ValueError that says where it is damaged. Whatever bytes these are, nothing
    beyond them is read.
    """
    cdef LogHeader* header = log.header
    cdef uint64_t offset = header.tail, head = header.tail, first = 0, last = 0, events = 0, room
    cdef Record* record
    cdef object wrong = None
    if header.checksum != checksum_of_header(header):
        raise ValueError("its header has a wrong checksum")
    wrong = what_is_wrong_with_epochs(header)
    if wrong is not None:
        raise ValueError(wrong)
    if header.tail > header.head or header.head - header.tail > header.capacity or header.tail % ALIGNMENT:
        raise ValueError(f"its tail {header.tail} and its head {header.head} contradict each other")
    if not 0 < header.next_position < BEYOND or header.head >= BEYOND:
        raise ValueError(f"no log gets to the position {header.next_position} or the head {header.head}")
    while offset - header.tail < header.capacity:
        if offset >= header.head and (last + 1 >= header.next_position or not header.checksums):
            break
        record = <Record*>(log.data + (offset & log.mask))
        # From here to the end of the ring, and to where the log has come round.
        room = min(header.capacity - (offset & log.mask), header.capacity - (offset - header.tail))
        if room < sizeof(Record) or record.flags == FLAG_PAD:
            wrong = wrong_pad(log, record, offset, room)
        else:
            wrong = wrong_record(log, record, offset, room, last)
            if wrong is None:
                last = record.position
                first = first or last
                events += 1
                head = offset + record.length
        if wrong is not None:
            break
        offset += record.length
    if head < header.head:
        raise ValueError(wrong or f"its head {header.head} is beyond its last record, which ends at {head}")
    return Verified(head, events, first, last)


cdef object wrong_pad(Log log, const Record* record, uint64_t offset, uint64_t room):
    """What is wrong with a pad; `room`: bytes up to where it must not go on, 16 at least, which are all of a pad."""
    if (
        record.flags != FLAG_PAD or record.length != log.header.capacity - (offset & log.mask)
        or record.length > room or record.names_length or record.position
    ):
        return f"the record at {offset} has a wrong length, {record.length}"
    return None


cdef object wrong_record(Log log, const Record* record, uint64_t offset, uint64_t room, uint64_t last):
    """What is wrong with a record of which `room` bytes can be read, a record's header at least."""
    if record.length % ALIGNMENT or not sizeof(Record) <= record.length <= room:
        return f"the record at {offset} has a wrong length, {record.length}"
    cdef uint64_t used = sizeof(Record) + <uint64_t>record.names_length + record.frame_length
    cdef const char* names = <const char*>record + sizeof(Record)
    cdef size_t key = KEY_ROOM if record.flags & FLAG_KEYED else 0
    if record.flags & ~(FLAG_KEYED | FLAG_NAMED) not in (0, FLAG_SEVERAL, FLAG_MARK, FLAG_FORGET) or record.length < used:
        return f"the record at {offset} has contradictory lengths"
    if key and (record.flags & (FLAG_MARK | FLAG_FORGET) or record.names_length < key):
        return f"the record at {offset} has a key and no names"
    if record.flags & FLAG_SEVERAL and not are_names(names, record.names_length - key):
        return f"the record at {offset} has contradictory names"
    if record.length != record_length(names, record.names_length, record.flags, record.frame_length):
        return f"the record at {offset} has contradictory lengths"
    if record.flags & FLAG_MARK and record.names_length != sizeof(uint64_t):
        return f"the record at {offset} marks an epoch without its fork"
    if not last < record.position < log.header.next_position:
        return f"the record at {offset} has the position {record.position} after {last}"
    if log.header.checksums and record.checksum != checksum_of(
        <const char*>record, record.length, record.frame_length
    ):
        return f"the record at {offset}, of position {record.position}, has a wrong checksum"
    return None
