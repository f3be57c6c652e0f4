"""What a server takes for itself before its workers listen, so that of two that start at once only one does.

Workers listen with SO_REUSEPORT, which lets any two servers of one user share a port in silence.
"""

import contextlib
import errno
import fcntl
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

TRIES = 20  # of two that listen in the same microsecond the kernel may refuse both
MOST_APART = 0.02  # seconds between two tries
PATH_SECONDS = 10.0  # that another server in the same directory may take until it listens


def claim_port(address: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """A socket that has the port: while it is open no other socket can be bound to the address, or one that
    overlaps with it, but those of this user with SO_REUSEPORT, as the workers' are. It accepts no connection. Raises
    OSError.

    Only listening is exclusive: two sockets that share addresses with those of the past (SO_REUSEADDR) may both be
    bound. So it listens for a moment; once that has been granted the rules are turned round, and it listens no more.
    """
    for tries in range(TRIES, 0, -1):
        claim = socket.socket(family, socket.SOCK_STREAM)
        try:
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            claim.bind((address, port))
            try:
                claim.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or tries == 1:
                    raise
                claim.close()
                time.sleep(random.uniform(0, MOST_APART))
                continue
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            claim.shutdown(socket.SHUT_RDWR)
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except BaseException:
            claim.close()
            raise
        return claim
    raise AssertionError("the last try returns or raises")


@contextlib.contextmanager
def claimed_path(path: Path) -> Iterator[None]:
    """While it is open no other server looks for, removes or makes a socket at `path`; it waits for one that does.

    What is locked is a file beside it, `<path>.lock`, which is removed at the end; one that was left behind is no
    hindrance to users who may open it. Raises OSError, TimeoutError after PATH_SECONDS.
    """
    beside = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + PATH_SECONDS
    while (lock := _locked(beside)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"another program has had {beside} locked for {PATH_SECONDS:g} s, as a server does that starts; wait "
                "until it listens, or stop it, or choose another --uds",
            )
        time.sleep(MOST_APART)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
        # Not by closing alone: a worker that was forked meanwhile has the descriptor too.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _locked(path: Path) -> int | None:
    """A descriptor of the file at this path, with a lock on it; None where another process has it locked."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise PermissionError(error.errno, f"{path}: {error.strerror}; remove it if it is another user's") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):  # the process that had it locked has removed it
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
