"""Segments of memory that several processes share: nameless, or a log's file.

A nameless one (`create_shared`) is a memfd: it goes with the last process that has it open, however that process ends.
The process that made a segment keeps it open and hands its `address` on, for instance in the environment; the address
is good for as long as that process lives and has not closed it, under every start method of multiprocessing.

A log's file (`open_log_file`) is the log itself, mapped. What is in it survives:
- the death of any process, also SIGKILL of all: every acknowledged event is in the kernel's page cache. The next server
  reads the whole file, finds it sound, and goes on behind it; clients resume. Each server that goes on does so under an
  epoch of its own, so from a copy that was put back no id is given out twice: ids that only the other file gave are
  answered with a gap.
- a reboot, if the server was stopped in good order before: it stores all at its end and says so in the file.
- a power cut or a kernel crash: nothing. The kernel writes back when it likes, so acknowledged events may be missing
  and their ids would be given out twice. The file is set aside and a new log begins, whose clients are told of a gap.

Which file is used, and what becomes of the others:
- not a log of ours, in use, not to be opened, of another size than asked for: refused (UnusableLogFile), not touched;
- ours, but of another layout, damaged, truncated, or from before a power cut: renamed, and a warning says to what. If
  there is no room for a new log beside a damaged one, the damaged one is removed.

One server has a file at a time; while workers of a dead one still live, no other gets it. Nothing keeps others from
writing into a file that is served, or from truncating it: workers then die of SIGBUS. Their parent does not look into
the mapping while they serve, so that it can say what happened (`Segment.what_is_wrong`) and end the server.
"""

import contextlib
import errno
import fcntl
import glob
import logging
import mmap
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sse_fast._native.log.ring import HEADER_SIZE, LAYOUT, Log, lock_holder, segment_size
from sse_fast._native.log.verify import Verified, verify
from sse_fast.base.locks import try_lock, unlock
from sse_fast.errors import UnusableLogFile

logger = logging.getLogger("sse_fast.node")

MAGIC = b"sse_fast"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WHAT_IT_IS = struct.Struct("<8sIIQ")  # magic, layout, header size, capacity: the first bytes of a log of any layout
STAYS = (slice(0, 32), slice(56, 60), slice(64, 104), slice(132, 136))
"""Of the header, while a log is served: those, its epoch, whether there are checksums, the boot, and their checksum."""
FIRST_RECORD = 32  # bytes that cannot all be zero once there is a record
# Locked bytes of a log's file: they belong to the open file, so they last until the last mapping of it is gone.
SERVER, WORKERS = 0, 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class NoRoom(UnusableLogFile):
    """The disk has no room for a log file."""


