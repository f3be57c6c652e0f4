"""One worker of `sse-fast serve`: the edge as Granian loads it, and how it ends."""

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
from typing import NoReturn

from sse_fast.base.listening import listening_sockets, stop_listening
from sse_fast.edge.app import Edge, drain, once
from sse_fast.errors import EndReason
from sse_fast.node.app import Beside, UnusableApp, app_beside
from sse_fast.node.control import SocketControl
from sse_fast.node.workers import LEAVE, UNUSABLE_APP, WorkerSlot
from sse_fast.settings import Settings
from sse_fast.transports.behind import BehindRelay
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.kernel import bound_socket, bounds_of
from sse_fast.transports.quiet import App

logger = logging.getLogger("sse_fast.node")

# Seconds, at the end of a worker: for clients whose handshake is under way, for the requests of those who have just
# been accepted, for all answers, and for the last one on its way through the server to the socket.
HANDSHAKE = 0.25
LAST_REQUESTS = 0.1
LAST_ANSWERS = 0.5
LAST_ANSWER = 0.03


def edge(entrance: Entrance | None = None) -> App:
    """What Granian loads in each worker of `sse-fast serve`. Where the app cannot be had the process ends. `entrance`:
    Granian stands behind the worker's front."""
    # A stream is a few dozen objects that live long and leave no cycles; at its defaults the collector would walk over
    # all of them again and again while clients come, which is half of what opening a stream costs.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    beside: Beside | None = None
    settings = Settings.from_environment()
    slot = WorkerSlot.claim(reserves=settings.reserves)
    operations = None
    if settings.operations_port is not None:
        operations = bound_socket(settings.operations_host, settings.operations_port, bounds_of(settings))
    app = Edge(
        settings,
        slot=slot,
        entrance=entrance,
        operations=operations,
        control=SocketControl.among(slot.slots) if slot is not None else None,
        on_startup=lambda app: drain_on_signals(app, beside),
    )
    loaded: App = app
    if app.settings.app is not None:
        try:
            loaded = beside = app_beside(app)
        except UnusableApp as error:
            logger.error(str(error), exc_info=error.__cause__)
            _exit(UNUSABLE_APP)
    if app.quiet is not None:
        loaded = app.quiet.watched(loaded)
    if entrance is not None:
        loaded = BehindRelay(loaded, reached_at(entrance.listening))
    return loaded


def reached_at(listening: socket.socket) -> tuple[str, int | None]:
    """Host and port, or a path and None, as ASGI has it (HTTP connection scope, `server`)."""
    name = listening.getsockname()
    return (name, None) if isinstance(name, str) else name[:2]


def drain_on_signals(app: Edge, beside: Beside | None) -> None:
    """SIGTERM and SIGINT drain the streams, and then the process ends here, not by Granian.

    Granian's own handlers are replaced. They would wait for every stream that is stuck, and would say GOAWAY on HTTP/2
    at once, after which some clients (h2 4.x) take no more events, `$closing` included. Exiting aborts the streams,
    which brings all clients back; a clean end some of them take for "finished".
    """
    others_serve = False

    def leave() -> None:
        nonlocal others_serve
        others_serve = True
        begin()

    begin = once(lambda: _drain_and_exit(app, beside, others_serve=others_serve))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin)
    loop.add_signal_handler(LEAVE, leave)


def _leave_sockets(app: Edge) -> None:
    if isinstance(app.control, SocketControl):
        parent = multiprocessing.parent_process()
        orphan = parent is not None and parent.pid != os.getppid()
        app.control.directory.leave(last=orphan)


async def _stop_listening(app: Edge, handshake: float) -> None:
    """Nobody who has come is reset; who comes from now on is others' to serve, or meets nobody."""
    sockets = [app.operations.fileno()] if app.operations is not None else []
    if app.quiet is not None:
        app.quiet.close()  # it might let new clients in again
    with contextlib.suppress(OSError):  # no descriptor is left: then the newest connections are cut
        if app.front is not None and app.settings.uds is not None:
            app.front.stop_accepting()  # all workers share the socket, and the others accept who waits
        elif app.entrance is not None:
            sockets.append(app.entrance.listening.fileno())
        else:
            sockets += await asyncio.to_thread(listening_sockets, [app.settings.port])
        if sockets:
            await stop_listening(sockets, handshake)


async def _drain_and_exit(app: Edge, beside: Beside | None = None, *, others_serve: bool = False) -> None:
    """`others_serve`: new clients are to meet others at once. Else they are told to the end that this server leaves.

    First what is being published is answered, then the streams are told; what the app behind the front answers has
    all the time that there is, and what the app publishes meanwhile, to its shutdown's end, is in the log.
    """
    deadline = asyncio.get_running_loop().time() + app.settings.drain_timeout
    app.leave()
    if others_serve:
        await _stop_listening(app, HANDSHAKE)
    if beside is not None:
        beside.leave()
    await drain(app)
    if beside is not None:
        app.hub.fanout.end_all(EndReason.SHUTDOWN)  # those by ASGI would be waited for; and each end is told
    await app.finish_relayed(deadline)
    if beside is not None:
        await beside.finish(deadline)
    if not others_serve:
        # Accepted is who has asked (TCP_DEFER_ACCEPT): who has connected and is about to is still in the handshake.
        await _stop_listening(app, LAST_REQUESTS)
    await asyncio.sleep(LAST_REQUESTS)
    await app.requests.finish(LAST_ANSWERS)
    await asyncio.sleep(LAST_ANSWER)
    app.hub.streams.all_left()
    app.metrics.say()
    app.hub.streams.refusals.tell(last=True)
    _leave_sockets(app)
    _exit(0)


def _exit(status: int) -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
