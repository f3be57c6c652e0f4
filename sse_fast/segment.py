"""Segments of memory that several processes share: nameless, or a log's file.

A nameless one (`create_shared`) is a memfd: it goes with the last process that has it open, however that process ends.
Whoever made a segment keeps it open and hands its `address` on, for instance in the environment; the address is good
for as long as that process lives and has not closed it, under every start method of multiprocessing.
"""

import contextlib
import fcntl
import mmap
import os
from types import TracebackType
from typing import Self


class Segment:
    """Memory that other processes reach by `address`. Closing it here takes it from nobody who has it open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.memory = mmap.mmap(descriptor, 0)
        self.address = f"/proc/{os.getpid()}/fd/{descriptor}"

    def close(self) -> None:
        """Let go. Memory that somebody here still looks into goes when he does. Again: nothing happens."""
        if self._descriptor >= 0:
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
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return Segment(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def open_shared(address: str) -> Segment:
    """The segment that another process has made. OSError if that process has closed it or is gone."""
    descriptor = os.open(address, os.O_RDWR | os.O_CLOEXEC)
    try:
        return Segment(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
