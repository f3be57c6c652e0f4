"""Several workers with a hub each: found, and said.

A hub lives in one process, so under a server's `--workers 2` an event reaches the streams of one worker, and the others
miss it in silence. What all such workers have in common, whichever server they are of, is that they listen on the same
address. So a process with a hub takes a name for each address that it listens on, in the abstract namespace of Unix
sockets, which is scoped as addresses are and leaves nothing behind. A name that another process has, and keeps for
longer than a worker and the one that replaces it live side by side, means another hub; that is logged once.
"""

import asyncio
import errno
import logging
import os
import socket
import sys
import threading
import weakref

from sse_fast.base.listening import listening_addresses

logger = logging.getLogger("sse_fast.hub")

FIRST_LOOK = 1.0  # seconds; a server may listen only after its app has started. Further looks come at twice the time
LAST_LOOK = 60.0  # seconds after which a process that listens nowhere is taken for one that serves nothing
GRACE = 10.0  # seconds that a worker and its successor may both be there
LOOK_AGAIN = 1.0  # seconds

_lock = threading.Lock()
_hubs: weakref.WeakSet[object] = weakref.WeakSet()
_taken: dict[bytes, socket.socket] = {}
_process = os.getpid()


def watch(hub: object, loop: asyncio.AbstractEventLoop) -> None:
    """A hub that shares its log with nobody has started in this process."""
    if not sys.platform.startswith("linux"):  # whose namespace it is
        return
    global _process
    with _lock:
        if _process != os.getpid():  # forked: the names are the parent's
            _process = os.getpid()
            _taken.clear()
            _hubs.clear()
        _hubs.add(hub)
    loop.call_later(FIRST_LOOK, _look, weakref.ref(hub), loop, FIRST_LOOK, None)


def unwatch(hub: object) -> None:
    """It takes no more events. Again: nothing happens."""
    with _lock:
        _hubs.discard(hub)
        if not _hubs:
            for name in _taken.values():
                name.close()
            _taken.clear()


def _look(
    hub: "weakref.ref[object]", loop: asyncio.AbstractEventLoop, waited: float, shared_since: float | None
) -> None:
    if (watched := hub()) is None or watched not in _hubs:
        return
    try:
        addresses = listening_addresses()
        names = [(address, _name("hub", place)) for address, place in addresses.items()]
        with _lock:
            shared = [address for address, name in names if not (name in _taken or _take(name))]
    except OSError:  # no descriptor is left: then nothing can be known
        return
    if shared:
        shared_since = loop.time() if shared_since is None else shared_since
        if loop.time() - shared_since < GRACE:
            loop.call_later(LOOK_AGAIN, _look, hub, loop, waited, shared_since)
        else:
            _tell(shared[0], addresses[shared[0]])
    elif not addresses and waited < LAST_LOOK:
        loop.call_later(2 * waited, _look, hub, loop, 2 * waited, None)


def _tell(address: str, place: str) -> None:
    with _lock:
        name = _name("told", place)
        if name in _taken or not _take(name):
            return
    logger.error(
        "several processes serve %s, and each has a hub of its own: an event reaches only the streams of the worker "
        "that it is published in, and all others lose it. Run one worker (--workers 1, without WEB_CONCURRENCY), or "
        "`sse-fast serve --workers N`, whose workers share one log",
        address,
    )


def _name(what: str, place: str) -> bytes:
    return f"\0sse_fast-{what}-{os.getuid()}-{place}".encode()


def _take(name: bytes) -> bool:
    """False: another process has it. Raises OSError."""
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        taken.bind(name)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    _taken[name] = taken
    return True
