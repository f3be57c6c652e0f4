"""Builds the objects and joins them: the ASGI app, its lifespan, and the edge that `sse-fast serve` runs."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any

import orjson
from starlette._utils import get_route_path
from starlette.middleware.cors import CORSMiddleware

from sse_fast._native.frame import encode
from sse_fast.admission import Admission
from sse_fast.api import Api
from sse_fast.descriptors import raise_descriptor_limit, reachable_connections
from sse_fast.hub import Hub
from sse_fast.kernel import close_stuck_connections
from sse_fast.metrics import Metrics
from sse_fast.settings import Settings
from sse_fast.stream import RAW_SEND, Receive, Scope, Send, Streams
from sse_fast.workers import Seat

logger = logging.getLogger("sse_fast.app")

CORS_HEADERS = ("Last-Event-ID", "Cache-Control", "Authorization", "Content-Type")
STATS_EVERY = 1.0  # seconds
STATS_CHANNEL = "$stats"


class Edge:
    """The edge as an ASGI app: streams under /sse, everything else by the API. Serve it, or mount it under a path."""

    def __init__(
        self,
        settings: Settings,
        *,
        seat: Seat | None = None,
        on_startup: Callable[["Edge"], None] | None = None,
        on_first_request: Callable[["Edge"], None] | None = None,
    ) -> None:
        self.settings = settings
        self.hub = Hub(
            log_size=settings.log_size,
            keepalive=settings.keepalive,
            send_timeout=settings.send_timeout,
            slow_policy=settings.slow_policy,
            max_event_size=settings.max_event_size,
            log=seat.log if seat is not None else None,
            neighbours=seat,
        )
        self._admission = Admission(
            max_connections=settings.max_connections,
            max_connections_per_ip=settings.max_connections_per_ip,
            publish_key=settings.publish_key.get_secret_value() if settings.publish_key is not None else None,
            origins=settings.cors_origins,
            foreign_pages=settings.open,
            most_here=reachable_connections(raise_descriptor_limit()) if seat is not None else None,
            tally=seat,
        )
        self._streams = Streams(
            self.hub, self._admission, retry=settings.retry, max_channels=settings.max_channels_per_stream
        )
        self.metrics = Metrics(self.hub, self._admission, self._streams, seat.slots if seat is not None else None)
        self._api = Api(self.hub, self._admission, self.metrics, max_body_size=settings.max_body_size).app
        self._seat = seat
        self._on_startup = on_startup
        self._on_first_request = on_first_request
        self._stats: asyncio.Task[None] | None = None
        self.at_close = contextlib.ExitStack()
        self._routed: Any = self._route
        if settings.cors_origins:
            anybody = "*" in settings.cors_origins
            self._routed = CORSMiddleware(
                self._route,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "HEAD", "POST", "OPTIONS"),
                allow_headers=CORS_HEADERS,
                # With '*' the middleware would reflect any origin that sends a cookie; so no credentials then.
                allow_credentials=not anybody,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._stats is None:
                self._stats = asyncio.get_running_loop().create_task(self._publish_stats())
                self._start_up()  # mounted in another app, it is told of no lifespan
                if self._on_first_request is not None:
                    self._on_first_request(self)
            scope[RAW_SEND] = send
            await self._routed(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = get_route_path(scope)
        if path.startswith("/sse/"):
            await self._streams(scope, receive, send, path[5:])
        elif path == "/sse":
            await self._streams(scope, receive, send, "")
        else:
            await self._api(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start_up()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start_up(self) -> None:
        """Again: nothing happens."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.start(self.hub.look, self.metrics.say)
            self.at_close.callback(seat.close)
        on_startup, self._on_startup = self._on_startup, None
        if on_startup is not None:
            on_startup(self)

    async def close(self) -> None:
        """End every stream and stop."""
        self.at_close.close()
        if self._stats is not None:
            self._stats.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._stats
        await self.hub.close()

    async def _publish_stats(self) -> None:
        """Once a second, to those who listen; not kept, so an idle server's log stays as it is."""
        while True:
            if self.hub.listeners(STATS_CHANNEL):
                self.hub.say(STATS_CHANNEL, encode(orjson.dumps(self.metrics.snapshot()), event="stats"))
            await asyncio.sleep(STATS_EVERY)


def create_app(settings: Settings | None = None) -> Edge:
    """The whole edge as an ASGI app; settings default to the environment and sse-fast.toml."""
    return Edge(settings if settings is not None else Settings(), on_startup=end_streams_on_signals)


def edge() -> Edge:
    """What Granian loads in each worker of `sse-fast serve`."""
    # A stream is a few dozen objects that live long and leave no cycles; at its defaults the collector would walk over
    # all of them again and again while clients come, which is half of what opening a stream costs.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return Edge(
        Settings.from_environment(),
        seat=Seat.take(),
        on_startup=drain_on_signals,
        on_first_request=bound_stuck_connections,
    )


def bound_stuck_connections(app: Edge) -> None:
    """A client that slow_policy has disconnected and that still takes nothing keeps its descriptor no longer.

    At the first request, because Granian listens only after the lifespan's start-up.
    """
    if app.settings.slow_policy == "disconnect":
        # Time enough to read what was under way, notice the end and resume.
        close_stuck_connections(app.settings.send_timeout + max(10.0, app.settings.send_timeout))


def drain_on_signals(app: Edge) -> None:
    """SIGTERM and SIGINT drain the streams, and then the process ends here, not by Granian.

    Granian's own handlers are replaced. They would wait for every stream that is stuck, and would say GOAWAY on HTTP/2
    at once, after which some clients (h2 4.x) take no more events, `$closing` included. Exiting aborts the streams,
    which brings all clients back; a clean end some of them take for "finished".
    """
    begin = _once(lambda: _drain_and_exit(app))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, begin)


def end_streams_on_signals(app: Edge) -> None:
    """Chain SIGTERM and SIGINT so that they end the streams.

    Servers wait for their open connections before the lifespan's shutdown, and a stream would stay open for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # no signals here; whoever runs a server in a thread stops it by other means
    begin = _once(lambda: _drain_and_close(app))
    for number in (signal.SIGTERM, signal.SIGINT):
        server_s_own = signal.getsignal(number)
        if callable(server_s_own):
            ours = partial(_chain, begin, server_s_own)
            signal.signal(number, ours)
            app.at_close.callback(_unchain, number, ours, server_s_own)


def _chain(begin: Callable[[], None], then: Callable[[int, FrameType | None], Any], number: int, frame: Any) -> None:
    begin()
    then(number, frame)


def _unchain(number: int, ours: Any, before: Any) -> None:
    if signal.getsignal(number) is ours:  # else somebody has chained us in turn
        signal.signal(number, before)


def _once(start: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """What starts a task on this loop when it is called first, from a signal handler too."""
    loop = asyncio.get_running_loop()
    started: list[asyncio.Task[None]] = []

    def begin() -> None:
        if not started:
            started.append(loop.create_task(start()))

    def signalled() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(begin)

    return signalled


async def _drain(app: Edge) -> None:
    streams = app.hub.fanout.connections
    logger.info("draining", extra={"streams": streams, "at_most_seconds": app.settings.drain_timeout})
    try:
        blocked = await app.hub.drain(app.settings.drain_timeout)
        logger.info("drained", extra={"streams": streams, "still_blocked": blocked})
    except Exception:
        logger.exception("the drain failed; the streams end, clients resume by id")


async def _drain_and_close(app: Edge) -> None:
    await _drain(app)
    await app.close()


async def _drain_and_exit(app: Edge) -> None:
    await _drain(app)
    app.metrics.say()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
