"""A log's segment: laid out, taken over by others, gone on with after a restart.

What it is never changes while it lives, and has a checksum. How far it got changes with every append (`ring`), which
epochs there were with every mark (`epochs`).
"""

import os
import secrets
import string

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sse_fast._native.base.atomics cimport fence_release
from sse_fast._native.base.mutex cimport robust_mutex
from sse_fast._native.log.epochs cimport forget_newest_if_empty, is_epoch, put_epoch, settle
from sse_fast._native.log.layout cimport HEADER_ROOM, THIS_LAYOUT, Epoch, LogHeader, checksum_of
from sse_fast._native.log.lock cimport init_lock

cdef bytes MAGIC = b"sse_fast"
cdef str EPOCH_ALPHABET = string.ascii_lowercase + string.digits

assert sizeof(Epoch) == 56 and sizeof(LogHeader) <= HEADER_ROOM


cdef str random_epoch():
    return "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))


cdef int take_over(LogHeader* header, uint64_t length, epoch, bint checksums) except -1:
    """Make a log of memory that is all zero, or see that it is one. ValueError."""
    cdef char zeros[8]
    if length < HEADER_ROOM + 4096:
        raise ValueError(f"a log segment has at least {HEADER_ROOM + 4096} bytes, this one has {length}")
    memset(zeros, 0, 8)
    if memcmp(header.magic, zeros, 8) == 0:
        lay_out(header, length - HEADER_ROOM, epoch, checksums)
    elif memcmp(header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0:
        raise ValueError("this memory is not an sse_fast log: its first eight bytes are not 'sse_fast'")
    elif header.layout != THIS_LAYOUT or header.header_size != HEADER_ROOM:
        raise ValueError(f"this log has layout {header.layout}, this version reads layout {THIS_LAYOUT}")
    elif header.capacity != length - HEADER_ROOM:
        raise ValueError(f"this log says {header.capacity} bytes of data, its segment has {length - HEADER_ROOM}")
    elif header.capacity & (header.capacity - 1):
        raise ValueError(f"the data area of a log is a power of two, {header.capacity} is not")
    return 0


cdef int lay_out(LogHeader* header, uint64_t capacity, epoch, bint checksums) except -1:
    if capacity & (capacity - 1):
        raise ValueError(f"the data area of a log is a power of two, {capacity} is not; use segment_size()")
    name = epoch if epoch is not None else random_epoch()
    cdef bytes raw = name.encode()
    if PyBytes_GET_SIZE(raw) != sizeof(header.epoch) or not is_epoch(raw):
        raise ValueError(f"an epoch is 8 characters of [a-z0-9], not {name!r}")
    memset(<void*>header, 0, HEADER_ROOM)
    memcpy(header.epoch, PyBytes_AS_STRING(raw), 8)
    header.layout = THIS_LAYOUT
    header.header_size = HEADER_ROOM
    header.capacity = capacity
    header.next_position = 1
    header.checksums = checksums
    header.checksum = checksum_of_header(header)
    put_epoch(header, 0, raw, 0, 0, 0, False)
    header.epoch_count = 1
    new_lock(header)
    fence_release()
    memcpy(header.magic, PyBytes_AS_STRING(MAGIC), 8)
    return 0


cdef int new_lock(LogHeader* header) except -1:
    cdef int failed = init_lock(<robust_mutex*>header.lock)
    if failed:
        raise OSError(failed, f"a lock for the log: {os.strerror(failed)}")
    return 0


cdef bint is_log(const LogHeader* header) noexcept:
    return memcmp(header.magic, PyBytes_AS_STRING(MAGIC), 8) == 0 and header.layout == THIS_LAYOUT


cdef uint32_t checksum_of_header(const LogHeader* header) noexcept:
    """Of what the segment is."""
    cdef char raw[80]
    memset(raw, 0, 80)              # the first 32 bytes stand for a record's header
    memcpy(raw + 32, <char*>header + 8, 24)    # but for the magic, which is written last
    memcpy(raw + 56, &header.checksums, 4)
    return checksum_of(raw, sizeof(raw), 0)


cdef void claim_for(LogHeader* header, bytes boot) noexcept:
    """Write down under which boot it is open. It was closed before: half a boot's name is none, and does no harm."""
    cdef char raw[40]
    memset(raw, 0, sizeof(raw))
    memcpy(raw, PyBytes_AS_STRING(boot), min(<size_t>sizeof(raw), <size_t>len(boot)))
    if memcmp(header.boot, raw, sizeof(raw)) != 0:
        memcpy(header.boot, raw, sizeof(raw))
        fence_release()
    header.closed = False


cdef int go_on_with(LogHeader* header, uint64_t head, store) except -1:
    """See `Log.go_on`."""
    cdef LogHeader next = header[0]
    cdef bytes raw = random_epoch().encode("ascii")
    next.head = head
    settle(&next)
    next.mode = 0
    forget_newest_if_empty(&next)
    put_epoch(&next, next.epoch_count, raw, next.next_position, 0, 0, False)
    next.epoch_count += 1
    memcpy(next.epoch, PyBytes_AS_STRING(raw), 8)
    next.checksum = checksum_of_header(&next)
    if store is not None:
        store(PyBytes_FromStringAndSize(<char*>&next, sizeof(LogHeader)))
    memcpy(header, &next, sizeof(LogHeader))     # the same again, where the memory is the file
    return 0
