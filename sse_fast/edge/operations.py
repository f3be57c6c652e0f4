"""Looking at a node by HTTP: channels, streams, health, stats, metrics, the page; and ending and forgetting what is
there. Starlette routes. Who may is decided before (`protocol.operations`)."""

import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast import js
from sse_fast._native.log.recent import recent
from sse_fast._native.log.retention import shown
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.edge import page
from sse_fast.edge.answers import json, response_of
from sse_fast.edge.description import PATHS, Description
from sse_fast.edge.fleet import CHANNEL, Fleet
from sse_fast.edge.history import SECONDS, in_columns
from sse_fast.edge.listing import Listings, TooManyListings, place_before
from sse_fast.edge.metrics import Metrics
from sse_fast.edge.presence import WhoIsThere
from sse_fast.edge.requests import Requests
from sse_fast.edge.streams import FILTERS, NodeStreams, which_of
from sse_fast.embed.hub import Hub
from sse_fast.errors import EngineUnavailable, HubClosed, InvalidEvent, LogBusy, Silent
from sse_fast.event_rules import WholeNumber, channel_name
from sse_fast.hub.control import Control
from sse_fast.hub.presence import Presence
from sse_fast.protocol.encodings import accepts_gzip
from sse_fast.protocol.native import parameters_of
from sse_fast.protocol.problem import AGAIN, FAILED, OUT_OF_MEMORY, problem, problem_of

LISTED = WholeNumber("limit", 1000, least=1)
REMEMBERED = WholeNumber("last", SECONDS, least=1)
LATELY = 60.0  # seconds over which the rate of a channel is
OPERATOR = "sse_fast.operator"
"""Key in the ASGI scope: whether who asks may look into the server."""


