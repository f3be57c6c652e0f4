"""Files that a setting names and that may change while the server runs: they are read again when they do."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("sse_fast.edge")

LOOK_EVERY = 1.0  # seconds

Stamp = tuple[int, int, int] | None


class WatchedFile:
    """WatchedFile(path, most, take): `take` is given the bytes, now by `read`, and from `start` on whenever the file
    has changed; it raises ValueError for what it does not take, and then what it took before stays. most: bytes."""

    def __init__(self, path: Path, most: int, take: Callable[[bytes], None]) -> None:
        self.path = path
        self._most = most
        self._take = take
        self._stamp: Stamp = None
        self._task: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Raises OSError, and ValueError where `take` does or the file is too large."""
        self._stamp, data = self._look()
        self._taken(data)

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except Exception:
                logger.exception("%s could not be looked at; it is again in a second", self.path)

    async def look(self) -> None:
        """Take it if it has changed."""
        before = self._stamp
        try:
            # Not on the loop: a disk, or a network behind it, may take its time.
            found = await asyncio.to_thread(self._look_again)
            if found is None:
                return
            self._stamp, data = found
            self._taken(data)
        except OSError as error:
            if before is not None:
                self._stamp = None  # said once, and read when it is there again
                logger.warning("%s cannot be read (%s); what it said before holds", self.path, error.strerror)
        except ValueError as error:
            logger.warning("%s has changed and is not taken: %s; what it said before holds", self.path, error)
        else:
            logger.info("%s has changed and is taken", self.path)

    def _look_again(self) -> tuple[Stamp, bytes] | None:
        return None if stamp_of(self.path.stat()) == self._stamp else self._look()

    def _look(self) -> tuple[Stamp, bytes]:
        """The stamp is of before it is read: what is written meanwhile changes it."""
        with self.path.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            data = file.read(self._most + 1)
        return stamp, data

    def _taken(self, data: bytes) -> None:
        if len(data) > self._most:
            raise ValueError(f"it has more than {self._most} bytes")
        self._take(data)


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino
