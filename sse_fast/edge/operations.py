"""Looking at a node by HTTP: channels, health, stats, metrics, the page. Starlette routes."""

import os
import re
from collections.abc import Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast.asgi import Receive, Scope, Send
from sse_fast.edge import page
from sse_fast.edge.listing import Listings, TooManyListings, place_before
from sse_fast.edge.metrics import Metrics
from sse_fast.edge.requests import Requests
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import WholeNumber
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Answer
from sse_fast.protocol.native import parameters_of
from sse_fast.protocol.problem import AGAIN, FAILED, OUT_OF_MEMORY, problem, problem_of

CHANNELS_LISTED = WholeNumber("limit", 1000, least=1)


class ExactRoute(Route):
    """One whose path ends where it ends. Starlette's pattern ends with `$`, which a line end behind the path passes, so
    that "/metrics%0a" would be /metrics."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def json(content: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(content), status_code=status, headers=headers, media_type="application/json")


class Operations:
    """The routes, over one hub."""

    def __init__(self, hub: Hub, metrics: Metrics, requests: Requests) -> None:
        self._hub = hub
        self._requests = requests
        self._metrics = metrics
        self._listings = Listings(hub.fanout.index)
        self.app = Starlette(
            routes=[
                ExactRoute("/channels", self.channels),
                ExactRoute("/livez", self.livez),
                ExactRoute("/readyz", self.readyz),
                ExactRoute("/healthz", self.healthz),
                ExactRoute("/stats", self.stats),
                ExactRoute("/metrics", self.prometheus),
                ExactRoute("/", self.page),
            ],
            exception_handlers={
                HTTPException: not_routed,
                InvalidEvent: lambda request, error: response_of(problem_of(error)),
                TooManyListings: lambda request, error: response_of(problem(503, str(error), AGAIN)),
                MemoryError: lambda request, error: response_of(problem(503, str(error) or OUT_OF_MEMORY, AGAIN)),
                # What should not happen. Starlette raises the error again after this, so the server logs it.
                Exception: lambda request, error: response_of(problem(500, FAILED)),
            },
        )
        self.app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    async def channels(self, request: Request) -> Response:
        """`?prefix=&limit=`: the channels that have kept events, or subscribers on this worker, the newest first.

        What is kept is the same on all workers; `subscribers` are those of the worker that answers (`pid`). What `next`
        says, given as `?before=`, goes on from there. Channels may come and go meanwhile; those that stay are listed.
        """
        options = parameters_of(request.scope["query_string"], request.url.path, "prefix", "limit", "before")
        prefix = options.get("prefix", "").encode()
        limit = CHANNELS_LISTED.read(options.get("limit", "100"))
        found, place = await self._listings.look(prefix, limit, place_before(options.get("before")))
        listed = [
            {
                "name": channel.name.decode(),
                "subscribers": channel.subscribers,
                "kept": channel.kept,
                "last_id": self._hub.event_id(channel.last_position) if channel.kept else None,
            }
            for channel in found
        ]
        further = f"{os.getpid()}.{place}" if place else None
        return json({"total": len(self._hub.fanout.index), "pid": os.getpid(), "channels": listed, "next": further})

    async def livez(self, request: Request) -> Response:
        return json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        if self._draining:
            return json({"status": "draining"}, 503)
        if not self._hub.ready:
            left = self._hub.fanout.index.unread
            return json({"status": "starting", "reason": f"{left} bytes of the log are still to be read"}, 503)
        return json({"status": "ready"})

    async def healthz(self, request: Request) -> Response:
        now = self._metrics.snapshot()
        status = "draining" if self._draining else "ok"
        kept = {key: now[key] for key in ("version", "uptime", "connections", "blocked", "channels")}
        return json({"status": status} | kept, 503 if self._draining else 200)

    @property
    def _draining(self) -> bool:
        return self._requests.closing or self._hub.draining

    async def stats(self, request: Request) -> Response:
        return json(self._metrics.snapshot())

    async def prometheus(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        return Response(page.PAGE, headers=page.HEADERS)


def response_of(answer: Answer) -> Response:
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = list(answer.headers)
    return response


def not_routed(request: Request, error: Exception) -> Response:
    """There is no such route, or not for this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allow = Headers(error.headers)["allow"]
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        detail = f"{request.method} is not for {request.url.path}; it takes {allow}"
        return response_of(problem(405, detail, ((b"allow", allow.encode()),)))
    root = request.scope.get("root_path", "")
    where = f"streams are under {root}/sse, publishing is POST {root}/publish/CHANNEL"
    return response_of(problem(error.status_code, f"there is nothing at {request.url.path}; {where}"))