class ExactRoute(Route):
    """One whose path ends where it ends, and that has no empty names. Starlette's pattern ends with `$`, which a line
    end behind the path passes, so that "/metrics%0a" would be /metrics."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$").replace(".*)", ".+)") + r"\Z")


class Operations:
    """The routes, over one hub; what they say is of its node, whose workers `control` asks."""

    def __init__(
        self,
        hub: Hub,
        metrics: Metrics,
        requests: Requests,
        control: Control,
        description: Description,
        presence: Presence | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._hub = hub
        self._requests = requests
        self._metrics = metrics
        self._control = control
        self._listings = Listings(hub.fanout.index, CHANNEL.encode() if fleet is not None else None)
        self._streams = NodeStreams(hub, control)
        self._fleet = fleet
        self.app = Starlette(
            routes=[
                ExactRoute("/channels", self.channels),
                ExactRoute("/channels/{name:path}", self.channel, methods=["GET", "DELETE"]),
                ExactRoute("/presence/{channel:path}", WhoIsThere(presence).answer),
                ExactRoute("/streams", self.streams, methods=["GET", "DELETE"]),
                ExactRoute("/streams/{id}", self.stream, methods=["DELETE"]),
                ExactRoute("/livez", self.livez),
                ExactRoute("/readyz", self.readyz),
                ExactRoute("/healthz", self.healthz),
                ExactRoute("/schema.json", self.schema),
                ExactRoute("/stats", self.stats),
                ExactRoute("/stats/history", self.history),
                ExactRoute("/metrics", self.prometheus),
                ExactRoute("/", self.page),
                ExactRoute("/client.js", fixed(js.CLIENT, js.NEWEST)),
                ExactRoute(f"/{js.NAME}", fixed(js.CLIENT, js.IMMUTABLE)),
                ExactRoute("/client.d.ts", fixed(js.TYPES, js.OF_TYPES)),
                *(ExactRoute(path, description.answer) for path in PATHS),
            ],
            exception_handlers={
                HTTPException: not_routed,
                **dict.fromkeys((InvalidEvent, HubClosed, LogBusy, Silent, EngineUnavailable), told),
                TooManyListings: lambda request, error: response_of(problem(503, str(error), AGAIN)),
                MemoryError: lambda request, error: response_of(problem(503, str(error) or OUT_OF_MEMORY, AGAIN)),
                # What should not happen. Starlette raises the error again after this, so the server logs it.
                Exception: lambda request, error: response_of(problem(500, FAILED)),
            },
        )
        self.app.router.redirect_slashes = False

    def answer_others(self) -> None:
        """What other workers ask of this one."""
        self._control.on("subscribers", self._subscribers)
        if self._fleet is not None:
            self._fleet.count = self._counted
        self._streams.answer_others()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    async def channels(self, request: Request) -> Response:
        """`?prefix=&limit=`: the channels that have kept events, or subscribers on this worker, the newest first.

        What is kept is the same on all workers; `subscribers` are those of all of them, but for the `silent`, which did
        not answer. What `next` says, given as `?before=`, goes on from there. Channels may come and go meanwhile; those
        that stay are listed.
        """
        options = parameters_of(request.scope["query_string"], request.url.path, "prefix", "limit", "before")
        prefix = options.get("prefix", "").encode()
        limit = LISTED.read(options.get("limit", "100"))
        found, place = await self._listings.look(prefix, limit, place_before(options.get("before")))
        names = [channel.name.decode() for channel in found]
        subscribers, silent, nodes = await self._subscribers_of_all(names)
        listed = [
            {"name": name, "subscribers": listen} | self._kept_of(channel.name)
            for name, listen, channel in zip(names, subscribers, found, strict=True)
        ]
        further = f"{os.getpid()}.{place}" if place else None
        total = self._listings.total
        return json({"total": total, "pid": os.getpid(), "channels": listed, "next": further, "silent": silent} | nodes)

    async def channel(self, request: Request) -> Response:
        """GET: what there is of one channel, over all workers. DELETE: nothing that was published before is kept any
        more, and its subscribers are told."""
        name = request.path_params["name"]
        parameters_of(request.scope["query_string"], request.url.path)
        kept = self._hub.fanout.index.get(channel_name(name))
        if request.method == "DELETE":
            # What this worker has not read yet may be of this channel.
            nothing = (kept is None or not kept.kept) and not self._hub.fanout.index.unread
            if not self._hub.backplane.in_place:
                nothing = False  # what others have nobody knows here
            id = None if nothing else str(await self._hub.forget(name))
            return json({"name": name, "id": id})
        (subscribers,), silent, nodes = await self._subscribers_of_all([name])
        if kept is None and not subscribers:
            detail = f"the channel {name} has neither kept events nor subscribers"
            return response_of(problem(404, detail))
        return json(
            {"name": name, "subscribers": subscribers} | self._kept_of(name.encode()) | {"silent": silent} | nodes
        )

    def _kept_of(self, name: bytes) -> dict[str, Any]:
        channel, now = self._hub.fanout.index.get(name), time.time()
        kept = channel.kept if channel is not None else 0
        could_see = shown(self._hub.fanout.index, name, round(1000 * now))
        lately = recent(self._hub.fanout.index, name, round(1000 * (now - LATELY)))
        seconds = LATELY
        if channel is not None and channel.evicted and lately.since == kept and self._hub.log.tail:
            # Of one whose events go faster than that: over the time of which the log has all events. One that has
            # forgotten some is not such a one.
            oldest = next(self._hub.log.records(), None)
            if oldest is not None:
                seconds = min(max(now - oldest.milliseconds / 1000, 0.001), LATELY)
        return {
            "kept": could_see,
            "rate": round(lately.since / seconds, 3),
            "last_id": self._hub.event_id(channel.last_position) if channel is not None and could_see else None,
            "last_time": in_words(lately.last) if lately.last is not None else None,
        }

    def _subscribers(self, about: Mapping[str, Any]) -> list[int]:
        """Of this worker."""
        return [self._hub.listeners(name) for name in about["channels"]]

    async def _subscribers_of(self, names: list[str]) -> tuple[list[int], list[int]]:
        """Of all workers; and the pids of those that do not answer."""
        if not names:
            return [], []
        answers = await self._control.ask_all("subscribers", channels=names)
        return [sum(each) for each in zip(*(told.answer for told in answers.told), strict=True)], answers.silent

    async def _counted(self, names: list[str]) -> list[int]:
        return (await self._subscribers_of(names))[0]

    async def _subscribers_of_all(self, names: list[str]) -> tuple[list[int], list[int], dict[str, Any]]:
        """`_subscribers_of`, of the other nodes, too; and `silent_nodes`, which did not answer: None, nobody knows."""
        subscribers, silent = await self._subscribers_of(names)
        if self._fleet is None:
            return subscribers, silent, {}
        try:
            elsewhere = await self._fleet.subscribers(names)
        except EngineUnavailable:
            elsewhere = None
        if elsewhere is None:
            return subscribers, silent, {"silent_nodes": None}
        counts, silent_nodes = elsewhere
        return (
            [here + there for here, there in zip(subscribers, counts, strict=True)],
            silent,
            {"silent_nodes": silent_nodes},
        )

    async def streams(self, request: Request) -> Response:
        """GET `?channel=&user=&address=&limit=`: the streams that are open, worker by worker; `?parked=true`: those
        that wait for their clients. DELETE: end those that these name."""
        ends = request.method == "DELETE"
        paging = () if ends else ("limit", "before", "parked")
        options = parameters_of(request.scope["query_string"], request.url.path, *FILTERS, *paging)
        which = which_of(options)
        if ends:
            if not which:
                raise InvalidEvent(f"say whose streams end: {request.url.path}?user=, ?address= or ?channel=")
            ended = await self._streams.end_all(**which)
            if self._fleet is not None:  # at the others it happens in a moment, and is not counted
                await self._fleet.end_elsewhere(which)
            return json({"ended": ended})
        limit = LISTED.read(options.get("limit", "100"))
        if "parked" in options:
            if options["parked"] != "true" or which or "before" in options:
                raise InvalidEvent("it is ?parked=true, with nothing else but a limit")
            return json((await self._streams.parked(limit))._asdict())
        listed = await self._streams.open(limit, options.get("before"), **which)
        return json(listed._asdict())

    async def stream(self, request: Request) -> Response:
        """DELETE: end one."""
        parameters_of(request.scope["query_string"], request.url.path)
        id = request.path_params["id"]
        if not await self._streams.end(id):
            return response_of(problem(404, f"there is no stream {id}; it may have ended"))
        return json({"ended": 1})

    async def livez(self, request: Request) -> Response:
        return json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Where the backplane is, and in which words it refuses, is said to who may look into the server."""
        whole = bool(request.scope.get(OPERATOR))
        if self._draining:
            return json({"status": "draining"}, 503)
        if not self._hub.ready:
            left = self._hub.fanout.index.unread
            reason = self._hub.backplane.what_is_wrong(whole=whole)
            if reason is None and left:
                reason = f"{left} bytes of the log are still to be read"
            reason = reason or "what the backplane has is still to be read"
            return json({"status": "starting", "reason": reason}, 503)
        if (wrong := self._hub.backplane.what_is_wrong(whole=whole)) is not None:
            return json({"status": "failing", "reason": wrong}, 503)
        return json({"status": "ready"})

    async def healthz(self, request: Request) -> Response:
        """Figures too, to who may look into the server."""
        figures = {}
        if request.scope.get(OPERATOR):
            now = self._metrics.snapshot()
            figures = {key: now[key] for key in ("version", "uptime", "connections", "blocked", "channels")}
        status = "draining" if self._draining else "ok"
        return json({"status": status} | figures, 503 if self._draining else 200)

    @property
    def _draining(self) -> bool:
        return self._requests.closing or self._hub.draining

    async def schema(self, request: Request) -> Response:
        """The document of the typed events, as `sse-fast schema` writes it."""
        if self._hub.schema is None:
            return response_of(problem(404, "this server has no typed events; it is given some by --schema"))
        return json(self._hub.schema.document)

    async def stats(self, request: Request) -> Response:
        if self._fleet is None:
            return json(self._metrics.snapshot())
        try:
            nodes = await self._fleet.nodes()
        except EngineUnavailable:
            nodes = None  # nobody knows
        return json(self._metrics.snapshot() | {"node": self._fleet.name, "nodes": nodes})

    async def history(self, request: Request) -> Response:
        """The last ten minutes of the node, second by second, in columns; `?last=`: so many seconds."""
        options = parameters_of(request.scope["query_string"], request.url.path, "last")
        last = REMEMBERED.read(options.get("last", str(SECONDS)))
        return json(in_columns(self._metrics.history.seconds(last=last)))

    async def prometheus(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        if accepts_gzip(request.headers.get("accept-encoding", "").encode("latin-1")):
            return Response(page.PACKED, headers=page.HEADERS | {"Content-Encoding": "gzip"})
        return Response(page.PAGE, headers=page.HEADERS)


def fixed(body: bytes, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    """Always the same bytes; nobody who has them gets them again."""

    async def answer(request: Request) -> Response:
        if js.is_held(headers, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)

    return answer


def in_words(milliseconds: int) -> str:
    """As in an envelope: RFC 3339, section 5.6, in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def told(request: Request, error: Exception) -> Response:
    return response_of(problem_of(error))


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
