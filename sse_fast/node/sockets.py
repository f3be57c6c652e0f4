"""Where the ASGI server of each worker listens behind that worker's front, and where the other workers ask it: Unix
sockets in a directory that nobody but this user may enter (mode 0700).

The directory's name is random, so what a server that was killed has left behind is in nobody's way, and the next server
of this user removes it: a directory is locked for as long as its server, or a worker of it, lives. (The lock also keeps
systemd-tmpfiles(8) away, which clears /tmp of what is old.)
"""

import contextlib
import fcntl
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

NAME = re.compile(r"sse-fast-[0-9a-f]{16}")
LONGEST = 107  # bytes of a Unix socket's path (unix(7))
SERVER, CONTROL = "", "c"  # behind the pid, in the name of a socket; paths may not be long
SOCKET = re.compile(rf"[0-9]+({CONTROL})?")
LONGEST_NAME = 7 + len(CONTROL)  # a pid has 7 digits: 4194304 (proc(5), pid_max)


class SocketDirectory:
    """SocketDirectory(path): one that is there. The server makes one by `made`; its workers listen in it."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def made(cls, places: Iterable[Path] | None = None) -> Self:
        """A new one, in the first of these places that has room for it; those of dead servers are removed there. Raises
        OSError where no place has."""
        reasons = []
        for place in _places() if places is None else places:
            if len(os.fsencode(place)) + len(f"/sse-fast-{'0' * 16}/") + LONGEST_NAME > LONGEST:
                reasons.append(f"{place}: a path in there would be longer than a Unix socket's may be")
                continue
            try:
                _remove_the_dead(place)
                return cls(*_made_in(place))
            except OSError as error:
                reasons.append(f"{place}: {error.strerror}")
        raise OSError("; ".join(reasons))

    def of(self, pid: int, which: str = SERVER) -> Path:
        """Where this worker listens."""
        return self.path / f"{pid}{which}"

    def listen(self, backlog: int, which: str = SERVER) -> socket.socket:
        """A socket of this process; it listens. Raises OSError."""
        path = self.of(os.getpid(), which)
        path.unlink(missing_ok=True)  # of a dead worker that had the same number
        made = socket.socket(socket.AF_UNIX)
        try:
            made.bind(os.fspath(path))
            made.listen(backlog)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    def forget(self, pid: int) -> None:
        """That worker is dead, perhaps killed."""
        for which in (SERVER, CONTROL):
            with contextlib.suppress(OSError):
                self.of(pid, which).unlink()

    def leave(self, *, last: bool) -> None:
        """This process listens no more; if it may be the `last` one, nobody is left to remove the directory."""
        self.forget(os.getpid())
        if last:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def close(self) -> None:
        """The server's end: all workers are gone."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):
            _empty(self._lock)
            self.path.rmdir()
        # Not by closing alone: a worker that was forked has the descriptor too.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(self._lock)
        self._lock = None


def _places() -> Iterator[Path]:
    """Not $XDG_RUNTIME_DIR first: it goes when the user logs out, and a server may stay."""
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()).resolve()
    yield from (Path("/tmp"), Path("/dev/shm"))
    if "XDG_RUNTIME_DIR" in os.environ:
        yield Path(os.environ["XDG_RUNTIME_DIR"])


def _made_in(place: Path) -> tuple[Path, int]:
    """The directory, and the descriptor that has it locked."""
    while True:
        path = place / f"sse-fast-{secrets.token_hex(8)}"
        path.mkdir(0o700)
        # Until it is locked it may look to another server like one of the dead, and be removed.
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return path, lock
        os.close(lock)


def _remove_the_dead(place: Path) -> None:
    """Those of servers of this user that were killed. What else has such a name stays, and so does what is in it."""
    for path in place.iterdir():
        if NAME.fullmatch(path.name) is None:
            continue
        with contextlib.suppress(OSError):
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(directory).st_uid == os.geteuid():
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _empty(directory)
                    path.rmdir()
            finally:
                os.close(directory)


def _empty(directory: int) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if SOCKET.fullmatch(entry.name) and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.name, dir_fd=directory)
