"""Locks on single bytes of a file: open file description locks, see fcntl(2).

They belong to what open(2) made, not to a process: forks share them, and the kernel frees them when the last descriptor
and mapping of it are gone, however their processes end. The bytes need not be there.
"""

import errno
import fcntl
import os
import struct

_FLOCK = struct.Struct("@hhqqi4x")  # struct flock where off_t has 64 bits: type, whence, start, length, process


def try_lock(descriptor: int, byte: int, *, shared: bool = False) -> bool:
    """Lock the byte, alone or `shared` with others that want no more; False if another description is in the way.

    Never waits. Raises OSError for what is no answer to that, as a descriptor that is not open for writing (reading,
    where it is to be shared).
    """
    try:
        _set(descriptor, byte, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(descriptor: int, byte: int) -> None:
    """Let go of the byte, if this description has it."""
    _set(descriptor, byte, fcntl.F_UNLCK)


def _set(descriptor: int, byte: int, kind: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