class Segment:
    """Memory that other processes reach by `address`. Closing it here does not close it elsewhere."""

    def __init__(self, descriptor: int, path: Path | None = None) -> None:
        self._descriptor = descriptor
        self._path = path  # of a log's file, at its server
        self._owner = 0  # the process that stores a log's file at its end
        self.reserves: Sequence[tuple[bytes, int]] = ()  # of the log that is in here
        self.memory = mmap.mmap(descriptor, 0)
        self._size = len(self.memory)
        self._identity = _what_stays(self._header())
        self.address = f"/proc/{os.getpid()}/fd/{descriptor}"

    def what_is_wrong(self) -> str | None:
        """What was done to a log's file while it is served, in one sentence. Does not look into the mapping."""
        if self._path is None:
            return None
        if (size := os.fstat(self._descriptor).st_size) != self._size:
            return f"the log file {self._path} was made {size} bytes long while it was served; it has {self._size}"
        if _what_stays(self._header()) != self._identity:
            return f"the log file {self._path} was overwritten while it was served"
        return None

    def lock_holder(self) -> int:
        """`Log.locked_by` of the log that is in here. Does not look into the mapping."""
        return lock_holder(self._header())

    def _header(self) -> bytes:
        return os.pread(self._descriptor, HEADER_SIZE, 0)

    def close(self) -> None:
        """Let go. Memory that is still in use here is freed after its last use. Again: nothing happens.

        A log's file is stored first, which may take its time; no process may append any more.
        """
        if self._descriptor < 0:
            return
        # A fork of the server has this object too, but it is the server who knows when the workers are gone.
        if self._owner == os.getpid() and try_lock(self._descriptor, WORKERS) and self.what_is_wrong() is None:
            self.memory.flush()
            Log(self.memory, reserves=self.reserves).mark_closed()
            self.memory.flush(0, HEADER_SIZE)
        os.close(self._descriptor)
        self._descriptor = -1
        with contextlib.suppress(BufferError):  # a Log holds it, and the mapping goes with the last of them
            self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def create_shared(size: int, name: str = "sse-fast") -> Segment:
    """A nameless segment of `size` bytes, all zero; `name` is what /proc shows. Its size is sealed. OSError."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with _closing_if_it_fails(descriptor):
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return Segment(descriptor)


def open_shared(address: str) -> Segment:
    """The segment that another process has made. OSError if that process has closed it or is gone."""
    descriptor = os.open(address, os.O_RDWR | os.O_CLOEXEC)
    with _closing_if_it_fails(descriptor):
        if not try_lock(descriptor, WORKERS, shared=True):  # of a log's file, which its server is just closing
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), address)
        return Segment(descriptor)


def open_log_file(path: Path, log_size: int, reserves: Sequence[tuple[bytes, int]] = ()) -> Segment:
    """The log in a file that keeps at least `log_size` bytes of events: what is there, sound, or else a new one. Behind
    it are its `reserves`; those that are not what was there, or not sound, begin anew.

    For the one process that starts a server, before its workers; they get it by `open_shared`. Raises UnusableLogFile.
    """
    aside: Path | None = None
    try:
        while True:
            try:
                found = _open(path, segment_size(log_size), reserves)
            except NoRoom:
                if aside is None:
                    raise
                aside.unlink()
                logger.warning("no room for a new log beside %s, so that was removed", aside)
                aside = None
                continue
            if isinstance(found, Segment):
                return found
            aside = found
    except OSError as error:
        raise UnusableLogFile(f"the log file {path} cannot be used: {error.strerror}") from error


def _open(path: Path, size: int, reserves: Sequence[tuple[bytes, int]]) -> Segment | Path | None:
    """Not a segment: the path leads to another file now, look again; a path: that of a damaged one, set aside."""
    aside = None
    whole = size + segment_size(1, reserves) - segment_size(1)
    # Not to wait for the other end of a FIFO; it is refused below.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    with _closing_if_it_fails(descriptor):
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnusableLogFile(f"the log file {path} is no regular file; name one, or a path where none is yet")
        if not (try_lock(descriptor, SERVER) and try_lock(descriptor, WORKERS)):
            raise UnusableLogFile(f"the log file {path} is in use by another server or by workers that one left behind")
        if not _leads_to(path, descriptor):
            os.close(descriptor)
            return None
        found = os.fstat(descriptor)
        head = os.pread(descriptor, HEADER_SIZE, 0)
        if found.st_size == 0 or (found.st_size in (size, whole) and not any(head)):
            # Its server was killed before it had become a log; or it was overwritten: a log's first place has an
            # event, or a pad, from its first event on.
            if any(os.pread(descriptor, FIRST_RECORD, HEADER_SIZE)):
                aside = _set_aside(path, "damaged", "its header is all zero, and there are events behind it")
                os.close(descriptor)
                return aside
            return _begin(path, descriptor, whole, reserves)
        magic, layout, _, capacity = WHAT_IT_IS.unpack(head[: WHAT_IT_IS.size].ljust(WHAT_IT_IS.size, b"\0"))
        if magic != MAGIC:
            raise UnusableLogFile(
                f"the file {path} is not an sse_fast log and was left as it is; name another log file"
            )
        _close_to_others(path, descriptor, found)
        if layout != LAYOUT:
            # Not damaged, so it is never removed: the version that made it can read it.
            _set_aside(path, f"layout-{layout}", f"it has layout {layout}, and this version reads {LAYOUT}")
        elif found.st_size != HEADER_SIZE + capacity and not _has_reserves(descriptor, HEADER_SIZE + capacity):
            aside = _set_aside(path, "damaged", f"it has {found.st_size} bytes and not {HEADER_SIZE + capacity}")
        elif capacity != size - HEADER_SIZE:
            raise UnusableLogFile(
                f"the log file {path} keeps {capacity} bytes of events, and log_size asks for {size - HEADER_SIZE}; "
                f"set log_size to {capacity} to go on with it, or move it away to begin a new one"
            )
        else:
            if found.st_size not in (size, whole):
                os.ftruncate(descriptor, size)  # what was reserved is not what is now
            _allocate(path, descriptor, whole)  # copies of files may have holes
            segment = Segment(descriptor, path)
            segment.reserves = reserves
            sound = _looked_through(segment)
            if isinstance(sound, Verified):
                _go_on(path, segment, sound)
                return segment
            segment.memory.close()
            aside = _set_aside(path, *sound)
    os.close(descriptor)
    return aside


def _has_reserves(descriptor: int, end: int) -> bool:
    """Whether what is behind the end of a log begins as reserves do."""
    return os.pread(descriptor, len(MAGIC), end) == MAGIC


def _begin(path: Path, descriptor: int, size: int, reserves: Sequence[tuple[bytes, int]]) -> Segment:
    """A new log in an empty file."""
    try:
        _allocate(path, descriptor, size)
    except UnusableLogFile:
        os.ftruncate(descriptor, 0)
        raise
    segment = Segment(descriptor, path)
    segment.reserves = reserves
    Log(segment.memory, checksums=True, reserves=reserves)
    _serve(segment)
    return segment


def _go_on(path: Path, segment: Segment, sound: Verified) -> None:
    log = Log(segment.memory, reserves=segment.reserves)
    earlier, beyond = log.epoch, sound.head - log.head
    log.go_on(sound.head, lambda header: os.pwrite(segment._descriptor, header, 0))
    _serve(segment)
    if beyond:
        logger.warning("log file %s: %d bytes of sound events beyond its head are kept too", path, beyond)
    logger.info(
        "the log goes on from its file",
        extra={
            "log_file": str(path),
            "events": sound.events,
            "from": f"{earlier}-{sound.first}",
            "to": f"{earlier}-{sound.last}",
            "epoch": log.epoch,
        },
    )


def _allocate(path: Path, descriptor: int, size: int) -> None:
    """Room on the disk for all there will ever be: a full disk would be met as SIGBUS, in the middle of an append."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        earlier = sorted(str(other) for other in path.parent.glob(f"{glob.escape(path.name)}.*-*"))
        removable = f"; these were set aside before: {', '.join(earlier)}" if earlier else ""
        kind = NoRoom if error.errno in NO_ROOM else UnusableLogFile
        raise kind(f"the log file {path} needs {size} bytes on the disk: {error.strerror}{removable}") from error


