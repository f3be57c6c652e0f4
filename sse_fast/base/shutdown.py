"""SIGTERM and SIGINT, for hubs and responses that stay open in a server that is not ours.

Servers wait for their open connections before they stop, and a stream would stay open for ever. So while there
is a callback to be told, a handler stands before the server's own: it has each callback run in its loop, and then calls
the server's. It is removed with the last callback.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Told = Callable[[], None]

_told: dict[asyncio.AbstractEventLoop, set[Told]] = {}


class _Chained:
    """A signal handler that stands before another one."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for loop in list(_told):
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, loop)
        self.before(number, frame)


def watch(told: Told) -> None:
    """Have `told` called in the running loop at each SIGTERM and SIGINT, until `unwatch`.

    Outside of the main thread nothing happens: a server that runs in a thread is stopped by other means.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _told.setdefault(asyncio.get_running_loop(), set()).add(told)
    for number in SIGNALS:
        handler = signal.getsignal(number)  # each time: a server may have come since, or gone
        if callable(handler) and type(handler) is not _Chained:
            signal.signal(number, _Chained(handler))


def unwatch(told: Told) -> None:
    """Have it called no more. Again, or without `watch`: nothing happens."""
    for loop, all_told in list(_told.items()):
        all_told.discard(told)
        if not all_told or loop.is_closed():  # nobody of a loop that has ended can be told any more
            del _told[loop]
    if not _told and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if type(handler) is _Chained:
                signal.signal(number, handler.before)


def tell() -> None:
    """Call them now, as a signal would: of a server that ends for another reason."""
    _tell(asyncio.get_running_loop())


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    for told in list(_told.get(loop, ())):
        told()