def _close_to_others(path: Path, descriptor: int, found: os.stat_result) -> None:
    """What is published may be meant for few, and who can write here can publish: as if we had made the file."""
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return
    try:
        os.fchmod(descriptor, mode & 0o700)
    except PermissionError:
        logger.warning(
            "log file %s has mode %03o and another owner: others can read or write what is published", path, mode
        )
    else:
        logger.warning("log file %s had mode %03o, open to others; it has %03o now", path, mode, mode & 0o700)


def _serve(segment: Segment) -> None:
    """Make a sound log this server's: from here on it is open, and that is on the disk before anything else is."""
    Log(segment.memory, reserves=segment.reserves).claim(_boot())
    segment.memory.flush(0, HEADER_SIZE)
    unlock(segment._descriptor, WORKERS)
    segment._identity = _what_stays(segment._header())
    segment._owner = os.getpid()


def _looked_through(segment: Segment) -> Verified | tuple[str, str]:
    """What is in it; or, of a log that must not be served, what it is renamed to, and why."""
    _look_through_reserves(segment)
    try:
        log = Log(segment.memory, reserves=segment.reserves)
        sound = verify(log)
    except ValueError as error:
        return "damaged", f"it is damaged: {error}"
    if not log.is_whole_after(_boot()):
        return "power-cut", "the machine went down under it, and what was acknowledged last may be missing"
    return sound


def _look_through_reserves(segment: Segment) -> None:
    """Have one that is damaged begin anew: the log itself is as good without."""
    end = len(segment.memory)
    for pattern, size in reversed(segment.reserves):
        if not size:
            continue
        start = end - segment_size(size)
        part = memoryview(segment.memory)[start:end]
        end = start
        if not any(part[:HEADER_SIZE]):
            continue
        try:
            reserve = Log(part)
            if (sound := verify(reserve)).head != reserve.head:
                reserve.go_on(sound.head)
        except ValueError as error:
            part[:HEADER_SIZE] = bytes(HEADER_SIZE)
            logger.warning("what the log keeps of %s beyond the rest is damaged, and begins anew: %s", pattern, error)


def _set_aside(path: Path, kind: str, why: str) -> Path:
    base = aside = Path(f"{path}.{kind}-{time.strftime('%Y%m%dT%H%M%S')}")
    number = 1
    while aside.exists():
        number += 1
        aside = Path(f"{base}.{number}")
    path.rename(aside)
    logger.warning("log file set aside as %s, a new log begins: %s", aside, why, extra={"log_file": str(path)})
    return aside


def _what_stays(header: bytes) -> tuple[bytes, ...]:
    return tuple(header[part] for part in STAYS)


def _boot() -> bytes:
    return BOOT_ID.read_bytes().strip()


def _leads_to(path: Path, descriptor: int) -> bool:
    """Whether the file was not renamed between its opening and its locking."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _closing_if_it_fails(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise
